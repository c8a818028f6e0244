"""Views of a batch that several tasks share: made once a batch, so that the encoders run once on them.

Tasks that ask for the same view get the same tensor object. Augmentations of shared views are drawn from
`Draws.shared`, one decision a clip for all its frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mmssl.batch import Batch
from mmssl.clip import Span
from mmssl.ops.augment import colour_jitter, crop_resize, greyscale, shift_flip
from mmssl.ops.pace import uneven_steps
from mmssl.randomness import Draws

OFF = 0.03  # of a step: how far a frame may come early or late. A camera of 120 pictures a second is 0.04 off at 12.5,
# which still tells the order of clips; time stamps that are rounded to milliseconds are below it.


@dataclass(frozen=True)
class Augmentation:
    """How far a view may be from what was recorded.

    Args:
        flip: probability of a mirror, left and right exchanged.
        shift: largest shift in fractions of the side, whole pixels, without interpolation.
        zoom: largest zoom in; 0 keeps the scale, 0.5 shows as little as 1 / 1.5 of the side.
        gain: spread of the gain of a colour channel about 1.
        offset: spread of the offset of a colour channel, in full scales.
        grey: probability that the colour is taken out.
        volume: spread of the sound's volume in decibels.
    """

    flip: float = 0.5
    shift: float = 0.08
    zoom: float = 0.0
    gain: float = 0.1
    offset: float = 0.03
    grey: float = 0.0
    volume: float = 6.0


#: What tasks with ``augment: true`` use. Gain and offset are narrow and grey is left out because wider ones hide the
#: hues that lead an encoder to the textures; zoom costs as much as a small encoder's first layers.
SHARED = Augmentation()


def shared_draws(batch: Batch, view: int = 0) -> Draws:
    """Draws of the shared augmentation number `view`: tasks agree on each, and each differs from the others."""
    draws = batch.draws("").shared()
    return draws if view == 0 else draws.for_task(f"{draws.task} {view}")


def augment_frames(batch: Batch, frames: torch.Tensor, by: Augmentation = SHARED, view: int = 0) -> torch.Tensor:
    """Float32 [B, T, 3, H, W] in [0, 1]: frames uint8 under a shared augmentation of their clip."""
    draws = shared_draws(batch, view)
    height, width = frames.shape[-2:]
    flip = draws.bernoulli("flip", by.flip)
    reach = draws.uniform("shift", (2,), -by.shift, by.shift)
    down, right = (reach[:, 0] * height).round().long(), (reach[:, 1] * width).round().long()
    moved = shift_flip(frames, down, right, flip)
    gain = draws.uniform("gain", (3,), 1.0 - by.gain, 1.0 + by.gain)
    made = colour_jitter(moved, gain, draws.uniform("offset", (3,), -by.offset, by.offset))
    if by.zoom > 0:
        side = 1.0 / draws.uniform("zoom", (1,), 1.0, 1.0 + by.zoom)
        corner = draws.uniform("zoom_corner", (2,)) * (1.0 - side)
        made = crop_resize(made, torch.cat([corner, side, side], dim=1), torch.zeros_like(flip))
    return greyscale(made, draws.bernoulli("grey", by.grey)) if by.grey > 0 else made


def plain_frames(frames: torch.Tensor) -> torch.Tensor:
    """Float32 in [0, 1] of uint8 frames."""
    return frames.float() / 255.0


def picture_clip(batch: Batch, times: torch.Tensor, augment: bool, view: int = 0) -> torch.Tensor:
    """Float32 [B, 3, T, H, W] in [0, 1]: the frames at `times`, float64 [B, T], times that the window asked for.

    The view is made once for the same `times` object and number: tasks share it when they share where the times come
    from (`span_times`, `sub_clip_times`). Views of other numbers are augmented otherwise.
    """

    def make() -> tuple[torch.Tensor, torch.Tensor]:
        frames = batch.frames_at(times)
        made = (augment_frames(batch, frames, view=view) if augment else plain_frames(frames)).transpose(1, 2)
        return times, made  # the times stay beside it, so that their id cannot pass to another tensor

    return batch.once(("picture_clip", id(times), augment, view), make)[1]


def frame(batch: Batch, times: torch.Tensor, augment: bool) -> torch.Tensor:
    """Float32 [B, 3, H, W] in [0, 1]: the one frame at `times`, float64 [B, 1]; shared like `picture_clip`."""
    return batch.once(("frame", id(times), augment), lambda: picture_clip(batch, times, augment)[:, :, 0])


def span_times(batch: Batch, span: Span) -> torch.Tensor:
    """Float64 [B, count]: the times of a whole span, one object for all tasks."""
    return batch.once(("span_times", span), lambda: batch.times(span))


def sub_clip_starts(batch: Batch, span: Span, seconds: float, gap: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Starts (a, b), float64 [B] each, of two sub-clips of a picture span that lie at least `gap` apart.

    Both have the same distribution (which comes first is drawn), lie on the span's own frame times, and are the same
    for all tasks that ask with the same arguments.

    Raises:
        ValueError: the span is too short for two such sub-clips.
    """

    def make() -> tuple[torch.Tensor, torch.Tensor]:
        draws = batch.draws("").shared()
        steps = span.count - round(seconds * span.rate)
        apart = round((seconds + gap) * span.rate)
        slack = steps - apart
        if slack < 0:
            raise ValueError(f"a span of {span.seconds} s holds no two clips of {seconds} s with {gap} s between them")
        low, high = draws.uniform("sub_clip", (2,)).sort(dim=1).values.unbind(1)
        first = (low * (slack + 1)).long().clamp(max=slack)
        extra = ((high - low) * (slack - first + 1)).long()
        extra = torch.minimum(extra, slack - first)
        second = first + apart + extra
        swap = draws.bernoulli("sub_clip_swap", 0.5)
        start = batch.times(span)[:, 0]
        a, b = torch.where(swap, second, first), torch.where(swap, first, second)
        return start + a.double() / span.rate, start + b.double() / span.rate

    return batch.once(("sub_clip_starts", span, seconds, gap), make)


def sub_clip_times(batch: Batch, span: Span, seconds: float, gap: float) -> torch.Tensor:
    """Float64 [B, T]: frame times of the first of the two sub-clips of `sub_clip_starts`, one object for all tasks."""

    def make() -> torch.Tensor:
        a, _ = sub_clip_starts(batch, span, seconds, gap)
        return a[:, None] + torch.arange(round(seconds * span.rate), dtype=torch.float64, device=a.device) / span.rate

    return batch.once(("sub_clip_times", span, seconds, gap), make)


def sound(
    batch: Batch, start: torch.Tensor, seconds: float, augment: bool, by: Augmentation = SHARED, view: int = 0
) -> torch.Tensor:
    """Float32 [B, S]: sound from `start`, float64 [B], on; its volume drawn once a clip when augmented.

    Made once for the same `start` object and number of the view.
    """

    def make() -> tuple[torch.Tensor, torch.Tensor]:
        wave = batch.audio_between(start, seconds)
        if augment:
            decibels = shared_draws(batch, view).uniform("volume", (), -by.volume, by.volume)
            wave = wave * torch.pow(10.0, decibels / 20.0).float()[:, None]
        return start, wave

    return batch.once(("sound", id(start), seconds, augment, by.volume, view), make)[1]


def heard_from(batch: Batch, heard: Span) -> torch.Tensor:
    """Float64 [B]: where a task's own span of sound begins.

    Not where the decoded sound begins: that is earlier where another task of the run wants more.
    """
    return torch.as_tensor(heard.start(batch.anchors[:, 0], batch.duration))


def sound_start(batch: Batch, picture: Span, heard: Span, seconds: float) -> torch.Tensor:
    """Float64 [B]: where `seconds` of sound about the middle of a picture span begin, one object for all tasks.

    Moved inside the span `heard` of the task's window, where the clip's beginning or end is near.
    """

    def make() -> torch.Tensor:
        first = heard_from(batch, heard)
        start = batch.times(picture)[:, 0] + (picture.seconds - seconds) / 2
        return torch.minimum(torch.maximum(start, first), first + heard.seconds - seconds)

    return batch.once(("sound_start", picture, heard, seconds), make)


def inside(batch: Batch, start: torch.Tensor, seconds: float, grace: float = 1e-3) -> torch.Tensor:
    """Bool [B]: whether a stretch from `start` on lies inside the clip, up to `grace` seconds.

    A clip shorter than the window ends in a frame that stands still and in silence: no example of anything, and one
    repeated frame tells which part is the last. The grace is for rounded time stamps, less than any frame lasts.
    """
    return start + seconds <= batch.duration + grace


def even_rows(batch: Batch, times: torch.Tensor, rate: float, uneven: float = 0.0) -> torch.Tensor:
    """Bool [B]: whether the frames on screen at `times` come as evenly as they were asked for.

    A film of 30 frames a second that is shown at 12.5 moves on by 2, 2, 3, 2 and 3 frames: the rhythm of its steps goes
    on from one part of a clip to the next, so that their order, their distance and the pace can be told by counting.
    A film that has ended, or is slower than asked for, repeats frames.

    Args:
        batch: the clips.
        times: float64 [B, T], of a span of the window.
        rate: frames a second of that span.
        uneven: share of the steps that may be off by more than `OFF` of a step.
    """
    return uneven_steps(batch.frame_times_at(times), rate, OFF) <= uneven


def goes_on(batch: Batch, times: torch.Tensor) -> torch.Tensor:
    """Bool [B]: whether the picture still goes on at the last of `times`, float64 [B, T], T >= 2.

    What a file calls its duration may be that of its sound. A picture has ended where its last frame has been on screen
    for as long as any frame before it.
    """
    shown = batch.frame_times_at(times)
    return times[:, -1] - shown[:, -1] < shown.diff(dim=1).amax(dim=1) - 1e-3
