"""What the tasks on correspondence share: a frame, a second of sound around it, and the sounds it is held against.

Used by `av_correspondence` (arXiv 1705.08168) and `av_embedding` (arXiv 1712.06651), which differ in their heads.

Counter-measures against answers that have nothing to do with what is seen and heard:

- The sounds of other clips are those that are the positives of these clips: over a batch each frame and each sound is
  as often in a true pair as in a false one, so neither by itself says anything about the pair.
- *Time grid.* AVE-Net's authors found that a net which is given sounds at frame times in positives and at any time in
  negatives reads the framing of the codecs. Here a sound starts at a drawn instant before its frame, in samples and not
  in frames, so that the phase of one says nothing about the phase of the other (`centred=True` gives that up).
- *Time in the clip.* A fade, a title or a jingle tells frame and sound alike how far the clip is, and so that they are
  of one time. The sounds a frame is held against are those nearest in time to it on their own clips' clocks, before
  and after (`same_time=False` draws them).
- Silent clips take no part: silence would only say "no match". What counts is the loudness as recorded; the volume that
  is heard is drawn.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar, NamedTuple

import torch

from mmssl import distributed
from mmssl.batch import Batch
from mmssl.clip import Span, Window
from mmssl.errors import UserError
from mmssl.losses.correspondence import balanced_cross_entropy
from mmssl.nn.encoders import Encoders
from mmssl.nn.features import Features
from mmssl.ops.loudness import loudness
from mmssl.ops.partners import ring_partner, win_rate
from mmssl.randomness import Draws
from mmssl.tasks.base import Moment, Outcome, PretextTask, Score, rate, valid_rows
from mmssl.tasks.cross_modal.matching import own_rows, without_the_lonely
from mmssl.tasks.views import frame, heard_from, sound, span_times


class PairExample(NamedTuple):
    """A frame and a sound that overlaps it; the sounds of other rows make the false pairs."""

    picture: torch.Tensor  # float32 [B, 3, H, W] in [0, 1]
    wave: torch.Tensor  # float32 [B, S]
    weight: torch.Tensor  # float32 [B]
    place: torch.Tensor  # float64 [B], where a row stands on the ring of partners
    drawn: torch.Tensor  # float64 [B], draws that choose the other row of the two-way choice


class FrameSoundTask(PretextTask[Batch, PairExample]):
    """Whether a frame and a sound belong together; a subclass says how the pair is judged.

    Args:
        picture: span that the frame is drawn from.
        sound_seconds: length of the sound.
        size: (height, width) of the frames.
        dimension: width of the head.
        others: false pairs for each true one; they are weighted to count as much as the true one.
        same_time: whether the other clips' sounds are of about the same time of their clips.
        centred: whether the frame is in the middle of its sound; else its place in it is drawn.
        quietest: clips quieter than this, in decibels of full scale, take no part.
        augment: mirror, shift and colour of the frame, volume of the sound.
        sound_rate: samples a second.
        ceiling: accuracy of a perfect model: ``1 - P(same) / 2`` where the other clip's sound fits the frame as well
            as its own in a share P(same) of the cases.
    """

    uses: ClassVar = {"image": "image", "audio": "audio"}
    needs: ClassVar = ("picture", "sound")
    score = Score("accuracy", floor=0.5, ceiling=1.0)
    ablated_input: ClassVar = "sound"
    paired: ClassVar = ("wave",)
    negatives: ClassVar = True

    def __init__(
        self,
        picture: Span = Span(3.0, 8.0),
        sound_seconds: float = 1.0,
        size: tuple[int, int] = (96, 96),
        dimension: int = 128,
        others: int = 4,
        same_time: bool = True,
        centred: bool = False,
        quietest: float = -50.0,
        augment: bool = True,
        sound_rate: int = 16000,
        ceiling: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0.5 < ceiling <= 1:
            raise UserError(f"{self.name()}: ceiling must be in (0.5, 1], got {ceiling}")
        if others < 1:
            raise UserError(f"{self.name()}: others must be at least 1 false pair for each true one, got {others}")
        self.score = replace(type(self).score, ceiling=ceiling)
        self.picture = picture
        self.sound_seconds = sound_seconds
        self.dimension = dimension
        self.others = others
        self.same_time = same_time
        self.centred = centred
        self.quietest = quietest
        self.augment = augment
        self.sound_span = Span(max(picture.seconds, sound_seconds), sound_rate)
        self.window = Window(picture, self.sound_span, size=(size[0], size[1]))

    @classmethod
    def name(cls) -> str:
        """The task's name, that of its file."""
        return cls.__module__.rpartition(".")[2]

    @abstractmethod
    def vectors(self, picture: Features, sound: Features) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows [B, D] of pictures and of sounds, before they are gathered."""

    @abstractmethod
    def gathered(
        self, pictures: torch.Tensor, sounds: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows of the whole batch as `judge` takes them; those of weight 0, float [N], are in no statistics."""

    @abstractmethod
    def judge(self, pictures: torch.Tensor, sounds: torch.Tensor) -> torch.Tensor:
        """Logits float32 [P, 2] of pairs of rows: that they do not belong together, and that they do."""

    def pretext(self, batch: Batch, draws: Draws, moment: Moment) -> PairExample:
        """A drawn frame and a sound around it; the same for all tasks of this kind that ask alike."""
        times, start = frame_and_sound_times(batch, self.picture, self.sound_span, self.sound_seconds, self.centred)
        wave = sound(batch, start, self.sound_seconds, self.augment)
        # Loudness as recorded: whether a clip takes part must not hang on the drawn volume.
        heard = loudness(batch.audio_between(start, self.sound_seconds)) > self.quietest
        drawn = draws.uniform("partner")
        return PairExample(
            picture=frame(batch, times, self.augment),
            wave=wave,
            weight=valid_rows(self, batch) * heard,
            # Frames of one time are put in an order by a draw: that of the batch must not matter.
            place=times[:, 0] + drawn / self.picture.rate if self.same_time else drawn,
            drawn=drawn,
        )

    def forward(self, example: PairExample, encoders: Encoders, moment: Moment) -> Outcome:
        """Cross-entropy of true and false pairs over the gathered batch."""
        mel = encoders["audio"].frontend(example.wave)
        found = self.vectors(encoders.encode("image", example.picture), encoders.encode("audio", mel))
        rows = own_rows(len(example.picture))
        gather = distributed.gather
        pictures, sounds, weight, place, drawn = (gather(x) for x in (*found, *example[2:]))
        pictures, sounds = self.gathered(pictures, sounds, weight)
        # One ahead, one behind, two ahead, ...: before and after in time alike.
        shifts = [(1 + n // 2) * (-1) ** n for n in range(self.others)]
        partners = torch.stack([ring_partner(place, weight > 0, shift) for shift in shifts])
        paired = torch.stack([without_the_lonely(weight, partner) for partner in partners])
        own = torch.where(paired.amax(dim=0) > 0, weight, torch.zeros_like(weight))
        true = self.judge(pictures, sounds)
        false = self.judge(pictures.repeat(self.others, 1), sounds[partners.flatten()])
        together = torch.arange(len(true) + len(false), device=true.device) < len(true)
        loss = balanced_cross_entropy(torch.cat([true, false]), together, torch.cat([own, paired.flatten()]))
        metrics = called_rightly(true, false.reshape(self.others, -1, 2), paired, rows)
        return Outcome({"cross_entropy": loss}, metrics | self.more_metrics(pictures, sounds, weight, drawn, rows))

    def more_metrics(
        self, pictures: torch.Tensor, sounds: torch.Tensor, weight: torch.Tensor, drawn: torch.Tensor, rows: slice
    ) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Further metrics of this rank's rows."""
        return {}


def frame_and_sound_times(
    batch: Batch, picture: Span, heard: Span, seconds: float, centred: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Time of a drawn frame, float64 [B, 1], and start of a stretch of sound around it, float64 [B].

    The frame is drawn from what the clip has, never from behind its end; the sound lies inside the span `heard`.

    Args:
        batch: the clips.
        picture: span that the frame is drawn from.
        heard: span of the sound in the task's window.
        seconds: length of the sound around the frame.
        centred: whether the frame is in its middle; else its place is drawn.
    """

    def make() -> tuple[torch.Tensor, torch.Tensor]:
        draws = batch.draws("").shared()
        times = span_times(batch, picture)
        shown = (times < batch.duration[:, None]).sum(dim=1).clamp(min=1)  # frames before the clip's end
        chosen = times.gather(1, (draws.uniform("frame", (1,)) * shown[:, None]).long())
        first = heard_from(batch, heard)
        latest = torch.maximum(torch.minimum(first + heard.seconds, batch.duration) - seconds, first)
        # Sounds that begin with the frame, and those that end with it, as far as they lie in that span.
        high, low = (
            torch.minimum(torch.maximum(chosen[:, 0] - back, first), latest)
            for back in ((seconds / 2, seconds / 2) if centred else (0.0, seconds))
        )
        return chosen, high - draws.uniform("frame_in_sound") * (high - low)

    return batch.once(("frame_and_sound_times", picture, heard, seconds, centred), make)


@torch.no_grad()
def called_rightly(
    true: torch.Tensor, false: torch.Tensor, paired: torch.Tensor, rows: slice
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Metrics of this rank's rows: how often true pairs, false pairs and both are called what they are.

    Args:
        true: [N, 2], logits of the true pairs.
        false: [K, N, 2], of the K false pairs of each row.
        paired: [K, N], weights of the false pairs, 0 where there is no partner.
        rows: this rank's rows.

    Returns:
        accuracy: mean of the two others over rows with a partner, so that a model which says always the same has 0.5
            (a tie counts half); accuracy_true; accuracy_false.
    """
    weight = paired.amax(dim=0)
    right = win_rate(true[:, 1], true[:, 0])
    each = (win_rate(false[..., 0], false[..., 1]) * paired).sum(dim=0)
    wrong = each / paired.sum(dim=0).clamp(min=1e-12)
    return {
        "accuracy": rate(((right + wrong) / 2)[rows], weight[rows]),
        "accuracy_true": rate(right[rows], weight[rows]),
        "accuracy_false": rate(wrong[rows], weight[rows]),
    }
