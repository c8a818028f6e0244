"""MIL-NCE against slow sums, its floor of 0, and a planted misalignment."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mmssl.losses.mil_nce import mil_nce
from mmssl.losses.similarity import bag_products


def slow_mil_nce(
    logits: torch.Tensor, sentences: torch.Tensor, weight: torch.Tensor, same: torch.Tensor | None = None
) -> torch.Tensor:
    """The definition, term by term: own bag over own bag, other bags, and other clips against the own bag."""
    logits = logits.double()
    count, bag = sentences.shape
    total, rows = torch.zeros((), dtype=torch.float64), 0.0
    for i in range(count):
        own = [logits[i, i, k].exp() for k in range(bag) if sentences[i, k]]
        if weight[i] == 0 or not own:
            continue
        negatives = []
        for j in range(count):
            if j == i or weight[j] == 0:
                continue
            for k in range(bag):
                if sentences[j, k] and not (same is not None and same[i, j, k]):
                    negatives.append(logits[i, j, k].exp())
                if sentences[i, k] and not (same is not None and same[j, i, k]):
                    negatives.append(logits[j, i, k].exp())
        positive = torch.stack(own).sum()
        everything = positive + (torch.stack(negatives).sum() if negatives else 0)
        total = total - weight[i].double() * (positive / everything).log()
        rows += float(weight[i])
    return total / rows


def random_case(seed: int, count: int = 6, bag: int = 3) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, count, bag, generator=generator)
    sentences = torch.rand(count, bag, generator=generator) < 0.7
    sentences[0] = True
    sentences[1] = False  # a clip without a sentence
    weight = torch.ones(count)
    weight[2] = 0
    same = torch.rand(count, count, bag, generator=generator) < 0.2
    return logits, sentences, weight, same


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("with_same", [False, True])
def test_equals_the_definition_gradients_included(seed: int, with_same: bool) -> None:
    logits, sentences, weight, same = random_case(seed)
    weight[1] = 0  # without a sentence it is neither a row nor anybody's negative
    logits.requires_grad_()
    given = same if with_same else None
    ours, slow = mil_nce(logits, sentences, weight, given), slow_mil_nce(logits, sentences, weight, given)
    torch.testing.assert_close(ours.double(), slow, atol=1e-5, rtol=1e-5)
    ours_gradient, slow_gradient = (torch.autograd.grad(loss, logits)[0] for loss in (ours, slow))
    torch.testing.assert_close(ours_gradient, slow_gradient, atol=1e-5, rtol=1e-5)


def test_masked_clips_sentences_and_equal_sentences_get_no_gradient() -> None:
    logits, sentences, weight, same = random_case(1)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(mil_nce(logits, sentences, weight, same), logits)
    assert torch.equal(gradient[2], torch.zeros_like(gradient[2]))
    assert torch.equal(gradient[:, 2], torch.zeros_like(gradient[:, 2]))
    assert not gradient.movedim(0, 2)[~sentences].any()
    others = same & ~torch.eye(6, dtype=torch.bool)[:, :, None]
    assert not gradient[others].any()
    assert gradient[0, 0].abs().min() > 0  # own sentences stay positives, whatever `same` says of them


def test_a_bag_of_one_is_both_cross_entropies_over_one_set_of_candidates() -> None:
    logits = torch.randn(5, 5)
    candidates = torch.cat([logits, logits.T[~torch.eye(5, dtype=torch.bool)].reshape(5, 4)], dim=1)
    reference = nn.functional.cross_entropy(candidates, torch.arange(5))
    ours = mil_nce(logits[:, :, None], torch.ones(5, 1, dtype=torch.bool), torch.ones(5))
    torch.testing.assert_close(ours, reference)


def test_floor_is_zero_where_the_positive_block_counted_twice_would_leave_log_two() -> None:
    logits = torch.full((4, 4, 3), -30.0)
    logits[range(4), range(4)] = 30.0
    present, weight = torch.ones(4, 3, dtype=torch.bool), torch.ones(4)
    assert float(mil_nce(logits, present, weight)) == pytest.approx(0.0, abs=1e-6)
    flat = logits.double()
    twice = torch.cat([flat.reshape(4, -1), flat.permute(1, 0, 2).reshape(4, -1)], dim=1)  # as in the public code
    public = (twice.logsumexp(1) - flat[range(4), range(4)].logsumexp(1)).mean()
    assert float(public) == pytest.approx(math.log(2), abs=1e-6)


def test_uniform_logits_give_the_log_of_candidates_over_bag() -> None:
    count, bag = 7, 3
    loss = mil_nce(torch.zeros(count, count, bag), torch.ones(count, bag, dtype=torch.bool), torch.ones(count))
    assert float(loss) == pytest.approx(math.log((2 * count - 1) * bag / bag), abs=1e-5)


def test_order_within_bags_and_of_the_batch_does_not_matter() -> None:
    logits, sentences, weight, same = random_case(3)
    loss = mil_nce(logits, sentences, weight, same)
    shuffled = torch.stack([torch.randperm(3, generator=torch.Generator().manual_seed(j)) for j in range(6)])
    columns = torch.arange(6)[:, None]
    moved = mil_nce(logits[:, columns, shuffled], sentences[columns, shuffled], weight, same[:, columns, shuffled])
    torch.testing.assert_close(moved, loss)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    moved = mil_nce(logits[order][:, order], sentences[order], weight[order], same[order][:, order])
    torch.testing.assert_close(moved, loss)


def test_no_valid_clip_gives_zero_with_a_zero_gradient() -> None:
    logits = torch.randn(3, 3, 2, requires_grad=True)
    for sentences, weight in (
        (torch.ones(3, 2, dtype=torch.bool), torch.zeros(3)),
        (torch.zeros(3, 2, dtype=torch.bool), torch.ones(3)),
    ):
        loss = mil_nce(logits, sentences, weight)
        assert float(loss) == 0.0
        assert torch.equal(torch.autograd.grad(loss, logits)[0], torch.zeros_like(logits))


def recall_after_training(bag: int) -> float:
    """R@1 of 256 held-out true pairs, trained on bags whose true sentence lies at one of four places.

    `bag` 4 gives the loss the whole bag; `bag` 1 only its first place, as a plain pairing would.
    """
    generator = torch.Generator().manual_seed(0)

    def render(count: int, latent: torch.Tensor, mixing: torch.Tensor) -> torch.Tensor:
        return latent @ mixing + 0.3 * torch.randn(count, mixing.shape[1], generator=generator)

    seen, heard = torch.randn(8, 24, generator=generator), torch.randn(8, 24, generator=generator)
    torch.manual_seed(0)
    video, text = nn.Linear(24, 16), nn.Linear(24, 16)
    optimizer = torch.optim.Adam([*video.parameters(), *text.parameters()], lr=0.01)
    unit = nn.functional.normalize
    for _ in range(150):
        latent = torch.randn(32, 8, generator=generator)
        spoken = torch.randn(32, 4, 8, generator=generator)
        spoken[torch.arange(32), torch.randint(4, (32,), generator=generator)] = latent
        sentences = render(128, spoken.flatten(0, 1), heard).reshape(32, 4, -1)[:, :bag]
        logits = bag_products(unit(video(render(32, latent, seen)), dim=1), unit(text(sentences), dim=2)) / 0.1
        loss = mil_nce(logits, torch.ones(32, bag, dtype=torch.bool), torch.ones(32))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        latent = torch.randn(256, 8, generator=generator)
        similarity = unit(video(render(256, latent, seen)), dim=1) @ unit(text(render(256, latent, heard)), dim=1).T
    return float((similarity.argmax(dim=1) == torch.arange(256)).float().mean())


def test_finds_sentences_that_come_early_or_late_where_plain_pairing_does_not() -> None:
    bags, plain = recall_after_training(bag=4), recall_after_training(bag=1)
    assert bags > plain + 0.10, f"R@1 {bags:.2f} with bags, {plain:.2f} without"
    assert bags > 0.5
