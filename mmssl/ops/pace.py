"""Whether frames come at the pace they say: repeated frames and uneven times, by which a pace could be told.

A film of 12 pictures a second that was written at 25 shows most pictures twice; taken frame by frame it stutters, taken
every second frame it does not, and a net that counts repeats need not look at what moves.
"""

from __future__ import annotations

import torch


def uneven_steps(frame_times: torch.Tensor, rate: float, tolerance: float) -> torch.Tensor:
    """Float [B]: share of the steps from one frame to the next that are not the step asked for.

    A step of 0 is a frame shown twice (the source has fewer frames than were asked for, or has ended), one of two steps
    a frame left out.

    Args:
        frame_times: float64 [B, T], seconds, when each shown frame began.
        rate: frames a second that were asked for.
        tolerance: how far a step may be off, as a share of 1 / rate.
    """
    off = (frame_times.diff(dim=1) * rate - 1).abs() > tolerance + 1e-6
    return off.float().mean(dim=1)


def repeated_steps(steps: torch.Tensor, share: float) -> torch.Tensor:
    """Float [B]: share of the steps in which next to nothing changes, though things move at other steps.

    Times do not tell of frames that were repeated before the film was encoded; the pictures do.

    Args:
        steps: int64 [B, T - 1], how unlike each frame and the next are.
        share: what counts as next to nothing, as a share of the step that 9 of 10 stay below.
    """
    large = steps.double().quantile(0.9, dim=1, keepdim=True, interpolation="higher")
    return (steps.double() <= share * large).float().mean(dim=1)


def paced(count: int, frames: int, paces: int) -> tuple[torch.Tensor, int]:
    """Frame numbers of every pace about one middle, and how far they may be moved.

    All paces have the same middle, so that where in the clip a pace is seen does not tell it.

    Args:
        count: frames there are.
        frames: frames shown at each pace.
        paces: P; the stride is 1, 2, ..., P.

    Returns:
        (int64 [P, frames], places): numbers to which 0 .. places - 1 may be added.

    Raises:
        ValueError: the largest stride does not fit; frames are never taken from the beginning again.
    """
    length = (frames - 1) * paces + 1
    if length > count:
        raise ValueError(f"{frames} frames at a stride of {paces} need {length} frames, there are {count}")
    strides = torch.arange(1, paces + 1)[:, None]
    middle = (length - 1) // 2
    first = middle - strides * (frames - 1) // 2
    return first.clamp(min=0) + strides * torch.arange(frames), count - length + 1
