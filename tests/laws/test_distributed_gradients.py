"""Same global batch on one and on two ranks: same loss, same gradients, however the backwards are made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.laws.two_ranks import LACKING, NO_NEGATIVES, SCENARIOS

Results = dict[str, dict[str, torch.Tensor]]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    """Results by "rank of world": one process, and two gloo ranks, side by side."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "tests.laws.two_ranks"]
    started = [
        subprocess.Popen([*command, str(rank), str(world), str(folder)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for rank, world in ((0, 1), (0, 2), (1, 2))
    ]
    try:
        errors = [process.communicate(timeout=240)[1] for process in started]
    finally:
        for process in started:
            process.kill()  # a rank that waits for one that failed
    assert [process.returncode for process in started] == [0, 0, 0], "\n".join(errors)
    return {path.stem: torch.load(path, weights_only=True) for path in folder.glob("rank*.pt")}


def assert_same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    given = {name for name, gradient in one.items() if bool(gradient.any())}
    assert given == {name for name, gradient in two.items() if bool(gradient.any())}
    assert len(given) > 20
    for name in given:
        scale = max(1.0, float(one[name].abs().max()))
        assert torch.allclose(one[name], two[name], rtol=1e-4, atol=1e-5 * scale), name


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_two_ranks_learn_what_one_does(results: dict[str, Results], scenario: str) -> None:
    alone, first, second = (results[k][scenario] for k in ("rank0of1", "rank0of2", "rank1of2"))
    assert float(alone["loss"]) > 0.1
    assert_same(alone, first)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_every_scenario_teaches_the_tasks_it_names(results: dict[str, Results]) -> None:
    """Else the comparison could be one of nothing with nothing."""

    def taught(scenario: str) -> set[str]:
        found = results["rank0of2"][scenario]
        return {name.split(".")[1] for name, g in found.items() if name.startswith("heads.") and bool(g.any())}

    every = {"av_localization", "av_sync", "order_prediction", "rotation", "subtitle_matching"}
    assert every <= taught("summed")
    assert taught("summed, clips lacking") == taught("one backward per task, clips lacking") == taught("summed")
    assert taught("sampled, clips lacking") == {"av_sync", "rotation", "subtitle_matching"}
    assert taught("accumulated") == set(NO_NEGATIVES)


def test_one_backward_per_task_equals_the_sum(results: dict[str, Results]) -> None:
    for found in results.values():
        assert_same(found["summed, clips lacking"], found["one backward per task, clips lacking"])


def test_accumulated_micro_batches_equal_one_batch(results: dict[str, Results]) -> None:
    for found in results.values():
        assert_same(found["one batch without negatives"], found["accumulated"])


def test_second_rank_has_no_sound_at_all() -> None:
    assert set(LACKING["sound"]) >= {4, 5, 6, 7}
