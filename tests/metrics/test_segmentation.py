"""J and F on masks made by hand, and against slow, plain versions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mmssl.metrics.segmentation import boundaries, boundary_accuracy, bounding_boxes, region_similarity, widened


def square(top: int, left: int, side: int, size: int = 32) -> torch.Tensor:
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[top : top + side, left : left + side] = True
    return mask


def drawn(text: str) -> torch.Tensor:
    return torch.tensor([[c == "#" for c in line] for line in text.split()])


def test_region_similarity_of_squares() -> None:
    truth = square(8, 8, 8)
    found = torch.stack([square(8, 8, 8), square(8, 12, 8), square(20, 20, 8), square(0, 0, 0), square(8, 8, 4)])
    assert region_similarity(found, truth.expand(5, -1, -1)).tolist() == pytest.approx([1, 1 / 3, 0, 0, 1 / 4])
    nothing = square(0, 0, 0)
    assert float(region_similarity(nothing, nothing)) == 1.0


def test_a_boundary_is_where_a_pixel_differs_from_the_next() -> None:
    found = boundaries(drawn("..... .##.. .##.. ....."))
    assert torch.equal(found, drawn("###.. #.#.. ###.. ....."))
    assert not boundaries(torch.ones(4, 4, dtype=torch.bool)).any()  # the picture's edge is no boundary


def test_widening_is_by_a_disc() -> None:
    dot = torch.zeros(1, 9, 9, dtype=torch.bool)
    dot[0, 4, 4] = True
    y, x = torch.meshgrid(torch.arange(9), torch.arange(9), indexing="ij")
    for radius in (0, 1, 2, 3):
        assert torch.equal(widened(dot, radius)[0], (y - 4) ** 2 + (x - 4) ** 2 <= radius**2)


def test_boundary_accuracy_within_and_beyond_the_tolerance() -> None:
    truth = square(8, 8, 10)[None]
    assert float(boundary_accuracy(truth, truth)) == 1.0
    assert float(boundary_accuracy(square(8, 9, 10)[None], truth, tolerance=1)) == 1.0
    assert float(boundary_accuracy(square(8, 11, 10)[None], truth, tolerance=3)) == 1.0
    assert 0.2 < float(boundary_accuracy(square(8, 11, 10)[None], truth, tolerance=1)) < 0.9
    assert float(boundary_accuracy(square(20, 20, 6)[None], square(2, 2, 6)[None], tolerance=1)) == 0.0


def left_of(*edges: int, size: int = 32) -> torch.Tensor:
    """Bool [1, size, size]: upright bands that begin and end in turn at the edges; the first begins at the left."""
    inside = torch.zeros(size, dtype=torch.bool)
    for edge in edges:
        inside[:edge] ^= True
    return inside.expand(1, size, size).clone()


def test_boundary_accuracy_of_upright_edges() -> None:
    """Every edge is one column of pixels: precision and recall count edges."""
    truth = left_of(8)
    assert float(boundary_accuracy(left_of(12), truth, tolerance=3)) == 0.0
    assert float(boundary_accuracy(left_of(12), truth, tolerance=4)) == 1.0
    assert float(boundary_accuracy(left_of(8, 20), truth, tolerance=1)) == pytest.approx(2 / 3)  # 1/2 and 1
    assert float(boundary_accuracy(truth, left_of(8, 16, 24), tolerance=1)) == pytest.approx(1 / 2)  # 1 and 1/3
    assert float(boundary_accuracy(left_of(8, 20), left_of(8, 24), tolerance=1)) == pytest.approx(1 / 2)
    assert float(region_similarity(left_of(12), truth)) == pytest.approx(8 / 12)


def test_an_edge_that_is_right_on_the_upper_half_alone() -> None:
    truth, found = left_of(8), left_of(8)
    found[:, 16:, :24] = True
    # The true edge: 32 pixels, 17 of them within one pixel of the found edge. The found edge: 15 pixels upright, 17
    # level, 16 upright; within one pixel of the true edge are the upper 15 and the first two of the level part.
    precision, recall = 17 / 48, 17 / 32
    expected = 2 * precision * recall / (precision + recall)
    assert float(boundary_accuracy(found, truth, tolerance=1)) == pytest.approx(expected)


def test_boundary_accuracy_where_a_side_is_empty() -> None:
    nothing, something = square(0, 0, 0)[None], square(8, 8, 8)[None]
    assert float(boundary_accuracy(nothing, nothing)) == 1.0
    assert float(boundary_accuracy(nothing, something)) == 0.0
    assert float(boundary_accuracy(something, nothing)) == 0.0


def slow_boundary_accuracy(found: np.ndarray, truth: np.ndarray) -> float:
    """With distances between all boundary pixels."""
    reach = math.ceil(0.008 * math.hypot(*truth.shape))

    def boundary(mask: np.ndarray) -> np.ndarray:
        padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
        points = [
            (y, x)
            for y, x in np.ndindex(mask.shape)
            if any(mask[y, x] != padded[y + dy, x + dx] for dy, dx in ((0, 1), (1, 0), (1, 1)))
        ]
        return np.array(points)

    ours, theirs = boundary(found), boundary(truth)
    apart = np.sqrt(((ours[:, None] - theirs[None]) ** 2).sum(axis=2))
    precision, recall = (apart.min(axis=1) <= reach).mean(), (apart.min(axis=0) <= reach).mean()
    return float(2 * precision * recall / max(precision + recall, 1e-12))


def test_boundary_accuracy_is_that_of_the_distances() -> None:
    """On blobs that do not touch the picture's edge, where corner pixels have their own rule."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:60, :90]
    for _ in range(10):
        (cy, cx, r), (dy, dx, s) = rng.uniform((20, 20, 5), (40, 70, 15)), rng.uniform(-4, 4, 3)
        truth = (y - cy) ** 2 + (x - cx) ** 2 < r**2
        found = (y - cy - dy) ** 2 + 1.3 * (x - cx - dx) ** 2 < (r + s / 3) ** 2
        ours = boundary_accuracy(torch.from_numpy(found)[None], torch.from_numpy(truth)[None])
        assert float(ours) == pytest.approx(slow_boundary_accuracy(found, truth), abs=1e-9)


def test_bounding_boxes() -> None:
    masks = torch.stack([drawn("..... .#... ...#. ....."), torch.zeros(4, 5, dtype=torch.bool)])
    assert torch.equal(bounding_boxes(masks)[0], drawn("..... .###. .###. ....."))
    assert not bounding_boxes(masks)[1].any()
