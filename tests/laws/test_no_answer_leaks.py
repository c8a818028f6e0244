"""Law 9: tasks never see the truth, and nothing that could stand for it, but for what they declare to need of it."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mmssl.batch import Batch, Truth
from mmssl.clip import TRUTH_NAMES, Window
from mmssl.errors import UserError
from mmssl.tasks import TASKS
from mmssl.tasks.base import Moment
from mmssl.training.failure import save_failed_step
from mmssl.training.optim import OptimizerSettings
from mmssl.training.settings import TrainSettings
from mmssl.training.trainer import Trainer
from tests.batches import World, truth_of
from tests.contract.rows import changed
from tests.training.stand_ins import SPAN, TinyStream, UpOrDown, tiny_multitask

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
    assert {"labels", "metas", "dense"} == TRUTH
    assert not {field.name for field in dataclasses.fields(Batch)} & (TRUTH | {"label", "meta", "truth", "boxes"})


def privileged_mentioned(source: str) -> bool:
    """Whether a file asks for truth that a task may declare to need."""
    return any(
        isinstance(node, ast.Attribute) and node.attr in ("privileged", "privileged_at", "with_privileged")
        for node in ast.walk(ast.parse(source))
    )


@pytest.mark.parametrize("name", sorted(TASKS))
def test_only_a_task_that_declares_it_asks_for_truth(name: str) -> None:
    task = TASKS[name](size=(32, 32))  # type: ignore[call-arg]
    assert set(task.window.truth) == set(task.needs_truth)
    source = Path(str(importlib.import_module(TASKS[name].__module__).__file__)).read_text()
    assert privileged_mentioned(source) == bool(task.needs_truth)


class Curious(UpOrDown):
    """Notes what truth its batch has."""

    def __init__(self, needs: tuple[str, ...]) -> None:
        super().__init__()
        self.needs_truth = needs  # type: ignore[misc]  # of this one object
        self.window = dataclasses.replace(self.window, truth=needs)
        self.seen: list[set[str]] = []

    def pretext(self, batch: Batch, draws: Any, moment: Moment) -> Any:
        self.seen.append(set(batch.privileged))
        return super().pretext(batch, draws, moment)


def test_a_task_is_handed_exactly_the_truth_that_it_declares() -> None:
    flow, camera, honest = Curious(("flow",)), Curious(("depth", "pose")), Curious(())
    multitask = tiny_multitask(flow=flow, camera=camera, honest=honest)
    assert multitask.window.truth == ("depth", "flow", "pose")
    assert multitask.truths == {"flow": ("flow",), "camera": ("depth", "pose")}
    given = World(4, Window(picture=SPAN, size=(8, 8), truth=TRUTH_NAMES), seed=1).batch(range(4))
    truth = truth_of(given)
    multitask(given.with_privileged({}), LATE, truth=truth)
    multitask(given, LATE, truth=truth)  # not even by the batch itself
    assert flow.seen == [{"flow"}] * 2
    assert camera.seen == [{"depth", "pose"}] * 2
    assert honest.seen == [set()] * 2
    with pytest.raises(ValueError, match="'flow' needs the truth 'flow'"):
        multitask(given, LATE, ["flow"])
    multitask(given, LATE, ["honest"])


def test_training_and_scoring_pass_the_truth_on_and_say_so(tmp_path: Path) -> None:
    window = Window(picture=SPAN, size=(8, 8), truth=("flow",))
    world = World(16, window, seed=1)

    class Told(TinyStream):
        def __iter__(self) -> Iterator[tuple[Batch, Truth]]:
            while self.repeat or self.position < self.clips:
                batch = world.batch(range(self.position, self.position + self.batch_size))
                self.position += self.batch_size
                yield batch.with_privileged({}), truth_of(batch)

    task, honest = Curious(("flow",)), Curious(())
    settings = TrainSettings(steps=2, checkpoint_every=2, log_every=1, heldout_every=2, monitor_every=2)
    Trainer(
        tiny_multitask(told=task, honest=honest),
        Told(16),
        settings,
        OptimizerSettings(lr=0.01),
        run=tmp_path,
        heldout=lambda: Told(16, repeat=False),
    ).train()
    assert len(task.seen) > 4  # steps, held-out scores with and without the input, gradients of the monitor
    assert all(seen == {"flow"} for seen in task.seen)
    assert all(seen == set() for seen in honest.seen)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    scored = {row["task"]: row["truth"] for row in rows if row["event"] == "heldout"}
    assert scored == {"told": ["flow"], "honest": []}
    with pytest.raises(UserError):
        raise save_failed_step(tmp_path, 3, [], {"told": torch.tensor(float("nan"))}, {}, {"told": ("flow",)})
    assert json.loads((tmp_path / "nan_step_3.json").read_text())["truth"] == {"told": ["flow"]}


@pytest.mark.parametrize("name", sorted(TASKS))
def test_no_task_speaks_of_the_truth(name: str) -> None:
    module = importlib.import_module(TASKS[name].__module__)
    assert TASKS[name].needs_truth or not truth_mentioned(Path(str(module.__file__)).read_text())


def test_files_that_tasks_stand_on_do_not_either() -> None:
    root = Path(__file__).parents[2] / "mmssl"
    files = [path for folder in ("tasks", "ops", "losses", "nn") for path in (root / folder).rglob("*.py")]
    assert len(files) > 20
    found = {str(path.relative_to(root)): truth_mentioned(path.read_text()) for path in files}
    # The one door: hands out dense truth by name, and knows no label.
    assert {path: names for path, names in found.items() if names} == {"tasks/base.py": {"Truth", "dense"}}


def test_the_reader_finds_a_planted_mention() -> None:
    assert truth_mentioned("from mmssl.clip import Batch, Truth") == {"Truth"}
    assert truth_mentioned("def f(batch, truth):\n    return truth.labels") == {"labels"}
    assert truth_mentioned("import mmssl.clip\nx: mmssl.clip.Truth") == {"Truth"}


@pytest.mark.parametrize("name", sorted(TASKS))
def test_the_names_of_samples_tell_a_task_nothing(name: str) -> None:
    """Keys and sources often spell the class; a task is given the same by any names.

    What it may know is which rows are of one sample (`ids`): then by any names the same rows are alike.
    """
    task = TASKS[name](size=(32, 32))  # type: ignore[call-arg]
    batch = World(CLIPS, task.window, seed=1).batch(range(CLIPS))
    renamed = changed(batch, keys=tuple(f"other{i}" for i in range(CLIPS)), sources=("elsewhere",) * CLIPS)
    with torch.no_grad():
        one, two = (task.pretext(b, batch.draws(name), LATE) for b in (batch, renamed))
    for field, a, b in zip(one._fields, one, two, strict=True):
        if field == "ids":
            a, b = a[:, None] == a[None], b[:, None] == b[None]
        assert torch.equal(a, b), field


def test_a_constant_answer_is_chance() -> None:
    """Where there are classes, each is as frequent as the others: neither a bias nor the place of a row scores.

    Every batch holds each class as often; where a clip has one answer, that is drawn with equal chances.
    """
    with_labels = 0
    for name, cls in TASKS.items():
        task = cls(size=(32, 32))  # type: ignore[call-arg]
        world = World(16, task.window, seed=1)

        def labels(epoch: int, task: Any = task, world: World = world, name: str = name) -> torch.Tensor | None:
            batch = world.batch(range(16), epoch)
            with torch.no_grad():
                example = task.pretext(batch, batch.draws(name), LATE)
            return example.label if "label" in example._fields else None

        found = labels(0)
        if found is None:
            continue  # compares rows
        if task.score.floor is None:
            continue  # classes as the data has them: the floor is measured on the same rows
        drawn = found.numel() == 16
        if drawn:
            found = torch.cat([found, *(labels(epoch) for epoch in range(1, 32))])  # type: ignore[arg-type]
        share = found.flatten().bincount().double() / found.numel()
        if task.score.metric.startswith("balanced"):  # classes weigh the same, however often they are met
            assert task.score.floor == 1 / len(share), name
        else:
            assert float((share - task.score.floor).abs().max()) < (0.06 if drawn else 1e-9), name
        with_labels += 1
    assert with_labels >= 2
