"""How much moves, where and when: cheap frame differences that choose frames and crops worth looking at.

All numbers end as whole numbers (10^-6 of the grey range), whose sums are exact: the choices made from them are the
same bits whatever the device and whatever other rows the batch holds.
"""

from __future__ import annotations

import functools
import itertools

import torch
from torch.nn import functional

UNIT = 1_000_000  # whole numbers a full grey range


def even_cells(frames: torch.Tensor, cell: int = 4, contrast: float = 0.2) -> torch.Tensor:
    """Frames averaged over cells and brought to one mean and contrast.

    The averages quiet the noise of the codec; the common contrast makes a change of brightness or exposure no motion.

    Args:
        frames: uint8 [B, T, 3, H, W].
        cell: side of a cell in pixels, even; what is left at the lower and right edge is dropped.
        contrast: standard deviation that every frame is brought to, in grey ranges.

    Returns:
        Int64 [B, T, H // cell, W // cell] around 0, in millionths of the grey range.

    Raises:
        ValueError: the cell is odd or larger than a frame.
    """
    batch, count, _, height, width = frames.shape
    if min(height, width) < cell or cell % 2:
        raise ValueError(f"cells of {cell} pixels must be even and fit into frames of {height}x{width}")
    # Every second pixel tells enough. Sums of so few bytes are exact in float32, in any order.
    frames = frames[..., : height // cell * cell : 2, : width // cell * cell : 2]
    grey = functional.avg_pool2d(frames.flatten(0, 1).float(), cell // 2, divisor_override=1).sum(dim=1)
    cells = grey.double() / (3 * 255 * (cell // 2) ** 2)
    cells = cells - cells.mean(dim=(-2, -1), keepdim=True)
    std = cells.square().mean(dim=(-2, -1), keepdim=True).sqrt()
    # A flat picture has no contrast to bring up: below 2 % of the grey range only noise would grow.
    even = contrast * cells / std.clamp(min=0.02)
    return (even * UNIT).round().long().reshape(batch, count, *cells.shape[-2:])


def motion_map(cells: torch.Tensor) -> torch.Tensor:
    """Int64 [B, h, w]: difference of neighbouring frames, summed over time, of cells int64 [B, T, h, w]."""
    return cells.diff(dim=1).abs().sum(dim=1)


def frame_distances(cells: torch.Tensor) -> torch.Tensor:
    """How unlike every two frames are.

    Not the motion passed between them: something that swings out and back leaves two frames alike, and no eye could
    say which came first.

    Args:
        cells: int64 [B, T, h, w], of `even_cells`.

    Returns:
        Int64 [B, T, T]: mean absolute difference over the cells, in millionths of the grey range.
    """
    flat = cells.flatten(2).double()
    return (torch.cdist(flat, flat, p=1.0) / flat.shape[-1]).round().long()


def busiest_square(motion: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where a sliding square sees the most motion.

    Args:
        motion: int64 [B, h, w] >= 0, motion of each cell, summed over time.
        side: side of the square in cells, at most h and w.

    Returns:
        (top, left), int64 [B] each, in cells; the first place in reading order among equals.

    Raises:
        ValueError: the square does not fit.
    """
    height, width = motion.shape[-2:]
    if not 1 <= side <= min(height, width):
        raise ValueError(f"a square of {side} cells does not fit into {height}x{width} cells")
    sums = functional.pad(motion.cumsum(1).cumsum(2), (1, 0, 1, 0))
    inside = sums[:, side:, side:] - sums[:, :-side, side:] - sums[:, side:, :-side] + sums[:, :-side, :-side]
    rows, columns = inside.shape[-2:]
    # The place itself breaks ties, which `argmax` alone does not promise on every device.
    place = torch.arange(rows * columns, device=motion.device)
    best = (inside.flatten(1) * (rows * columns) - place).argmax(dim=1)
    return best // columns, best % columns


def frame_tuples(count: int, size: int, least_gap: int, most_gap: int) -> torch.Tensor:
    """Int64 [N, size]: every rising tuple of frame numbers below `count` whose steps lie in [least_gap, most_gap].

    Raises:
        ValueError: no such tuple exists.
    """
    tuples = [
        (start, *(start + step for step in itertools.accumulate(gaps)))
        for gaps in itertools.product(range(least_gap, most_gap + 1), repeat=size - 1)
        for start in range(count - sum(gaps))
    ]
    if not tuples:
        raise ValueError(f"{size} frames at least {least_gap} apart do not fit into {count} frames")
    return torch.tensor(tuples)


def order_slack(distances: torch.Tensor, tuples: torch.Tensor) -> torch.Tensor:
    """How plainly the order of each tuple's frames can be seen.

    Walking through the frames in the order of time is a path; its length is the sum of the differences between
    neighbours. Where a motion goes on, every other order is a longer way round; where nothing moves, or where it
    swings back faster than the frames follow each other, some other order is as short.

    Args:
        distances: int64 [B, T, T], of `frame_distances`.
        tuples: int64 [N, K], rising frame numbers below T.

    Returns:
        Int64 [B, N]: length of the shortest other order less that of the order of time; 0 or less where it cannot be
        seen.
    """
    count = distances.shape[-1]
    flat = distances.flatten(1)
    size = tuples.shape[1]
    # Difference of each two of a tuple's frames, K (K - 1) / 2 tables of [B, N].
    pair = {
        (i, j): flat.index_select(1, tuples[:, i] * count + tuples[:, j])
        for i, j in itertools.combinations(range(size), 2)
    }

    def length(order: tuple[int, ...]) -> torch.Tensor:
        return functools.reduce(torch.add, (pair[min(step), max(step)] for step in itertools.pairwise(order)))

    # An order and its reverse are one path.
    orders = [order for order in itertools.permutations(range(size)) if order[0] < order[-1]]
    others = functools.reduce(torch.minimum, (length(order) for order in orders[1:]))
    return others - length(orders[0])


def frame_pairs(count: int, least: int, most: int) -> torch.Tensor:
    """Int64 [N, 2]: every (b, d), b < d, of frame numbers below `count` with d - b in [least, most].

    Raises:
        ValueError: no such pair exists.
    """
    pairs = [(b, d) for b in range(count) for d in range(b + least, min(b + most, count - 1) + 1)]
    if not pairs:
        raise ValueError(f"two frames at least {least} apart do not fit into {count} frames")
    return torch.tensor(pairs)


def beside(count: int, pairs: torch.Tensor, least: int, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Which frames lie between the two of a pair, and which lie outside, near but not too near.

    Args:
        count: frames T.
        pairs: int64 [N, 2], of `frame_pairs`.
        least: frames from an outer frame to the end of the pair that is next to it, at least.
        most: at most.

    Returns:
        Two bool [N, T].
    """
    frame = torch.arange(count, device=pairs.device)
    first, last = pairs[:, :1], pairs[:, 1:]
    before, behind = first - frame, frame - last
    outside = ((before >= least) & (before <= most)) | ((behind >= least) & (behind <= most))
    return (frame > first) & (frame < last), outside


def unlike_both(distances: torch.Tensor, pairs: torch.Tensor, threshold: int) -> torch.Tensor:
    """Bool [B, N, T]: frames that look like neither of a pair whose two frames are unlike each other, too.

    Args:
        distances: int64 [B, T, T], of `frame_distances`.
        pairs: int64 [N, 2].
        threshold: least difference, in millionths of the grey range.
    """
    unlike = distances >= threshold
    apart = unlike[:, pairs[:, 0], pairs[:, 1]]
    return unlike[:, pairs[:, 0]] & unlike[:, pairs[:, 1]] & apart[:, :, None]
