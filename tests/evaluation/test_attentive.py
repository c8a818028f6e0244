import numpy as np
import pytest
import torch

from mmssl.errors import UserError
from mmssl.evaluation.attentive import SETTINGS, AttentiveProbe, AttentiveProbes, fit, fit_chosen
from mmssl.evaluation.linear import fit as fit_linear
from mmssl.evaluation.probing import Seen


def needle(n, tokens=8, width=8, seed=0):
    """The class is the sign of a pattern on one token, at a random place, among louder tokens that say nothing."""
    rng = np.random.default_rng(seed)
    labels, place = rng.integers(0, 2, n), rng.integers(0, tokens, n)
    x = np.zeros((n, 1, tokens, width))
    x[..., 2:] = rng.normal(size=(n, 1, tokens, width - 2))
    x[..., 1] = 6 * rng.normal(size=(n, 1, tokens))
    rows = np.arange(n)
    x[rows, 0, place, 0] = 3.0
    x[rows, 0, place, 1] = 2.0 * (2 * labels - 1)
    return x.astype(np.float16), labels


def order(n, seed=0):
    """Two patterns, one on each of two places: the class is which comes first, so that every average is the same."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    x = 0.1 * rng.normal(size=(n, 1, 2, 4))
    x[np.arange(n), 0, labels, 0] += 1
    x[np.arange(n), 0, 1 - labels, 1] += 1
    return x.astype(np.float16), labels


@pytest.mark.parametrize("kind", [needle, order])
def test_it_finds_what_no_average_holds(kind):
    (x, y), (test, truth) = kind(200), kind(200, seed=1)
    fitted, setting = fit_chosen(x, y, 2, groups=np.arange(200))
    attended = (fitted.probabilities(test)[0].mean(axis=1).argmax(axis=1) == truth).mean()
    averaged = fit_linear(x.mean(axis=(1, 2), dtype=np.float32), y, 2, (1e-2,))[0]
    linear = (averaged.logits(test.mean(axis=(1, 2), dtype=np.float32)).argmax(axis=1) == truth).mean()
    assert attended > 0.9
    assert attended - linear > 0.2
    assert setting in SETTINGS


def test_the_short_sums_are_cross_attention():
    torch.manual_seed(0)
    probes = AttentiveProbes(tokens=5, width=12, classes=3, count=2, seed=1, device="cpu")
    for part in probes.parts:
        for value in part.values():
            value.data = torch.randn_like(value)
    x = torch.randn(4, 5, 12)
    found = probes.logits(x)
    for told, part in zip(found, probes.parts, strict=True):
        heads = []
        for q, k, v in zip(part["query"], part["key"], part["value"], strict=True):
            keys, values = (x + part["place"]) @ k.T, x @ v.T  # [B, L, d]
            weight = ((keys * q).sum(dim=2) / len(q) ** 0.5).softmax(dim=1)
            heads.append((weight[..., None] * values).sum(dim=1))
        torch.testing.assert_close(told, torch.cat(heads, dim=1) @ part["head"].T + part["bias"], atol=1e-4, rtol=1e-4)


def test_settings_trained_side_by_side_do_not_touch_each_other_and_one_seed_gives_one_probe():
    x, y = needle(30)
    both, alone = fit(x, y, 2, SETTINGS[1:3], seed=4), fit(x, y, 2, SETTINGS[2:3], seed=4)
    np.testing.assert_allclose(both.probabilities(x)[1], alone.probabilities(x)[0], atol=1e-3)
    again = fit(x, y, 2, SETTINGS[2:3], seed=4)
    np.testing.assert_array_equal(alone.probabilities(x), again.probabilities(x))
    other = fit(x, y, 2, SETTINGS[2:3], seed=5)
    assert (other.probabilities(x) != alone.probabilities(x)).any()
    assert len(SETTINGS) <= 4


def test_as_a_probe_it_averages_no_views_and_needs_tokens():
    x, y = needle(30)
    seen = Seen(np.zeros((30, 2, 1), np.float32), np.concatenate([x, x], axis=1))
    answers = AttentiveProbe()(seen, y, seen.part(np.arange(7)), 2, groups=np.arange(30), seed=0, device="cpu")
    assert answers.scores.shape == (7, 2, 2)
    np.testing.assert_allclose(answers.scores.sum(axis=2), 1.0)
    assert (answers.chosen["learning_rate"], answers.chosen["weight_decay"]) in SETTINGS
    blind = Seen(seen.features)
    with pytest.raises(UserError, match="the attentive probe needs feature maps or tokens"):
        AttentiveProbe()(blind, y, blind, 2, groups=np.arange(30), seed=0, device="cpu")


def test_tokens_that_are_all_alike_are_at_chance_and_finite():
    y = np.arange(20) % 2
    found = fit(np.zeros((20, 1, 4, 8), np.float16), y, 2, SETTINGS[:1]).probabilities(np.zeros((2, 1, 4, 8)))
    np.testing.assert_allclose(found, 0.5, atol=0.05)
