"""The losses of the localization family against loops over scalars in float64, gradients included, and closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from mmssl.losses.false_negatives import (
    PUBLISHED_CANDIDATES,
    distribution_distance,
    false_negative_terms,
    foreground_mean,
)
from mmssl.losses.multiple_instance import multiple_instance_nce
from mmssl.losses.similarity import place_similarities
from mmssl.losses.space_batch_softmax import log_evidence, space_batch_nce
from mmssl.losses.tri_map import tri_map_nce

COUNT, PLACES, DIMENSION = 5, 6, 8
WEIGHT = torch.tensor([1.0, 1, 0, 1, 1])
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def cosines(seed: int = 0, shape: tuple[int, ...] = (COUNT, COUNT, PLACES)) -> torch.Tensor:
    """Similarities in (-1, 1), of both signs."""
    return torch.tanh(torch.randn(shape, generator=torch.Generator().manual_seed(seed)))


def sigmoid(x: torch.Tensor) -> torch.Tensor:
    return 1 / (1 + (-x).exp())


def valid(weight: torch.Tensor) -> list[int]:
    return [i for i in range(len(weight)) if weight[i] > 0]


def slow_tri_map(s: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Chen et al., equations written out."""
    s, rows, total = s.double(), valid(weight), torch.zeros((), dtype=torch.float64)

    def mean(values: torch.Tensor, shares: list[torch.Tensor]) -> torch.Tensor:
        return sum((w * v for w, v in zip(shares, values, strict=True)), torch.zeros(())) / sum(shares)

    for i in rows:
        sounding = [mean(s[i, j], [sigmoid((v - 0.65) / 0.03) for v in s[i, j]]) for j in range(len(s))]
        silent = mean(s[i, i], [1 - sigmoid((v - 0.4) / 0.03) for v in s[i, i]])
        exponents = [(sounding[j] / 0.07).exp() for j in rows] + [(silent / 0.07).exp()]
        total = total - ((sounding[i] / 0.07).exp() / sum(exponents)).log()
    return total / len(rows)


def slow_multiple_instance(s: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mo and Morgado, ECCV 2022, equations written out."""
    s, rows, total = s.double(), valid(weight), torch.zeros((), dtype=torch.float64)
    best = {(i, j): (s[i, j].max() / 0.03).exp() for i in rows for j in rows}
    for i in rows:
        total = total - (best[i, i] / sum(best[i, j] for j in rows)).log() / 2
        total = total - (best[i, i] / sum(best[j, i] for j in rows)).log() / 2
    return total / len(rows)


def slow_space_batch(b: torch.Tensor, s: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mo and Morgado, NeurIPS 2022, equations written out."""
    b, s, rows, total = b.double(), s.double(), valid(weight), torch.zeros((), dtype=torch.float64)
    for i in rows:
        evidence = {}
        for j in rows:
            evidence[j] = torch.zeros((), dtype=torch.float64)
            for p in range(PLACES):
                over_batch = b[i, j, p].exp() / sum(b[i, k, p].exp() for k in rows)
                over_space = s[i, j, p].exp() / sum(s[i, j, q].exp() for q in range(PLACES))
                evidence[j] = evidence[j] + over_batch * over_space
        total = total - (evidence[i] / sum(evidence.values())).log()
    return total / len(rows)


def slow_distance(one: torch.Tensor, other: torch.Tensor, rows: list[int]) -> torch.Tensor:
    one, other, total = one.double(), other.double(), torch.zeros((), dtype=torch.float64)
    for i in rows:
        for j in rows:
            a, b = (x[i, j].exp() / sum(x[i, k].exp() for k in rows) for x in (one, other))
            total = total + (a - b).abs()
    return total / len(rows) / 128  # published: a mean over 128 x 128 entries


def slow_false_negatives(places: torch.Tensor, sounds: torch.Tensor, weight: torch.Tensor) -> list[torch.Tensor]:
    """Sun et al., as their published code computes it in a batch of 128, written out."""
    places, sounds, rows = places.double(), sounds.double(), valid(weight)
    pairs = torch.stack([torch.stack([(v @ p).max() for v in sounds]) for p in places])
    foreground = []
    for i in range(COUNT):
        own = places[i].T @ sounds[i]
        scaled = (own - own.min()) / (own.max() - own.min() + 1e-5)
        kept = [places[i, :, p] for p in range(PLACES) if scaled[p] > 0.6]
        foreground.append(sum(kept, torch.zeros(DIMENSION, dtype=torch.float64)) / PLACES)
    f, pictures = torch.stack(foreground), torch.stack([p.mean(dim=1) for p in places])
    alike = {name: torch.stack([x @ y for x in v for y in v]).reshape(COUNT, COUNT) / 0.03 for name, v in
             (("sounds", sounds), ("foreground", f), ("pictures", pictures))}  # fmt: skip
    return [
        slow_distance(alike["sounds"], pairs / 0.03, rows),
        slow_distance(alike["sounds"], alike["foreground"], rows),
        slow_distance(alike["pictures"], pairs / 0.03, rows),
    ]


def assert_same(ours: torch.Tensor, theirs: torch.Tensor, *leaves: torch.Tensor) -> None:
    torch.testing.assert_close(ours.double(), theirs.double(), atol=1e-5, rtol=1e-5)
    for a, b in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("weight", [torch.ones(COUNT), WEIGHT], ids=["all", "a hole"])
def test_tri_map_equals_its_equations(weight: torch.Tensor) -> None:
    similarity = cosines().requires_grad_()
    assert_same(tri_map_nce(similarity, weight), slow_tri_map(similarity, weight), similarity)


@pytest.mark.parametrize("weight", [torch.ones(COUNT), WEIGHT], ids=["all", "a hole"])
def test_multiple_instance_equals_its_equations(weight: torch.Tensor) -> None:
    similarity = cosines(1).requires_grad_()
    assert_same(multiple_instance_nce(similarity, weight), slow_multiple_instance(similarity, weight), similarity)


@pytest.mark.parametrize("weight", [torch.ones(COUNT), WEIGHT], ids=["all", "a hole"])
def test_space_batch_equals_its_equations(weight: torch.Tensor) -> None:
    batch, space = (3 * cosines(2)).requires_grad_(), (3 * cosines(3)).requires_grad_()
    assert_same(space_batch_nce(batch, space, weight), slow_space_batch(batch, space, weight), batch, space)


@pytest.mark.parametrize("weight", [torch.ones(COUNT), WEIGHT], ids=["all", "a hole"])
@pytest.mark.parametrize("term", [0, 1, 2])
def test_false_negative_terms_equal_their_equations(weight: torch.Tensor, term: int) -> None:
    places = F.normalize(cosines(4, (COUNT, DIMENSION, PLACES)).double(), dim=1).requires_grad_()
    sounds = F.normalize(cosines(5, (COUNT, DIMENSION)).double(), dim=1).requires_grad_()
    similarity = place_similarities(places[..., None], sounds)
    ours = false_negative_terms(places, sounds, similarity, weight)[term]
    theirs = slow_false_negatives(places, sounds, weight)[term]
    torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=1e-5)
    leaves = (places,) if term == 2 else (places, sounds)
    for a, b in zip(
        torch.autograd.grad(ours, leaves, allow_unused=True),
        torch.autograd.grad(theirs, leaves, allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("holes", [0, 3])
def test_the_distance_is_the_published_one_at_128_valid_rows(holes: int) -> None:
    rows = torch.arange(128 + holes) >= holes
    one, other = (5 * cosines(seed, (128 + holes,) * 2) for seed in (9, 10))
    published = F.l1_loss(*(torch.softmax(x[rows][:, rows], dim=1) for x in (one, other)))
    torch.testing.assert_close(distribution_distance(one, other, rows.float()), published)


# ------------------------------------------------------------------------------------------------------ closed forms


@pytest.mark.parametrize("count", [4, 32, 128, 256])
@pytest.mark.parametrize("near", [False, True], ids=["all", "five rivals a row"])
def test_the_distance_does_not_depend_on_the_number_of_candidates(count: int, near: bool) -> None:
    """Rows that are as far apart as can be: each of two distributions sure of another candidate."""
    one = 50 * torch.eye(count)
    apart = (torch.arange(count)[:, None] - torch.arange(count)[None, :]) % count
    rivals = torch.minimum(apart, count - apart) <= 2 if near else None
    found = float(distribution_distance(one, one.roll(1, dims=1), torch.ones(count), rivals))
    assert found == pytest.approx(2 / PUBLISHED_CANDIDATES, rel=1e-5)
    # Random rows of one kind: in a smaller batch the distance is the same or less, never more.
    drawn = [distribution_distance(cosines(s, (n, n)), cosines(s + 1, (n, n)), torch.ones(n))
             for s, n in ((20, count), (20, 2 * count))]  # fmt: skip
    assert float(drawn[0]) < 1.1 * float(drawn[1])


def test_equal_similarities_give_the_log_of_the_number_of_candidates() -> None:
    alike, ones = torch.full((7, 7, 4), 0.3), torch.ones(7)
    assert float(multiple_instance_nce(alike, ones)) == pytest.approx(math.log(7), abs=1e-5)
    assert float(space_batch_nce(alike, alike, ones)) == pytest.approx(math.log(7), abs=1e-5)
    assert float(tri_map_nce(alike, ones)) == pytest.approx(math.log(8), abs=1e-5), "and one hard negative"
    assert float(distribution_distance(alike[..., 0], 9 * alike[..., 0], ones)) == 0.0


def test_negative_similarities_make_no_positive_of_the_diagonal() -> None:
    """The published mask multiplies the diagonal by -99: with s = -0.5 that is a logit of +49.5 / 0.07."""
    similarity = torch.full((4, 4, 3), -0.5)
    similarity[torch.arange(4), torch.arange(4)] = -0.1  # the right pair is clearly the best
    assert float(tri_map_nce(similarity, torch.ones(4))) < math.log(2) + 0.05
    assert float(tri_map_nce(similarity, torch.ones(4))) > math.log(2) - 1e-6, "its silent places are as close"


def test_the_grey_zone_of_the_tri_map_is_left_alone() -> None:
    """Between the two thresholds a place is neither positive nor negative where others are: no gradient."""
    similarity = torch.full((2, 2, 3), -0.2)
    similarity[:, :, 0], similarity[:, :, 1] = 0.95, 0.525
    similarity.requires_grad_()
    (gradient,) = torch.autograd.grad(tri_map_nce(similarity, torch.ones(2), softness=0.01), similarity)
    size = gradient.diagonal(dim1=0, dim2=1).abs()
    assert float(size[1].max()) < 0.01 * float(size[0].min())
    assert float(size[2].min()) > 0


def test_tiny_weights_of_the_tri_map_do_not_underflow() -> None:
    similarity = torch.full((3, 3, 4), -1.0).requires_grad_()
    loss = tri_map_nce(similarity, torch.ones(3), softness=0.005)  # sigmoid(-330) is 0 in float32
    assert math.isfinite(float(loss.detach()))
    assert bool(torch.isfinite(torch.autograd.grad(loss, similarity)[0]).all())


def test_evidence_is_a_chance() -> None:
    evidence = log_evidence(20 * cosines(6), 20 * cosines(7), torch.ones(COUNT)).exp()
    assert bool((evidence > 0).all())
    assert bool((evidence <= 1 + 1e-6).all())
    sharp = torch.full((3, 3, 4), -80.0)
    for i in range(3):
        sharp[i, i, i] = 80.0  # one place alone goes with the own sound
    torch.testing.assert_close(log_evidence(sharp, sharp, torch.ones(3)).diagonal(), torch.zeros(3))
    far = log_evidence(sharp, sharp, torch.ones(3))[0, 1]
    assert math.isfinite(float(far)), "a product of two tiny chances stays a number"


def test_a_constant_map_has_no_foreground_but_no_nan() -> None:
    places = torch.randn(2, 4, 3)
    assert torch.equal(foreground_mean(places, torch.ones(2, 3)), torch.zeros(2, 4))


LOSSES: dict[str, Loss] = {
    "tri_map": lambda s, w: tri_map_nce(s, w),
    "multiple_instance": lambda s, w: multiple_instance_nce(s, w),
    "space_batch": lambda s, w: space_batch_nce(s, s.flip(2), w),
    "distance": lambda s, w: distribution_distance(s[..., 0], s[..., 1], w),
}


@pytest.mark.parametrize("name", LOSSES)
def test_holes_are_as_if_they_were_not_there_and_nothing_valid_gives_zero(name: str) -> None:
    loss, similarity = LOSSES[name], cosines(8)
    rows = torch.tensor(valid(WEIGHT))
    part = similarity[rows][:, rows]
    spoiled = similarity.clone()
    spoiled[2], spoiled[:, 2] = 1e3, -1e3
    torch.testing.assert_close(loss(similarity, WEIGHT), loss(part, torch.ones(len(rows))))
    torch.testing.assert_close(loss(spoiled, WEIGHT), loss(similarity, WEIGHT))
    similarity.requires_grad_()
    nothing = loss(similarity, torch.zeros(COUNT))
    assert float(nothing) == 0.0
    assert torch.equal(torch.autograd.grad(nothing, similarity)[0], torch.zeros_like(similarity))
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(loss(similarity[order][:, order], WEIGHT[order]), loss(similarity, WEIGHT))
    assert loss(similarity.bfloat16(), WEIGHT).dtype == torch.float32
