"""A first-in, first-out queue of embeddings, the negatives and the memory of streaming tasks (MoCo, arXiv 1911.05722).

A stream has no end, so there is no row for every sample as in an indexed memory bank. Newest rows take the places of
the oldest. Whose row it is stays beside it, so that a clip is never a negative of its own video.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn


class EmbeddingQueue(nn.Module):
    """Embeddings of the last samples, one vector of each name a sample, all at the sample's one index.

    All of it are buffers: it is in the state dict, and a resumed run goes on with the queue it had. `push` is for
    `after_step`, with rows gathered over all ranks, so that every rank holds the same queue.

    Args:
        capacity: samples held.
        widths: dimension of each named vector, for instance ``{"video": 128, "audio": 128}``.
        unit: whether rows are brought to length 1 when they enter.

    Attributes:
        ids: int64 [C], the sample of each place, see `mmssl.tasks.identity`.
        filled: int64 [], places that hold a sample.
        place: int64 [], where the next sample goes.

    Raises:
        ValueError: no capacity or no vector.
    """

    def __init__(self, capacity: int, widths: Mapping[str, int], unit: bool = True) -> None:
        super().__init__()
        if capacity < 1 or not widths:
            raise ValueError(f"a queue needs a capacity and a vector, got {capacity} and {dict(widths)}")
        self.capacity, self.names, self.unit = capacity, tuple(widths), unit
        for name, width in widths.items():
            self.register_buffer(f"vectors_{name}", torch.zeros(capacity, width))
        self.register_buffer("ids", torch.zeros(capacity, dtype=torch.int64))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))
        self.ids: torch.Tensor
        self.filled: torch.Tensor
        self.place: torch.Tensor

    def vectors(self, name: str) -> torch.Tensor:
        """Float32 [C, D]; what stands in places that are not `occupied` means nothing."""
        return self.get_buffer(f"vectors_{name}")

    def occupied(self) -> torch.Tensor:
        """Bool [C]: which places hold a sample."""
        return torch.arange(self.capacity, device=self.ids.device) < self.filled

    def others(self, ids: torch.Tensor) -> torch.Tensor:
        """Bool [N, C]: places that hold another sample than each row's, int64 [N]."""
        return self.occupied()[None] & (self.ids[None] != ids[:, None])

    @torch.no_grad()
    def push(self, rows: Mapping[str, torch.Tensor], ids: torch.Tensor, valid: torch.Tensor) -> None:
        """Let the valid rows enter in their order; of more than the capacity the last ones stay.

        Args:
            rows: float [N, D] of every name.
            ids: int64 [N].
            valid: bool [N]; rows that are not never enter.

        Raises:
            ValueError: the names are not those of the queue.
        """
        if set(rows) != set(self.names):
            raise ValueError(f"the queue holds {', '.join(self.names)}, got rows of {', '.join(rows)}")
        number = valid.long().cumsum(0)
        entering = valid & (number > number[-1] - self.capacity)
        places = ((self.place + number - 1) % self.capacity)[entering]
        for name in self.names:
            new = rows[name][entering].float()
            self.vectors(name)[places] = F.normalize(new, dim=1) if self.unit else new
        self.ids[places] = ids[entering]
        self.place.copy_((self.place + number[-1]) % self.capacity)
        self.filled.copy_((self.filled + number[-1]).clamp(max=self.capacity))
