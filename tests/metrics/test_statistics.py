import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmssl.metrics.statistics import (
    Interval,
    at_chance,
    bootstrap,
    bootstrap_pretrainings,
    bootstrap_score,
    chance_interval,
    far_above_floor,
    paired_difference,
    verdict,
)


def test_bootstrap_equals_scipy_for_one_seed():
    values = np.random.default_rng(1).normal(0.4, 1.0, size=300)
    ours = bootstrap(values)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=0).confidence_interval
    assert ours.mean == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.015)
    assert ours.high == pytest.approx(theirs.high, abs=0.015)


def test_interval_holds_the_truth_19_times_of_20():
    rng = np.random.default_rng(5)
    held = 0
    for trial in range(60):
        found = bootstrap((rng.random(200) < 0.3).astype(float), seed=trial)
        held += found.low <= 0.3 <= found.high
    assert 51 <= held <= 60


def test_both_seeds_and_clips_widen_the_interval():
    rng = np.random.default_rng(0)
    by_seed, by_clip = rng.normal(size=(8, 1)), rng.normal(size=(1, 50))
    width = [np.diff((i.low, i.high))[0] for i in map(bootstrap, (by_clip + 0 * by_seed, by_clip + by_seed))]
    assert width[1] > 1.5 * width[0]


def test_grouped_clips_are_resampled_together():
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(size=20), 25)
    alone, together = bootstrap(values), bootstrap(values, groups=np.repeat(np.arange(20), 25))
    assert together.high - together.low > 3 * (alone.high - alone.low)


def test_clips_not_judged_are_left_out_of_the_mean():
    assert bootstrap(np.array([[1.0, np.nan], [0.0, 1.0]])).mean == pytest.approx(2 / 3)


def test_pairing_removes_what_both_share():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=(5, 200))
    found = paired_difference(hard + 0.1, hard)
    assert (found.low, found.high) == pytest.approx((0.1, 0.1))
    assert verdict(found) == "above"
    with pytest.raises(ValueError, match=r"got \(5, 200\) and \(5, 199\)"):
        paired_difference(hard, hard[:, 1:])


def test_one_pretraining_each_is_the_paired_difference():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.1, 1.0, (5, 80)), rng.normal(size=(5, 80))
    a[:, 3] = b[:, 3] = np.nan
    groups = np.arange(80) // 3
    wanted, alone = paired_difference(a, b, groups), bootstrap(a, groups)
    found, one = bootstrap_pretrainings(a[None], b[None], groups), bootstrap_pretrainings(a[None], groups=groups)
    assert (found.mean, found.low, found.high) == pytest.approx((wanted.mean, wanted.low, wanted.high), abs=1e-12)
    assert (one.mean, one.low, one.high) == pytest.approx((alone.mean, alone.low, alone.high), abs=1e-12)
    many = bootstrap_pretrainings(np.stack([a] * 4), np.stack([b] * 2), groups)
    assert (many.mean, many.low, many.high) == pytest.approx((wanted.mean, wanted.low, wanted.high), abs=1e-12)


@pytest.mark.parametrize(("ours", "theirs"), [(3, 3), (3, 5), (8, 8)])
def test_the_spread_of_pretrainings_has_its_variance(ours, theirs):
    """Where pretrainings alone differ, the width is that of a difference of means: s1^2 / P + s2^2 / Q, unbiased."""
    widths = []
    for trial in range(60):
        rng = np.random.default_rng(trial)
        a, b = rng.normal(0, 0.1, (ours, 1, 1)), rng.normal(0, 0.2, (theirs, 1, 1))
        flat = np.ones((1, 20))
        found = bootstrap_pretrainings(a * flat, b * flat, seed=trial)
        spread = np.sqrt(a.var(ddof=1) / ours + b.var(ddof=1) / theirs)
        widths.append((found.high - found.low) / (2 * 1.96 * spread))
        assert found.mean == pytest.approx(a.mean() - b.mean())
    # A resample of few values has few outcomes, and its quantiles are not those of a bell.
    assert np.mean(widths) == pytest.approx(1.0, abs=0.15)


def test_methods_that_do_not_differ_are_rarely_said_to():
    """Pretrainings of one distribution, as far apart as clips make a mean uncertain: single ones are judged wrongly."""
    wrong, alone = 0, 0
    for trial in range(40):
        rng = np.random.default_rng(trial)
        hard = rng.normal(size=60)
        moved = rng.normal(0, 0.3, (2, 4, 1, 1))
        a, b = (hard + rng.normal(0, 0.3, (4, 5, 60)) + effect for effect in moved)
        found, single = bootstrap_pretrainings(a, b, seed=trial), paired_difference(a[0], b[0], seed=trial)
        wrong += found.low > 0 or found.high < 0
        alone += single.low > 0 or single.high < 0
    assert wrong <= 7
    assert alone >= 25


def test_pretrainings_must_be_judged_on_the_same_clips():
    table = np.ones((2, 5, 6))
    holes = table.copy()
    holes[1, 0, 0] = np.nan
    for ours, theirs in ((table, table[:, :4]), (table, holes), (holes, table), (table, table[0])):
        with pytest.raises(ValueError, match="same seeds and clips"):
            bootstrap_pretrainings(ours, theirs)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.001, 0.1, "above"),
        (-0.019, 0.01, "not behind"),
        (-0.019, -0.001, "not behind"),
        (-0.1, -0.03, "behind"),
        (-0.1, 0.1, "undecided"),
    ],
)
def test_words_follow_the_interval(low, high, word):
    assert verdict(Interval((low + high) / 2, low, high)) == word


def test_far_above_the_floor_is_half_of_the_way_in_either_direction():
    assert far_above_floor(0.625, 0.25, 1.0)
    assert not far_above_floor(0.62, 0.25, 1.0)
    assert far_above_floor(0.4, 1.0, 0.0)
    assert not far_above_floor(0.6, 1.0, 0.0)
    with pytest.raises(ValueError, match="floor and ceiling are both 1"):
        far_above_floor(1.0, 1.0, 1.0)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 0.99), st.integers(500, 3000))
def test_chance_interval_is_the_exact_binomial(chance, n):
    low, high = chance_interval(chance, n)
    assert low * n == pytest.approx(stats.binom.ppf(0.005, n, chance), abs=1e-6)
    assert high * n == pytest.approx(stats.binom.ppf(0.995, n, chance), abs=1e-6)


def test_at_chance():
    assert at_chance(0.27, 0.25, 600)
    assert not at_chance(0.33, 0.25, 600)
    with pytest.raises(ValueError, match="needs at least 500 samples, got 499"):
        at_chance(0.25, 0.25, 499)


def test_the_bootstrap_of_a_mean_by_its_score_is_that_of_its_values() -> None:
    rng = np.random.default_rng(0)
    values, groups = rng.random((3, 40)), np.arange(40) // 2

    def mean(seeds: np.ndarray, clips: np.ndarray) -> float:
        return float(seeds @ values @ clips / (seeds.sum() * clips.sum()))

    whole, plain = bootstrap_score(mean, 3, 40, groups), bootstrap(values, groups)
    assert whole.as_dict() == pytest.approx(plain.as_dict())
    few = bootstrap_score(mean, 3, 40, groups, resamples=300)
    assert few.mean == pytest.approx(plain.mean)
    assert abs(few.low - plain.low) < 0.03
    with pytest.raises(ValueError, match="at least one seed"):
        bootstrap_score(mean, 0, 40)
