"""Pace prediction: how fast a clip is played (Wang, Jiao, Liu, "Self-supervised video representation learning by pace
prediction", ECCV 2020, arXiv 2008.05861; twofold speed alone: Benaim et al., "SpeedNet", arXiv 2004.06130).

The same number of frames is taken with a stride of 1, 2, 3 or 4, and the label is the stride. The encoder has to know
how fast such things move by themselves.

Shortcuts that are closed:

- *Repeated frames.* A film of fewer pictures a second than are asked for shows pictures twice, which only the small
  strides reveal. Clips whose frames do not come at the times asked for (told by the times of the frames), or whose
  pictures stand still at some steps and move at others (told by the pictures; frames may have been repeated before the
  film was encoded), give no row. Whether a clip takes part is decided on all its frames, never on those of one pace.
- *Wrap-around.* Frames are never taken from the beginning again; a clip that is too short gives no row.
- *Place in the clip.* The clips of all paces have the same middle.
- *Brightness differences:* every frame's channels have their own gain (1 +- 0.1) and offset (+- 0.05), far weaker than
  the paper's colour jitter of each frame, ColorJitter(0.8, 0.8, 0.8, 0.2).
- *Sharpness.* The codec's and the shutter's blur does not grow with the stride as the motion does: some clips are
  softened, and all are cut out and resized to a random scale.
- *Key frames* come round faster at a larger stride, and even what stands still changes there: every frame has noise of
  its own, of a strength of its own.

Clips in which nothing moves give no row. The paper's second, contrastive term is left out.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from mmssl.batch import Batch
from mmssl.clip import Span, Window
from mmssl.distributed import global_mean
from mmssl.nn.encoders import Encoders
from mmssl.ops.augment import crop_resize, soften
from mmssl.ops.frame_noise import check_levels, frame_noise
from mmssl.ops.motion import UNIT
from mmssl.ops.pace import paced, repeated_steps
from mmssl.randomness import Draws
from mmssl.tasks.base import Moment, Outcome, PretextTask, Score, rate, valid_rows
from mmssl.tasks.context.looks import motion_of
from mmssl.tasks.views import even_rows

STILL = 0.03  # of a large step: what changes less stands still; the codec leaves a trace even of repeated frames


class PaceExample(NamedTuple):
    """Clips of the same number of frames at different paces."""

    clips: torch.Tensor  # float32 [K B, 3, F, S, S] in [0, 1]; the K clips of a row lie together
    label: torch.Tensor  # int64 [B, K], stride less 1
    weight: torch.Tensor  # float32 [B], 0 where the pace could be told from something else, or from nothing
    valid: torch.Tensor  # float32 [B], 0 only where there is no picture
    even: torch.Tensor  # float32 [B], 1 where frames come at the times asked for and none is repeated
    chosen: torch.Tensor  # int64 [B, K, F], frame numbers within the span


class PacePrediction(PretextTask[Batch, PaceExample]):
    """How fast a clip is played: the stride of its frames.

    The rate of `picture` should be that of the films, or a whole share of it: else frames cannot come evenly, and such
    clips are left out (`even_clips` tells how many are not).

    Args:
        picture: the frames that are taken from; at least (frames - 1) * paces + 1.
        size: (height, width) of the decoded frames.
        frames: of a clip.
        paces: P; strides are 1 to P.
        shown: paces shown of each clip, all different.
        crop: (least, most) share of the shorter side that is shown, stretched to the largest.
        gain: spread of the gain of each frame's colour channels about 1.
        offset: spread of their offset, in full scales.
        jittered: share of clips whose frames get them.
        softened: share of clips that are softened.
        noise: (least, most) standard deviation of each frame's own noise in grey levels; see `ops.frame_noise`.
        uneven: share of the steps between frames that may be off by more than 3 % of a step.
        repeated: share of the steps in which nothing may change while things move at others.
        motion_threshold: how much has to change from one frame to the next for a clip to count, mean over the span of
            the mean absolute difference in grey ranges (255 is 1) after the contrast was brought to 0.2.
        dropout: share of the features dropped in training.
    """

    uses: ClassVar = {"video": "video"}
    needs: ClassVar = ("picture",)
    score = Score("accuracy", floor=1 / 4, ceiling=1.0)
    ablated_input: ClassVar = "picture"
    paired: ClassVar = ("label",)

    def __init__(
        self,
        picture: Span = Span(3.0, 12.5),
        size: tuple[int, int] = (96, 96),
        frames: int = 8,
        paces: int = 4,
        shown: int = 1,
        crop: tuple[float, float] = (0.6, 0.9),
        gain: float = 0.1,
        offset: float = 0.05,
        jittered: float = 0.8,
        softened: float = 0.3,
        noise: tuple[float, float] = (4.0, 20.0),
        uneven: float = 0.0,
        repeated: float = 0.15,
        motion_threshold: float = 0.005,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if paces < 2 or frames < 2:
            raise ValueError(f"pace_prediction: paces and frames must be at least 2, got {paces} and {frames}")
        if not 1 <= shown <= paces:
            raise ValueError(f"pace_prediction: shown must be between 1 and {paces}, got {shown}")
        if not 0 < crop[0] <= crop[1] <= 1:
            raise ValueError(f"pace_prediction: crop must be two rising shares in (0, 1], got {crop}")
        index, self.places = paced(picture.count, frames, paces)
        self.register_buffer("index", index, persistent=False)
        self.index: torch.Tensor
        self.score = Score("accuracy", floor=1 / paces, ceiling=1.0)
        self.picture = picture
        self.window = Window(picture=picture, size=size)
        self.frames, self.paces, self.shown = frames, paces, shown
        self.crop = crop
        self.gain, self.offset, self.jittered, self.softened = gain, offset, jittered, softened
        self.noise = check_levels("pace_prediction", noise)
        self.uneven, self.repeated = uneven, repeated
        self.motion_threshold = motion_threshold
        self.dropout = dropout

    @property
    def side(self) -> int:
        """Side of the shown squares in pixels; a run may set another size of the window."""
        return max(8, round(self.crop[1] * min(self.window.size)))

    def setup(self, encoders: Encoders) -> None:
        """A classifier of the pooled vector."""
        width = encoders["video"].width
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Dropout(self.dropout), nn.Linear(width, self.paces))

    def pretext(self, batch: Batch, draws: Draws, moment: Moment) -> PaceExample:
        """Draw paces, places and looks; leave out what tells the pace without motion."""
        frames = batch.frames_of(self.picture)
        rows, side = len(batch), self.side
        height, width = frames.shape[-2:]
        # Who takes part: judged on all frames of the span.
        motion = motion_of(frames, side)
        steps = motion.distances.diagonal(offset=1, dim1=1, dim2=2)
        moves = steps.sum(dim=1) >= self.motion_threshold * UNIT * steps.shape[1]
        even = even_rows(batch, batch.times(self.picture), self.picture.rate, self.uneven)
        even = even & (repeated_steps(steps, STILL) <= self.repeated)

        label = draws.permutation("pace", self.paces)[:, : self.shown]
        chosen = self.index[label] + draws.integers("start", self.places, (self.shown,))[:, :, None]
        each = torch.arange(rows, device=batch.device)[:, None, None]
        clips = frames[each, chosen].flatten(0, 1).float() / 255  # [K B, F, 3, H, W]
        # Before anything is softened or cut out, as what it hides was.
        noisy = clips.unflatten(0, (rows, self.shown)).flatten(1, 2)
        clips = frame_noise(noisy, draws, "noise", self.noise).reshape(clips.shape)
        clips = self._jitter(clips, draws)
        # A square of a random size anywhere, in fractions of each side; all frames of a clip alike.
        share = draws.uniform("size", (self.shown,), *self.crop) * min(height, width)
        corner = draws.uniform("corner", (self.shown, 2))
        tall, wide = share / height, share / width
        box = torch.stack([corner[..., 0] * (1 - tall), corner[..., 1] * (1 - wide), tall, wide], dim=-1).flatten(0, 1)
        clips = crop_resize(clips, box, draws.bernoulli("mirror", 0.5, (self.shown,)).flatten(), (side, side))
        clips = torch.where(
            draws.bernoulli("soft", self.softened, (self.shown,)).flatten()[:, None, None, None, None],
            soften(clips),
            clips,
        )
        valid = valid_rows(self, batch)
        return PaceExample(
            clips=clips.transpose(1, 2),
            label=label,
            weight=valid * moves * even,
            valid=valid,
            even=even.float(),
            chosen=chosen,
        )

    def _jitter(self, clips: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Each frame's channels with their own gain and offset, in most clips."""
        shape = (self.shown, self.frames, 3)
        chosen = draws.bernoulli("jittered", self.jittered, (self.shown,)).double()[:, :, None, None]
        gain = 1 + chosen * draws.uniform("gain", shape, -self.gain, self.gain)
        offset = chosen * draws.uniform("offset", shape, -self.offset, self.offset)
        gain, offset = (x.float().flatten(0, 1)[..., None, None] for x in (gain, offset))
        return (clips * gain + offset).clamp(0.0, 1.0)

    def forward(self, example: PaceExample, encoders: Encoders, moment: Moment) -> Outcome:
        """Cross-entropy over the paces, averaged over the valid clips of all ranks."""
        rows, shown = example.label.shape
        logits = self.head(encoders.encode("video", example.clips).pooled).float()
        loss = functional.cross_entropy(logits, example.label.flatten(), reduction="none")
        right = (logits.argmax(dim=-1) == example.label.flatten()).float()
        return Outcome(
            losses={"cross_entropy": global_mean(loss.reshape(rows, shown).mean(dim=1), example.weight)},
            metrics={
                "accuracy": rate(right, example.weight.repeat_interleave(shown)),
                "even_clips": rate(example.even, example.valid),
                "used_clips": rate(example.weight > 0, example.valid),
            },
        )
