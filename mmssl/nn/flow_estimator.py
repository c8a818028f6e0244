"""What is left of flow estimation after training: a network on an encoder's feature maps, saved beside the encoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from mmssl.nn.encoders import Encoders
from mmssl.nn.recurrent_flow import RecurrentFlow
from mmssl.nn.stacked_flow import StackedFlow

Network = Literal["recurrent", "stacked"]


class FlowEstimator(nn.Module):
    """Estimates of the flow between two frames from an encoder's feature maps of both.

    Args:
        network: "recurrent" (RAFT) or "stacked" (FlowNetSimple).
        widths: channels of the encoder's maps by stride.
        settings: further arguments of the network.
        encoder: name of the encoder in the bundle.
    """

    def __init__(
        self,
        network: Network,
        widths: Mapping[int, int],
        settings: Mapping[str, Any] | None = None,
        encoder: str = "image",
    ) -> None:
        super().__init__()
        known = {int(stride): int(width) for stride, width in widths.items()}  # JSON has text for keys
        if len(known) < 2:
            raise ValueError(f"flow needs an encoder with two feature maps or more, '{encoder}' has {len(known)}")
        self.encoder = encoder
        self.init_args: dict[str, Any] = {
            "network": network,
            "widths": {str(stride): width for stride, width in known.items()},
            "settings": dict(settings or {}),
            "encoder": encoder,
        }
        kinds: dict[str, Callable[..., RecurrentFlow | StackedFlow]] = {
            "recurrent": RecurrentFlow,
            "stacked": StackedFlow,
        }
        if network not in kinds:
            raise ValueError(f"a flow network is {' or '.join(kinds)}, got {network!r}")
        self.network = kinds[network](known, **(settings or {}))

    def forward(self, encoders: Encoders, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Float32 [K, N, 2, H, W] pixels between frames first and second, float [N, 3, H, W] in [0, 1].

        Sides that the strides do not divide are filled up by repeating the edge, and cut off again.
        """
        height, width = first.shape[-2:]
        step = max(self.network.strides)
        pad = (0, -width % step, 0, -height % step)
        frames = torch.cat([first, second])
        if any(pad):
            frames = F.pad(frames, pad, mode="replicate")
        levels = encoders.encode(self.encoder, frames).levels
        one, two = ({s: m[half] for s, m in levels.items()} for half in (slice(len(first)), slice(len(first), None)))
        found: torch.Tensor = self.network(one, two)
        return found[..., :height, :width]


def load_estimator(folder: Path | str, task: str = "flow_estimation") -> Callable[[torch.Tensor, torch.Tensor], Any]:
    """A run's trained estimator: flow float32 [N, 2, H, W] in pixels between frames float [N, 3, H, W] in [0, 1].

    Raises:
        UserError: the folder has no encoders or no flow estimator.
    """
    encoders = Encoders.from_pretrained(folder)
    head = Encoders.load_exported(folder, task, FlowEstimator)

    @torch.inference_mode()
    def estimate(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        encoders.forget()
        device = first.device
        found: torch.Tensor = head.to(device)(encoders.to(device), first, second)[-1]
        encoders.forget()
        return found

    return estimate
