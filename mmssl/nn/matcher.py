"""Matcher: what an exported head offers after training - embeddings, their similarity, and maps over the picture."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import nn

from mmssl.nn.features import Features


class Matcher(nn.Module):
    """Compares modalities in one space. `evaluate retrieval` and `localize` know this class and no task.

    `init_args` are the arguments that build it, so that it can be saved by name and built again.
    """

    init_args: dict[str, Any]
    #: encoder of each modality that `embed` takes, e.g. {"picture": "image", "sound": "audio"}
    encoders: dict[str, str]

    @abstractmethod
    def embed(self, modality: str, features: Features) -> torch.Tensor:
        """Unit vectors [B, D] of one modality ("picture", "sound" or "text")."""

    def parts(self, modality: str, features: Features) -> torch.Tensor:
        """Vectors [B, P, D] of one modality of which the best match counts: one a clip, or those of places."""
        return self.embed(modality, features)[:, None]

    def similarity(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Similarity [A, B] of embeddings [A, D] and [B, D]; larger is closer."""
        return a.float() @ b.float().T

    def similarity_map(self, picture: Features, sound: Features) -> torch.Tensor:
        """Similarity of each place of the picture with the sound, float [B, h, w]; larger is closer.

        Raises:
            TypeError: this head has no map.
        """
        raise TypeError(f"{type(self).__name__} has no map over the picture; use the head of a localization task")
