"""Law 9: tasks never see the truth, and nothing that could stand for it."""

from __future__ import annotations

import ast
import dataclasses
import importlib
from pathlib import Path

import pytest
import torch

from mmssl.batch import Batch, Truth
from mmssl.tasks import TASKS
from mmssl.tasks.base import Moment
from tests.batches import World
from tests.contract.rows import changed

LATE = Moment(9, 10, 0, 0.9)
CLIPS = 8
TRUTH = {field.name for field in dataclasses.fields(Truth)} - {"keys"}


def truth_mentioned(source: str) -> set[str]:
    """Names of the truth that a file speaks of."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mmssl"):
            found |= {alias.name for alias in node.names} & {"Truth"}
        elif isinstance(node, ast.Attribute) and node.attr in TRUTH | {"Truth"}:
            found.add(node.attr)
    return found


def test_a_batch_has_no_label() -> None:
    assert {"labels", "metas"} == TRUTH
    assert not {field.name for field in dataclasses.fields(Batch)} & (TRUTH | {"label", "meta", "truth", "boxes"})


@pytest.mark.parametrize("name", sorted(TASKS))
def test_no_task_speaks_of_the_truth(name: str) -> None:
    module = importlib.import_module(TASKS[name].__module__)
    assert TASKS[name].needs_truth or not truth_mentioned(Path(str(module.__file__)).read_text())


def test_files_that_tasks_stand_on_do_not_either() -> None:
    root = Path(__file__).parents[2] / "mmssl"
    files = [path for folder in ("tasks", "ops", "losses", "nn") for path in (root / folder).rglob("*.py")]
    assert len(files) > 20
    assert {path.name: found for path in files if (found := truth_mentioned(path.read_text()))} == {}


def test_the_reader_finds_a_planted_mention() -> None:
    assert truth_mentioned("from mmssl.clip import Batch, Truth") == {"Truth"}
    assert truth_mentioned("def f(batch, truth):\n    return truth.labels") == {"labels"}
    assert truth_mentioned("import mmssl.clip\nx: mmssl.clip.Truth") == {"Truth"}


@pytest.mark.parametrize("name", sorted(TASKS))
def test_the_names_of_samples_tell_a_task_nothing(name: str) -> None:
    """Keys and sources often spell the class; a task is given the same by any names."""
    task = TASKS[name](size=(32, 32))  # type: ignore[call-arg]
    batch = World(CLIPS, task.window, seed=1).batch(range(CLIPS))
    renamed = changed(batch, keys=tuple(f"other{i}" for i in range(CLIPS)), sources=("elsewhere",) * CLIPS)
    with torch.no_grad():
        one, two = (task.pretext(b, batch.draws(name), LATE) for b in (batch, renamed))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_a_constant_answer_is_chance() -> None:
    """Where there are classes, every batch holds each as often: neither a bias nor the place of a row scores."""
    with_labels = 0
    for name, cls in TASKS.items():
        task = cls(size=(32, 32))  # type: ignore[call-arg]
        batch = World(16, task.window, seed=1).batch(range(16))
        with torch.no_grad():
            example = task.pretext(batch, batch.draws(name), LATE)
        if "label" not in example._fields:
            continue  # compares rows
        share = example.label.flatten().bincount().double() / example.label.numel()
        assert float((share - task.score.floor).abs().max()) < 1e-9, name
        with_labels += 1
    assert with_labels >= 2
