"""Law 6: what a task learns is the link between its input and its label, and nothing else.

Trained as it is meant it gets far above its floor on true held-out clips; with broken pairs or blind it stays at the
floor. The first tasks are taught here in the worlds they share, the others in their own test files, each in a world
that suits it.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mmssl.metrics.statistics import at_chance, far_above_floor
from mmssl.tasks import TASKS
from tests.laws.pretraining import LESSONS, teach

TASK_TESTS = Path(__file__).parent.parent / "tasks"
SEEDS = (0, 1, 2)


def score_of(name: str) -> tuple[float, float]:
    """(floor, ceiling) of a task that is taught here."""
    score = TASKS[name].score
    assert score.floor is not None
    return score.floor, score.ceiling


def at_the_floor(score: float, floor: float, rows: int) -> bool:
    """Whether nothing of the truth was learned: at chance, or below.

    Clips of a small world are alike, so that a model which guesses one of them wrongly guesses its kind wrongly: it
    may well lie below the interval of independent guesses.
    """
    return at_chance(score, floor, rows) or score < floor


@pytest.mark.parametrize("name", LESSONS)
def test_true_pairs_lead_far_above_the_floor(name: str) -> None:
    found, _ = teach(name, "none")
    assert far_above_floor(found, *score_of(name)), found


@pytest.mark.parametrize("name", LESSONS)
def test_broken_pairs_leave_it_at_the_floor(name: str) -> None:
    found, rows = teach(name, "broken_pairs")
    assert at_the_floor(found, score_of(name)[0], rows), found


@pytest.mark.parametrize("name", LESSONS)
def test_the_blind_stay_at_the_floor(name: str) -> None:
    """Over several starts: features that were never taught tell clips apart somehow, and with luck in the right way."""
    found = [teach(name, "blind", seed) for seed in SEEDS]
    mean = sum(score for score, _ in found) / len(found)
    assert at_the_floor(mean, score_of(name)[0], found[0][1]), found


@pytest.mark.parametrize("name", sorted(set(TASKS) - set(LESSONS)))
def test_every_other_task_is_taught_in_three_ways_in_its_own_tests(name: str) -> None:
    tested = [path for path in TASK_TESTS.rglob("test_*.py") if imports(path, TASKS[name])]
    assert any(has_both_controls(path) for path in tested), (
        f"no test of '{name}' trains it with broken pairs and blind; looked at {[path.name for path in tested]}"
    )


def imports(path: Path, task: type) -> bool:
    """Whether a test file takes the task's class from the task's own file."""
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == task.__module__
        and task.__name__ in [alias.name for alias in node.names]
        for node in ast.walk(ast.parse(path.read_text()))
    )


def has_both_controls(path: Path) -> bool:
    """Whether some test of a file, or what a test is given, names both controls."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            named = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
            if {"broken_pairs", "blind"} <= named:
                return True
    return False
