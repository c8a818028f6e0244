"""What tasks on whole clips share: a clip, the sound about its middle, and whether both are there to be compared."""

from __future__ import annotations

import torch

from mmssl.batch import Batch
from mmssl.clip import Span
from mmssl.ops.loudness import loudness
from mmssl.tasks.views import inside, picture_clip, sound, sound_start, span_times


def clip_and_sound(
    batch: Batch, picture: Span, heard: Span, seconds: float, augment: bool, quietest: float, view: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Clip float32 [B, 3, T, H, W] in [0, 1], sound float32 [B, S], and which rows have both, bool [B].

    Args:
        batch: the clips.
        picture: span of the clip.
        heard: span of the sound in the task's window.
        seconds: length of the sound.
        augment: mirror, shift and colour of the clip, volume of the sound.
        quietest: decibels of full scale below which a sound is none.
        view: number of the augmentation; each is another one of the same stretch.
    """
    times = span_times(batch, picture)
    start = sound_start(batch, picture, heard, seconds)
    # Loudness as recorded: whether a clip takes part must not hang on the drawn volume.
    there = (loudness(batch.audio_between(start, seconds)) > quietest) & inside(batch, times[:, 0], picture.seconds)
    return picture_clip(batch, times, augment, view), sound(batch, start, seconds, augment, view=view), there
