"""Flow estimation: pairs and truth fit, crops show movement, mirrors and light change both frames alike; law 6."""

from __future__ import annotations

import functools

import pytest
import torch

from mmssl.batch import Batch
from mmssl.clip import Span
from mmssl.ops.flow import warp
from mmssl.tasks.base import Control, Moment, MultiTask
from mmssl.tasks.free_labels.flow_estimation import FlowEstimation, FlowExample
from tests.batches import World, small_encoders, truth_of
from tests.contract.rows import changed
from tests.tasks.fitting import fit

LATE = Moment(9, 10, 0, 0.9)
SPAN = Span(2.0, 2.0)  # the patch crosses 2.4 of 32 pixels a pair


def made(task: FlowEstimation, batch: Batch) -> FlowExample:
    with torch.no_grad():
        return task.pretext(batch, batch.draws("flow_estimation"), LATE)


@functools.cache
def world(count: int = 64, size: int = 32, seed: int = 0) -> World:
    return World(count, FlowEstimation(SPAN, (size, size), pairs=3, crop=32).window, seed=seed)


@pytest.mark.parametrize("training", [True, False])
def test_the_truth_leads_from_the_first_frame_to_the_second(training: bool) -> None:
    task = FlowEstimation(SPAN, (64, 64), pairs=3, crop=48).train(training)
    example = made(task, world(16, 64).batch(range(16)))
    side = 48 if training else 64
    assert example.first.shape == (48, 3, side, side)
    back, inside = warp(example.second, example.flow)
    moves = (example.flow.norm(dim=1) > 0.5) & inside
    assert moves.flatten(1).any(dim=1).float().mean() > 0.9
    before = (example.second - example.first).abs().mean(dim=1)[moves].mean()
    after = (back - example.first).abs().mean(dim=1)[moves].mean()
    assert float(after) < 0.6 * float(before)  # what is left: flashes, and the half pixel of the patch's place
    # Each way round is drawn, and vectors are turned with it.
    ways = {tuple(v.sign().int().tolist()) for v in example.flow.movedim(1, -1)[moves]}
    assert ways == ({(1, 0), (-1, 0), (0, 1), (0, -1)} if training else {(1, 0), (-1, 0)})


def test_both_frames_get_the_same_light() -> None:
    task = FlowEstimation(SPAN, (32, 32), pairs=3, crop=32)
    batch = world().batch(range(32))
    still = changed(batch, pixels=batch.pixels[:, :, :1].expand_as(batch.pixels).contiguous())
    example = made(task, still)
    assert torch.equal(example.first, example.second)
    levels = example.first.flatten(1).mean(dim=1)
    assert float(levels.std()) > 0.02


def test_crops_are_drawn_about_what_moves() -> None:
    """Without that a crop of a fifth of the picture shows less movement: the class that switches it off."""

    class Evenly(FlowEstimation):
        def _corners(self, flow, known, side, draws):  # type: ignore[no-untyped-def]
            return super()._corners(torch.zeros_like(flow), known, side, draws)

    batch = world(64, 64).batch(range(64))
    share = {}
    for cls in (FlowEstimation, Evenly):
        example = made(cls(SPAN, (64, 64), pairs=3, crop=24), batch)
        share[cls] = float((example.flow.norm(dim=1) > 0.5).float().mean())
    assert share[FlowEstimation] > 1.8 * share[Evenly]


def test_a_frame_that_stands_twice_has_no_flow() -> None:
    """A window faster than its clips shows frames twice: such pairs take no part."""
    task = FlowEstimation(Span(0.64, 25.0), (32, 32), pairs=15, crop=32)  # the world has 12.5 frames a second
    batch = World(8, task.window, seed=0).batch(range(8))
    example = made(task, batch)
    assert 0.4 < float(example.weight.mean()) < 0.6
    assert bool((example.known.flatten(1).any(dim=1) == (example.weight > 0)).all())
    speed = 0.6 * 32 / 4 / 12.5
    assert float(example.flow.norm(dim=1).max()) == pytest.approx(speed, rel=1e-3)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="pairs"):
        FlowEstimation(SPAN, pairs=4)
    with pytest.raises(ValueError, match="too small"):
        FlowEstimation(SPAN, pairs=2, crop=8)


SMALL = {"recurrent": {"iterations": 1, "hidden": 16, "features": 16}, "stacked": {}}


def trained(control: Control, network: str = "recurrent", steps: int = 40) -> dict[str, float]:
    """Held-out metrics after a short training; scores are always of true clips."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task = FlowEstimation(SPAN, (32, 32), pairs=3, crop=32, network=network, settings=SMALL[network])  # type: ignore[arg-type]
        multitask = MultiTask(small_encoders(0, 32), {"flow_estimation": task}, control=control)
        fit(multitask, lambda step: world().batch(range(8 * step, 8 * step + 8), epoch=step), steps, warmup=0.2)
        batch = world(64, 32, 1).batch(range(64))
        with torch.no_grad():
            _, outcomes = multitask(batch, LATE, truth=truth_of(batch))
    metrics = outcomes["flow_estimation"].metrics
    return {name: float(total) / float(count) for name, (total, count) in metrics.items()}


def test_what_moves_is_matched_soon() -> None:
    """Not that it learns: likeness finds part of the movement even with untrained features (blind training leaves as
    much). What training adds is measured on rendered clips by `benchmarks.flow`."""
    found = trained("none")
    assert found["end_point_error_moving"] < 0.92 * found["floor_moving"]


@pytest.mark.slow
def test_it_is_learned_and_not_from_broken_pairs_or_blind() -> None:
    """Law 6, in small: everywhere, and where something moves (of which likeness alone finds a tenth)."""
    found = {control: trained(control, steps=400) for control in ("none", "broken_pairs", "blind")}
    assert found["none"]["end_point_error"] < 0.9 * found["none"]["floor"]
    for control in ("broken_pairs", "blind"):
        assert found[control]["end_point_error"] > 0.97 * found[control]["floor"]
        moving = found[control]["end_point_error_moving"]
        assert moving > found["none"]["end_point_error_moving"] + 0.08 * found["none"]["floor_moving"]
