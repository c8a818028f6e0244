"""Draws: a function of the sample and the name alone, the same bits in numpy and torch, well spread."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmssl.randomness import Draws, mix, sample_seed, uniform_numpy, uniform_of

SEEDS = np.array([sample_seed(0, 0, "source", f"key{i}") for i in range(512)])


def draws(task: str = "task") -> Draws:
    return Draws(torch.from_numpy(SEEDS), task)


def test_numpy_and_torch_give_the_same_bits() -> None:
    assert np.array_equal(draws().uniform("x", (7,)).numpy(), uniform_numpy(SEEDS, "task/x", 7))


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
@settings(deadline=None)
def test_mixing_is_one_to_one_and_equal_in_both(values: list[int]) -> None:
    array = np.array(values, dtype=np.int64)
    with np.errstate(over="ignore"):
        mixed = mix(array)
    assert np.array_equal(mixed, mix(torch.from_numpy(array)).numpy())
    assert len(set(mixed.tolist())) == len(set(values))


@given(st.integers(-(2**63), 2**63 - 1), st.text(max_size=8), st.integers(0, 5))
def test_python_gives_the_same_numbers(seed: int, name: str, count: int) -> None:
    assert uniform_of(seed, name, count) == uniform_numpy(np.array([seed]), name, count)[0].tolist()


def test_uniform_is_uniform_over_samples_names_and_counts() -> None:
    values = draws().uniform("x", (40,))
    assert stats.kstest(values.flatten().numpy(), "uniform").pvalue > 1e-3
    for column in (values[:, 0], draws().uniform("y", (40,))[:, 0]):
        assert stats.kstest(column.numpy(), "uniform").pvalue > 1e-3
    pairs = np.corrcoef(values[:, :-1].flatten(), values[:, 1:].flatten())[0, 1]
    assert abs(pairs) < 0.03


def test_a_row_does_not_depend_on_the_others() -> None:
    part = Draws(torch.from_numpy(SEEDS[5:9]), "task").uniform("x", (3,))
    assert torch.equal(part, draws().uniform("x", (3,))[5:9])


@pytest.mark.parametrize("change", [(1, 0, "source", "key0"), (0, 1, "source", "key0"), (0, 0, "other", "key0")])
def test_seed_epoch_and_source_change_the_draws(change: tuple[int, int, str, str]) -> None:
    assert sample_seed(*change) != sample_seed(0, 0, "source", "key0")


def test_tasks_differ_and_shared_draws_agree() -> None:
    a, b = draws("a"), draws("b")
    assert not torch.equal(a.uniform("x"), b.uniform("x"))
    assert torch.equal(a.shared().uniform("x"), b.shared().uniform("x"))


def test_normal_is_normal() -> None:
    assert stats.kstest(draws().normal("n", (20,)).flatten().numpy(), "norm").pvalue > 1e-3


def test_permutations_are_permutations_and_even() -> None:
    permutations = draws().permutation("p", 3)
    assert (permutations.sort(dim=1).values == torch.arange(3)).all()
    _, counts = np.unique(permutations.numpy(), axis=0, return_counts=True)
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-3


def test_integers_and_choice_follow_their_weights() -> None:
    assert set(draws().integers("i", 4, (8,)).flatten().tolist()) == {0, 1, 2, 3}
    weights = torch.tensor([[0.0, 1.0, 3.0]]).expand(512, 3)
    chosen = draws().choice("c", weights, 20)
    assert (chosen > 0).all()
    assert abs((chosen == 2).double().mean() - 0.75) < 0.02
    even = draws().choice("c", torch.zeros(512, 3), 20)
    assert set(even.flatten().tolist()) == {0, 1, 2}


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    draws().uniform("x", (3,))
    draws().permutation("x", 3)
    assert torch.equal(before, torch.get_rng_state())
