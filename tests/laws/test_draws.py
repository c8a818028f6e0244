"""Law 2: a sample's pseudo labels depend on the sample, the seed and the epoch; not on what else a run does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from scipy import stats

from mmssl.batch import Batch
from mmssl.clip import Span, Window
from mmssl.tasks import TASKS
from mmssl.tasks.base import Moment, MultiTask
from tests.batches import World, small_encoders, truth_of
from tests.contract.rows import changed, same_rows, take_rows

CLIPS = 12
LATE = Moment(9, 10, 0, 0.9)
#: tasks that show what all tasks share, and draw nothing of their own
SHARED_ONLY = {"av_clustering", "av_instance"}


class Kept(MultiTask):
    """Keeps the examples that its tasks made."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(small_encoders(0, 16), {name: TASKS[name](size=(32, 32)) for name in names})  # type: ignore[call-arg]
        self.examples: dict[str, Any] = {}
        for name, task in self.tasks.items():
            task.register_forward_pre_hook(lambda _, given, name=name: self.examples.update({name: given[0]}))


def examples(names: Sequence[str], batch: Batch) -> dict[str, Any]:
    kept = Kept(names)
    with torch.no_grad():
        kept(batch, LATE, truth=truth_of(batch))
    return kept.examples


@pytest.fixture(scope="module")
def window() -> Window:
    """More picture and more sound than any task wants: what another task of the run may ask for."""
    more = Window(picture=Span(3.8, 8.0), sound=Span(3.8, 16000), size=(32, 32))
    return Kept(sorted(TASKS)).window | more


@pytest.fixture(scope="module")
def batch(window: Window) -> Batch:
    return World(CLIPS, window, seed=1).batch(range(CLIPS))


def assert_equal(one: Any, two: Any) -> None:
    for field, a, b in zip(one._fields, one, two, strict=True):
        assert torch.equal(a, b), field


@pytest.mark.parametrize("name", sorted(TASKS))
def test_adding_tasks_changes_no_pseudo_label(name: str, batch: Batch) -> None:
    """Neither their number nor their order, nor the wider window that is then decoded."""
    alone = examples([name], changed(batch))[name]
    others = [other for other in sorted(TASKS) if other != name]
    assert_equal(alone, examples([*others, name], changed(batch))[name])
    assert_equal(alone, examples([name, *reversed(others)], changed(batch))[name])
    own = World(CLIPS, TASKS[name](size=(32, 32)).window, seed=1).batch(range(CLIPS))  # type: ignore[call-arg]
    assert_equal(alone, examples([name], own)[name])


@pytest.mark.parametrize("name", sorted(TASKS))
def test_one_rank_or_two(name: str, batch: Batch) -> None:
    """Each rank's share of the global batch has the pseudo labels that it has on one rank."""
    whole = examples([name], changed(batch))[name]
    for rows in (range(CLIPS // 2), range(CLIPS // 2, CLIPS)):
        share = examples([name], take_rows(batch, rows))[name]
        for field, a, b in zip(whole._fields, whole, share, strict=True):
            assert same_rows(a, b, CLIPS, rows), field


@pytest.mark.parametrize("name", sorted(TASKS))
def test_order_of_the_rows(name: str, batch: Batch) -> None:
    rows = [7, 0, 11, 3, 4, 1, 10, 2, 9, 8, 6, 5]
    whole, shuffled = (examples([name], b)[name] for b in (changed(batch), take_rows(batch, rows)))
    for field, a, b in zip(whole._fields, whole, shuffled, strict=True):
        assert same_rows(a, b, CLIPS, rows), field


@pytest.mark.parametrize("name", sorted(set(TASKS) - SHARED_ONLY))
def test_a_task_under_another_name_draws_otherwise(name: str, batch: Batch) -> None:
    """Two tasks of one class in a run do not do the same twice."""
    task = TASKS[name](size=(32, 32))  # type: ignore[call-arg]
    with torch.no_grad():
        one, two = (task.pretext(changed(batch), batch.draws(called), LATE) for called in (name, f"{name}_2"))
    assert not all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_seed_and_epoch_of_the_run_change_them(window: Window) -> None:
    world = World(CLIPS, window, seed=1)
    names = sorted(TASKS)
    one, two = examples(names, world.batch(range(CLIPS), epoch=0)), examples(names, world.batch(range(CLIPS), epoch=1))
    for name in names:
        assert not all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(one[name], two[name], strict=True))


def test_orders_of_frames_are_drawn_evenly(window: Window) -> None:
    """Over clips and epochs every class comes first as often, and backwards as often as forwards."""
    world = World(64, window, seed=2)
    task = TASKS["order_prediction"](size=(32, 32), orders=1)  # type: ignore[call-arg]
    labels, forward = [], []
    with torch.no_grad():
        for epoch in range(12):
            batch = world.batch(range(64), epoch)
            example = task.pretext(batch, batch.draws("order_prediction"), LATE)
            labels.append(example.label[:, 0])
            slot_of_time = example.order[:, 0].argsort(dim=1)
            forward.append(slot_of_time[:, 0] < slot_of_time[:, 3])
    counts = torch.cat(labels).bincount(minlength=12)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3
    assert stats.binomtest(int(torch.cat(forward).sum()), 768).pvalue > 1e-3


def test_rotation_shows_every_frame_and_both_mirrors() -> None:
    """Frames that carry their number, a mark at one side: the draws are read off the pictures."""
    task = TASKS["rotation"](size=(32, 32))
    world = World(64, task.window, seed=2)
    numbers, sides = [], []
    for epoch in range(6):
        batch = world.batch(range(64), epoch)
        span = task.window.pictures[0]
        frames = torch.zeros_like(batch.frames)
        frames[:, 0] = torch.arange(batch.frames.shape[2], dtype=torch.uint8)[None, :, None, None, None]
        frames[..., :16] += 100
        marked = changed(batch, pixels=frames)
        numbers_of = {int(n): i for i, n in enumerate(marked.frames_of(span)[0, :, 0, 0, -1])}
        with torch.no_grad():
            example = task.pretext(marked, marked.draws("rotation"), LATE)
        shown = (example.pictures[::4, 0] * 255).round().long()
        numbers.append(torch.tensor([numbers_of[int(p.min())] for p in shown]))
        sides.append(shown[:, 0, 0] < shown[:, 0, -1])
    counts = torch.cat(numbers).bincount(minlength=span.count)
    assert len(counts) == span.count
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3
    assert stats.binomtest(int(torch.cat(sides).sum()), 384).pvalue > 1e-3
