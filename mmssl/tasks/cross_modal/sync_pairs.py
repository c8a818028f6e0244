"""Pairs of `av_sync` (arXiv 1807.00230): where a clip's two sounds lie, what they cost, and how well they are told."""

from __future__ import annotations

import torch

from mmssl.batch import Batch
from mmssl.clip import Span
from mmssl.losses.margin import contrastive_margin
from mmssl.ops.partners import win_rate
from mmssl.randomness import Draws
from mmssl.tasks.base import rate
from mmssl.tasks.cross_modal.matching import without_the_lonely
from mmssl.tasks.views import sub_clip_starts, sub_clip_times

OFFSET_BIN = 0.5  # seconds; accuracies are told apart by how far the sound is off
TOLERANCE = 1e-6  # seconds; starts are sums of float64


def sync_times(
    batch: Batch, draws: Draws, span: Span, seconds: float, gap: float, close_share: float, close: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Starts (a, b), float64 [B] each, of two stretches of a clip, and the frame times of the first, float64 [B, T].

    In a drawn share of the clips the two start `close` seconds apart and overlap; else at least `gap` seconds lie
    between them. In either case both starts have the same distribution (which is first is drawn) and lie on the span's
    own frame times. Without close ones these are the times of `sub_clip_starts`, which other tasks show too.

    Args:
        batch: the clips.
        draws: of the task.
        span: picture span in which both lie.
        seconds: length of a stretch.
        gap: seconds between two that do not overlap.
        close_share: share of the clips whose stretches overlap.
        close: seconds between the starts of those; rounded to frames, at least one.
    """
    a, b = sub_clip_starts(batch, span, seconds, gap)
    if close_share == 0:
        return a, b, sub_clip_times(batch, span, seconds, gap)
    steps = span.count - round(seconds * span.rate)
    apart = max(1, round(close * span.rate))
    first = draws.integers("close", steps - apart + 1)
    swap = draws.bernoulli("close_swap", 0.5)
    start = batch.times(span)[:, 0]
    here, there = torch.where(swap, first + apart, first), torch.where(swap, first, first + apart)
    chosen = draws.bernoulli("is_close", close_share)
    a = torch.where(chosen, start + here.double() / span.rate, a)
    b = torch.where(chosen, start + there.double() / span.rate, b)
    count = round(seconds * span.rate)
    return a, b, a[:, None] + torch.arange(count, dtype=torch.float64, device=a.device) / span.rate


def sync_margin(
    similarity: torch.Tensor,
    mismatch: torch.Tensor,
    other: torch.Tensor,
    weight: torch.Tensor,
    same_clip: torch.Tensor,
    margin: float,
) -> torch.Tensor:
    """The paper's loss: one positive and one negative pair a clip, the negative of another clip or of the same.

    The distance of unit vectors is sqrt(2 - 2 cos); the scores, which are no cosines, are squashed to be some.

    Args:
        similarity: [N, N] of clips and sounds of one instant.
        mismatch: [N] of clips and their own sound at another instant.
        other: int64 [N], the clip whose sound is the easy negative.
        weight: [N], 0 for clips that take no part.
        same_clip: bool [N], whose negative is the clip's own sound.
        margin: distance from which a negative pair costs nothing.
    """
    index = torch.arange(len(similarity), device=similarity.device)
    negative = torch.where(same_clip, mismatch, similarity[index, other])
    # The square root's slope is infinite at 0.
    distance = (2.0 - 2.0 * torch.tanh(torch.cat([similarity.diagonal(), negative]))).clamp(min=1e-8).sqrt()
    together = torch.arange(2 * len(similarity), device=similarity.device) < len(similarity)
    alone = (other == index) & ~same_clip
    negative_weight = torch.where(alone, torch.zeros_like(weight), weight)
    return contrastive_margin(distance, together, torch.cat([weight, negative_weight]), margin)


@torch.no_grad()
def sync_metrics(
    similarity: torch.Tensor,
    mismatch: torch.Tensor,
    weight: torch.Tensor,
    told: torch.Tensor,
    other: torch.Tensor,
    off: torch.Tensor,
    kinds: dict[str, tuple[float, float]],
    rows: slice,
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Two-way accuracies of this rank's rows: is the right sound scored above a wrong one?

    Args:
        similarity: [N, N] of clips and sounds of one instant.
        mismatch: [N] of clips and their own sound at another instant.
        weight: [N], 0 for clips that take no part.
        told: [N], the same with 0 also where the sound at the other instant is no negative.
        other: int64 [N], the clip whose sound is the easy negative.
        off: float64 [N], seconds between the two instants.
        kinds: accuracies of negatives of the same clip by name, with the least and (not reached) most seconds off.
        rows: this rank's rows.

    Returns:
        accuracy_easy: against another clip's sound; each of the kinds; accuracy: mean of easy and of the same clip's.
    """
    index = torch.arange(len(similarity), device=similarity.device)
    own = similarity.diagonal()
    easy, same = win_rate(own, similarity[index, other]), win_rate(own, mismatch)
    both = torch.where(told > 0, (easy + same) / 2, easy)
    paired = without_the_lonely(weight, other)
    found = {"accuracy": rate(both[rows], paired[rows]), "accuracy_easy": rate(easy[rows], paired[rows])}
    for name, (low, high) in kinds.items():
        inside = (off >= low - TOLERANCE) & (off < high - TOLERANCE)
        found[name] = rate(same[rows], (told * inside)[rows])
    return found
