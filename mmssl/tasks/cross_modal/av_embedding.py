"""Audio-visual embeddings, AVE-Net: correspondence that has to pass through one distance.

Arandjelovic and Zisserman, "Objects that sound", arXiv 1712.06651. The question of L3-Net (`av_correspondence`): does
this second of sound belong to this frame? But the towers end in unit vectors of 128 numbers, and all that the answer is
made from is their Euclidean distance, through one scale and one bias for each side of a two-way softmax. Vectors of
pictures and sounds are thereby comparable without further learning: a picture finds its sounds, a sound its pictures.

What the pairs are made of, the counter-measures and the ceiling are those of `av_correspondence`, see `frame_sound`.
Departures from the paper are the same; vectors are standardised over the gathered batch before they are made unit ones.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mmssl.losses.similarity import products, row_distances
from mmssl.nn.encoders import Encoders
from mmssl.nn.features import Features
from mmssl.nn.heads import BatchStandardisation, Projection
from mmssl.nn.matcher import Matcher
from mmssl.tasks.cross_modal.frame_sound import FrameSoundTask
from mmssl.tasks.cross_modal.matching import matching_metrics

START_SCALE = 5.0  # of the distance
START_DISTANCE = 1.3  # distance at which a pair is first called neither; unrelated unit vectors are 1.41 apart


class PairMatcher(Matcher):
    """Unit vectors of frames and sounds in one space.

    Args:
        picture_width: width of the image encoder.
        sound_width: width of the audio encoder.
        dimension: of the common space.
        sound_seconds: length of the sound that belongs to a frame.
    """

    encoders: dict[str, str] = {"picture": "image", "sound": "audio"}  # noqa: RUF012

    def __init__(self, picture_width: int, sound_width: int, dimension: int = 128, sound_seconds: float = 1.0) -> None:
        super().__init__()
        self.init_args: dict[str, Any] = {
            "picture_width": picture_width,
            "sound_width": sound_width,
            "dimension": dimension,
            "sound_seconds": sound_seconds,
        }
        self.sound_seconds = sound_seconds
        self.picture = Projection(picture_width, dimension)
        self.sound = Projection(sound_width, dimension)
        self.picture_scale = BatchStandardisation(dimension)
        self.sound_scale = BatchStandardisation(dimension)

    def project(self, modality: str, features: Features) -> torch.Tensor:
        """Rows [B, D] of "picture" or "sound" before they are gathered."""
        return torch.as_tensor((self.sound if modality == "sound" else self.picture)(features.pooled))

    def unit(self, modality: str, projected: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """Unit vectors float32 [N, D] of gathered rows of `project`."""
        scale = self.sound_scale if modality == "sound" else self.picture_scale
        return F.normalize(scale(projected, weight), dim=1)

    def embed(self, modality: str, features: Features) -> torch.Tensor:
        """Unit vectors [B, D] of "picture" or "sound"; the nearer two are, the more they belong together."""
        return self.unit(modality, self.project(modality, features))


class AVEmbedding(FrameSoundTask):
    """Whether a sound belongs to a frame, judged by the distance of two unit vectors (AVE-Net, arXiv 1712.06651).

    Args:
        dimension: of the common space.
        picture, sound_seconds, size, others, same_time, centred, quietest, augment, sound_rate, ceiling: see
            `FrameSoundTask`.
    """

    def setup(self, encoders: Encoders) -> None:
        """See `PretextTask.setup`."""
        self.matcher = PairMatcher(encoders["image"].width, encoders["audio"].width, self.dimension, self.sound_seconds)
        self.calibration = nn.Linear(1, 2)
        with torch.no_grad():
            scale = torch.tensor([START_SCALE, -START_SCALE])  # far is "not together", near is "together"
            self.calibration.weight.copy_(scale[:, None])
            self.calibration.bias.copy_(-START_DISTANCE * scale)

    def vectors(self, picture: Features, sound: Features) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FrameSoundTask.vectors`: projections."""
        return self.matcher.project("picture", picture), self.matcher.project("sound", sound)

    def gathered(
        self, pictures: torch.Tensor, sounds: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FrameSoundTask.gathered`: unit vectors."""
        return self.matcher.unit("picture", pictures, weight), self.matcher.unit("sound", sounds, weight)

    def judge(self, pictures: torch.Tensor, sounds: torch.Tensor) -> torch.Tensor:
        """See `FrameSoundTask.judge`: scale and bias of the distance."""
        with torch.autocast(pictures.device.type, enabled=False):
            return torch.as_tensor(self.calibration(row_distances(pictures, sounds)[:, None]))

    def more_metrics(
        self, pictures: torch.Tensor, sounds: torch.Tensor, weight: torch.Tensor, drawn: torch.Tensor, rows: slice
    ) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Retrieval in the batch: share of frames whose own sound is nearest, and nearer than one other's."""
        found = matching_metrics(products(pictures, sounds), weight, drawn, rows)
        return {"r_at_1": found["r_at_1"], "accuracy_choice": found["accuracy"]}

    def exports(self) -> Matcher:
        """The projections."""
        return self.matcher
