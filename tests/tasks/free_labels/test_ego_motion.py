"""Ego-motion: labels that follow mirror and exchange, what is outvoted, and that it is learned from the picture."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
import torch

from mmssl.clip import Span
from mmssl.nn.encoders import Build, Encoders
from mmssl.ops.camera_motion import SIMILARITY_PARTS, compose_similarities, warp_similarity
from mmssl.randomness import Draws
from mmssl.tasks.base import Control, Moment, MultiTask
from mmssl.tasks.free_labels.ego_motion import WARP, EgoMotion, Labels, view_size, warped_views
from tests.batches import World, truth_of
from tests.tasks.fitting import fit

START, LATE = Moment(0, 100, 0, 0.0), Moment(90, 100, 1, 0.9)
SPAN = Span(1.6, 5.0)


def example_of(task: EgoMotion, world: World, rows: range, epoch: int = 0) -> Any:
    batch = world.batch(rows, epoch)
    return task.pretext(batch, batch.draws("task"), LATE)


def test_pose_labels_follow_mirror_and_exchange() -> None:
    """The camera of this world goes against the patch: what is seen to drift right is a camera that goes left."""
    task = EgoMotion(SPAN, (32, 32), "pose", gap_seconds=(1.0, 1.2))
    world = World(64, task.window, seed=1)
    example = example_of(task, world, range(64))
    right = example.motion[:, 0]
    patch = example.frames.unflatten(0, (64, 2))
    moved = centre(patch[:, 1]) - centre(patch[:, 0])
    told = moved.abs() > 0.03
    assert told.sum() > 40
    assert ((right < 0) == (moved > 0))[told].double().mean() > 0.9
    assert 0.3 < (right > 0).double().mean() < 0.7


def centre(frames: torch.Tensor) -> torch.Tensor:
    """Where along x a frame differs most from the mean of its own columns' background, in shares of the width."""
    columns = (frames - frames.median(dim=3, keepdim=True).values).abs().mean(dim=(1, 2))
    place = torch.arange(columns.shape[1]) / columns.shape[1]
    weight = columns.pow(4)
    return (weight * place).sum(dim=1) / weight.sum(dim=1)


def test_vectors_of_a_still_camera_say_so_although_a_patch_moves() -> None:
    task = EgoMotion(SPAN, (64, 64), "vectors", gap_seconds=(1.0, 1.2))
    example = example_of(task, World(32, task.window, seed=1), range(32))
    assert (example.weight > 0).double().mean() > 0.9
    assert example.motion[example.weight > 0].abs().median() < 0.01


def test_without_vectors_a_clip_takes_no_part() -> None:
    task = EgoMotion(SPAN, (64, 64), "vectors")
    batch = World(4, task.window, seed=1).batch(range(4))
    batch.motion_known[:2] = False  # type: ignore[index]
    example = task.pretext(batch, batch.draws("task"), LATE)
    assert example.weight.tolist()[:2] == [0, 0]
    assert example.weight[2:].min() > 0


def frames_from_anywhere(count: int, side: int) -> torch.Tensor:
    """Uint8 [count, 3, side, side]: smooth noise, turned and shifted any way and scaled: no place has a look."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(count, 3, side // 4, side // 4, generator=generator) * 255
    wide = torch.nn.functional.interpolate(noise, size=3 * side, mode="bilinear")
    reach = torch.tensor([side / 3, side / 3, 0.4, torch.pi])
    parts = (2 * torch.rand(count, 4, generator=generator).double() - 1) * reach
    return warp_similarity(wide, parts)[..., side : 2 * side, side : 2 * side].round().to(torch.uint8)


def test_a_drawn_warp_is_what_the_label_says() -> None:
    """The first frame moved by the label is the second, in their middle; moved by another row's it is not."""
    task = EgoMotion(SPAN, (96, 96), "warp")
    world = World(128, task.window, seed=1)
    batch = world.batch(range(128))
    batch = dataclasses.replace(
        batch, pixels=frames_from_anywhere(128, 96)[:, None, None].expand_as(batch.frames), _made={}
    )
    example = task.pretext(batch, batch.draws("task"), LATE)
    first, second = example.frames.unflatten(0, (128, 2)).unbind(1)
    assert tuple(first.shape[-2:]) == view_size(96, 96) == (64, 64)
    sides = torch.tensor([64, 64, 1, 1]).double()

    def error(motion: torch.Tensor) -> torch.Tensor:
        moved = warp_similarity(first, motion * sides)
        # Each frame has its own gain and offset of the colours: their correlation is left alone by both.
        ours, theirs = (x[..., 20:44, 20:44].flatten(2) for x in (moved, second))
        ours, theirs = (x - x.mean(dim=2, keepdim=True) for x in (ours, theirs))
        return 1 - torch.nn.functional.cosine_similarity(ours, theirs, dim=2).mean(dim=1)

    right = error(example.motion).median()
    assert right < 0.003
    for wrong in (-example.motion, example.motion.roll(1, 0), example.motion[:, [1, 0, 2, 3]], 0 * example.motion):
        assert error(wrong).median() > 10 * right
    assert (example.motion.abs().max(dim=0).values > 0.8 * torch.tensor(WARP)).all()


@pytest.mark.parametrize("size", [(96, 96), (64, 112), (128, 96), (32, 32)])
def test_no_view_shows_anything_beyond_the_border(size: tuple[int, int]) -> None:
    """Repeated edges would tell the motion in one view: with the largest motions the outermost pixels are not seen."""
    frame = torch.full((1, 3, *size), 100, dtype=torch.uint8)
    frame[..., [0, -1], :] = frame[..., [0, -1]] = 255
    corners = torch.tensor(list(itertools.product(*((-reach, reach) for reach in WARP)))).double()
    motion = corners.repeat_interleave(len(corners), dim=0)
    common = corners.repeat(len(corners), 1) / 2
    views = warped_views(frame.expand(len(motion), -1, -1, -1), motion, common)
    assert views.shape[-2:] == torch.Size(view_size(*size))
    assert (views == 100).all()


def test_a_single_view_tells_no_motion() -> None:
    """How sharp its rows and columns are tells nothing; of a frame moved with its edges repeated it tells all."""
    frames = frames_from_anywhere(1024, 64)
    generator = torch.Generator().manual_seed(1)
    motion, common = (2 * torch.rand(2, 1024, 4, generator=generator).double() - 1) * torch.tensor(WARP)
    views = warped_views(frames, motion, common / 2)
    streaked = warp_similarity(frames.float(), motion * torch.tensor([64, 64, 1, 1]))
    for shown, least, most in ((views[:, 0], 0.0, 0.25), (views[:, 1], 0.0, 0.25), (streaked, 0.6, 1.0)):
        picture = shown.double() / 255
        rows, columns = picture.diff(dim=2).abs().mean(dim=(1, 3)), picture.diff(dim=3).abs().mean(dim=(1, 2))
        seen = torch.cat([rows, columns, torch.ones(1024, 1)], dim=1)
        known = seen[:512].T @ seen[:512] + 1e-3 * torch.eye(seen.shape[1])
        told = seen[512:] @ torch.linalg.solve(known, seen[:512].T @ motion[:512])
        for part in range(3):  # a roll leaves no streaks of one length
            found = float(torch.corrcoef(torch.stack([told[:, part], motion[512:, part]]))[0, 1])
            assert least <= abs(found) <= most, SIMILARITY_PARTS[part]


@pytest.mark.parametrize("labels", ["pose", "vectors", "warp"])
def test_exchanged_frames_have_the_inverse_motion(monkeypatch: pytest.MonkeyPatch, labels: Labels) -> None:
    task = EgoMotion(SPAN, (64, 64), labels, gap_seconds=(1.0, 1.2))
    batch = World(64, task.window, seed=1).batch(range(64))
    found = []
    for turned in (False, True):

        def drawn(self: Draws, name: str, p: float, turned: bool = turned) -> torch.Tensor:
            return torch.full((64,), turned and name == "exchange")

        monkeypatch.setattr(Draws, "bernoulli", drawn)
        found.append(task.pretext(batch, batch.draws("task"), LATE))
    there, back = (example.motion[example.weight > 0] for example in found)
    if labels == "pose":  # the other camera's axes: the opposite only if nothing turned
        assert torch.allclose(back, -there, atol=0.05)
    else:
        side = view_size(64, 64)[0] if labels == "warp" else 64
        sides = torch.tensor([side, side, 1, 1]).double()
        assert compose_similarities(back * sides, there * sides).abs().max() < 1e-9
        assert not torch.equal(back, -there)


@pytest.mark.parametrize("name", ["pose", "vectors", "warp"])
def test_bins_learn_from_the_valid_rows_of_all_micro_batches(name: Any) -> None:
    task = EgoMotion(SPAN, (32, 32), name, learned_from=12)
    carry = {"motion": torch.arange(8.0).double()[:, None].expand(8, len(task.parts)), "weight": torch.ones(8)}
    hole = {"motion": torch.full((4, len(task.parts)), 99.0).double(), "weight": torch.zeros(4)}
    task.after_step(None, [carry, hole], START)  # type: ignore[arg-type]
    assert int(task.bins.count) == 8
    assert float(task.bins.seen.max()) == 7.0


def trained_score(control: Control, steps: int) -> tuple[float, float]:
    """(accuracy, floor) on held-out clips of `warp`, whose label is in any picture."""
    task = EgoMotion(SPAN, (96, 96), "warp", bins=3, width=32, learned_from=256)
    world, held = World(256, task.window, seed=0, distractor=True), World(128, task.window, seed=1, distractor=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        build = Build("mmssl.nn.image.SmallImageEncoder", {"width": 32, "channels": (16, 16, 16)})
        multitask = MultiTask(Encoders({"image": build}), {"task": task}, control=control)
        fit(
            multitask,
            lambda step: world.batch(range(step * 32 % 256, step * 32 % 256 + 32), epoch=step),
            steps,
            4e-3,
            clipped=None,
        )
        with torch.no_grad():
            metrics = multitask(held.batch(range(128)), LATE)[1]["task"].metrics
    return tuple(float(metrics[n][0] / metrics[n][1]) for n in ("accuracy", "floor"))  # type: ignore[return-value]


def test_it_is_learned_and_only_from_true_pairs_that_are_seen() -> None:
    """Law 6, in small: 512 answers a score, three classes each."""
    score, floor = trained_score("none", 240)
    assert floor < 0.45
    assert score > floor + 0.2
    for control in ("broken_pairs", "blind"):
        score, floor = trained_score(control, 30)  # type: ignore[arg-type]
        assert abs(score - 1 / 3) < 0.09, control


def test_soundstage_poses_are_given_by_the_stream() -> None:
    world = World(4, EgoMotion(SPAN, (32, 32)).window, seed=0)
    batch = world.batch(range(4))
    assert set(truth_of(batch).dense) == {"pose"}


@pytest.mark.parametrize("bad", [{"labels": "gyroscope"}, {"gap_seconds": (1.2, 0.4)}, {"gap_seconds": (0.4, 2.0)}])
def test_bad_settings_are_named(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="ego_motion"):
        EgoMotion(SPAN, **bad)


def test_no_camera_is_followed_behind_the_end_of_a_clip() -> None:
    """The last frame stands still there, beside vectors that are repeated."""
    task = EgoMotion(SPAN, (64, 64), "vectors", gap_seconds=(1.0, 1.2))
    batch = World(16, task.window, seed=1).batch(range(16))
    short = dataclasses.replace(batch, duration=torch.full_like(batch.duration, 0.9), _made={})
    short = dataclasses.replace(short, wanted_times=short.times(SPAN)[:, None], _made={})
    assert float(task.pretext(short, short.draws("task"), LATE).weight.sum()) == 0
