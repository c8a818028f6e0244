"""Audio-visual correspondence, L3-Net: does this second of sound belong to this frame?

Arandjelovic and Zisserman, "Look, listen and learn", arXiv 1705.08168. A picture tower and a sound tower; their vectors
side by side through two fully connected layers to a two-way softmax. Positive: a frame and a second of sound that
overlaps it. Negative: the sound of another clip.

What the pairs are made of, and the counter-measures against answers without seeing and hearing, are in `frame_sound`.
The head is small on purpose: what tells materials and pitches apart has to be in the towers.

Departures from the paper: encoders of the run instead of two VGG towers, with GroupNorm in place of batch
normalisation; vectors are standardised over the gathered batch before they meet (with its large common part an
untrained head says always the same for hundreds of steps); more than one false pair for each true one, weighted to
count as one, since the towers have to run but once.

Ceiling: music fits music. Where the other clip's sound is of the same class in a share P(same) of the pairs, no model
can be right in more than ``1 - P(same) / 2``; `ceiling` states it for a corpus.
"""

from __future__ import annotations

import torch
from torch import nn

from mmssl.nn.encoders import Encoders
from mmssl.nn.features import Features
from mmssl.nn.heads import BatchStandardisation
from mmssl.tasks.cross_modal.frame_sound import FrameSoundTask


class AVCorrespondence(FrameSoundTask):
    """Whether a sound belongs to a frame, judged on both vectors side by side (L3-Net, arXiv 1705.08168).

    Args:
        dimension: width of the fully connected layer.
        picture, sound_seconds, size, others, same_time, centred, quietest, augment, sound_rate, ceiling: see
            `FrameSoundTask`.
    """

    def setup(self, encoders: Encoders) -> None:
        """See `PretextTask.setup`."""
        widths = encoders["image"].width, encoders["audio"].width
        self.picture_scale, self.sound_scale = (BatchStandardisation(width) for width in widths)
        self.head = nn.Sequential(nn.Linear(sum(widths), self.dimension), nn.ReLU(), nn.Linear(self.dimension, 2))

    def vectors(self, picture: Features, sound: Features) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FrameSoundTask.vectors`: what the towers give."""
        return picture.pooled, sound.pooled

    def gathered(
        self, pictures: torch.Tensor, sounds: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FrameSoundTask.gathered`: standardised."""
        return self.picture_scale(pictures, weight), self.sound_scale(sounds, weight)

    def judge(self, pictures: torch.Tensor, sounds: torch.Tensor) -> torch.Tensor:
        """See `FrameSoundTask.judge`: two fully connected layers on both vectors side by side."""
        return torch.as_tensor(self.head(torch.cat([pictures, sounds], dim=1))).float()
