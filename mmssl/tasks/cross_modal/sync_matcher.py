"""The exported head of `av_sync`: picture and sound compared point in time by point in time (arXiv 1807.00230)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from mmssl.nn.features import Features
from mmssl.nn.heads import BatchStandardisation, TimeKeepingProjection
from mmssl.nn.matcher import Matcher


class SyncMatcher(Matcher):
    """Time-keeping projections of the places of a video clip and of a sound of the same instant.

    Picture and sound are compared point in time by point in time, at every place of the picture; the best places are
    the evidence: where several things move, only one of them makes the sound.

    Args:
        video_width: channels of the video encoder's last level.
        sound_width: channels times bands of the audio encoder's level.
        sound_stride: which level of the audio encoder is taken.
        steps: points in time.
        dimension: of the common space, for each point in time.
        sound_seconds: length of clip and sound.
    """

    encoders: dict[str, str] = {"picture": "video", "sound": "audio"}  # noqa: RUF012

    def __init__(
        self,
        video_width: int,
        sound_width: int,
        sound_stride: int,
        steps: int,
        dimension: int = 32,
        sound_seconds: float = 1.0,
    ) -> None:
        super().__init__()
        self.init_args: dict[str, Any] = {
            "video_width": video_width,
            "sound_width": sound_width,
            "sound_stride": sound_stride,
            "steps": steps,
            "dimension": dimension,
            "sound_seconds": sound_seconds,
        }
        self.sound_stride = sound_stride
        self.sound_seconds = sound_seconds
        self.video = TimeKeepingProjection(video_width, dimension, steps)
        self.sound = TimeKeepingProjection(sound_width, dimension, steps)
        self.video_scale = BatchStandardisation(dimension)
        self.sound_scale = BatchStandardisation(dimension)

    def project(self, modality: str, features: Features) -> torch.Tensor:
        """Rows of one modality before they are gathered: [B, D, t, h, w] of "picture" or [B, D, t] of "sound"."""
        if modality == "sound":
            return torch.as_tensor(self.sound(features.levels[self.sound_stride].flatten(1, 2)))
        return torch.as_tensor(self.video(features.levels[max(features.levels)]))

    def places(self, projected: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """Vectors of every place, float32 [N, D * t, h, w], of mean length about 1, from gathered rows of `project`."""
        flat = self.video_scale(projected, weight).flatten(1, 2)
        return torch.as_tensor(flat * flat.shape[1] ** -0.5)

    def sounds(self, projected: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """Unit vectors float32 [N, D * t] of gathered rows of `project`."""
        return F.normalize(self.sound_scale(projected, weight).flatten(1), dim=1)

    def embed(self, modality: str, features: Features) -> torch.Tensor:
        """Unit vectors [B, D * t] of "picture" (the mean over its places) or "sound"."""
        projected = self.project(modality, features)
        if modality == "sound":
            return self.sounds(projected)
        return F.normalize(self.places(projected).mean(dim=(2, 3)), dim=1)

    def parts(self, modality: str, features: Features) -> torch.Tensor:
        """Vectors [B, P, D * t]: of every place of a picture; one of a sound."""
        if modality == "sound":
            return self.embed(modality, features)[:, None]
        return self.places(self.project(modality, features)).flatten(2).transpose(1, 2)
