"""Video colorization: the pointer sees no colour and no place, copies what it points at, and learns to track."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch

from mmssl.clip import Span
from mmssl.nn.encoders import Build, Encoders
from mmssl.ops.lab import lightness_picture, rgb_to_lab
from mmssl.tasks.base import Control, Moment, MultiTask
from mmssl.tasks.generation.video_colorization import (
    FRAMES,
    REFERENCES,
    SAMPLES,
    ColorizationExample,
    VideoColorization,
    grey_spiral,
)
from tests.tasks.context.scenes import picture_batch, still_films

START, LATE = Moment(0, 1, 0, 0.0), Moment(1, 1, 0, 1.0)
SPAN = Span(3.0, 8.0)


@functools.lru_cache(maxsize=4)
def patched_films(count: int, seed: int, size: int = 48) -> np.ndarray:
    """Four squares, each with a colour and a texture of its own, drift over a textured ground; uint8.

    Textures and colours of a film are paired anew, so that only the film's own references tell a texture's colour.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    films = np.zeros((count, SPAN.count, 3, size, size), dtype=np.float32)
    waves = [(0.0, 0.9), (0.9, 0.0), (0.7, 0.7), (1.6, 0.0), (0.0, 1.6), (1.1, -1.1)]
    for film in range(count):
        ground = rng.uniform(0, 6, 4)
        films[film] = 0.45 + 0.1 * np.sin(0.5 * x + ground[0]) * np.sin(0.6 * y + ground[1])
        hues = (np.arange(4) + rng.random()) * np.pi / 2
        rng.shuffle(hues)
        kinds = rng.permutation(len(waves))[:4]
        for hue, kind in zip(hues, kinds, strict=True):
            place, way = rng.uniform(8, size - 8, 2), rng.uniform(-14, 14, 2)
            for t, now in enumerate(np.linspace(0, 3, SPAN.count)):
                cy, cx = (place + way * now) % size
                inside = (np.abs(y - cy) < 7) & (np.abs(x - cx) < 7)
                texture = np.sin(waves[kind][0] * (y - cy) * 1.6 + waves[kind][1] * (x - cx) * 1.6)
                for channel in range(3):
                    tint = 0.5 + 0.25 * np.cos(hue - channel * 2 * np.pi / 3) + 0.12 * texture
                    films[film, t, channel][inside] = tint[inside]
    return np.asarray(np.clip(films, 0, 1) * 255, dtype=np.uint8)


def bundle(seed: int = 0) -> Encoders:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Encoders({"image": Build("mmssl.nn.image.SmallImageEncoder", {"width": 32, "channels": (32, 32, 32)})})


def task_of(**settings: Any) -> VideoColorization:
    return VideoColorization(**({"size": (48, 48), "crop": 0.67} | settings))


def example_of(task: VideoColorization, films: np.ndarray, epoch: int = 0) -> ColorizationExample:
    batch = picture_batch(films, epoch=epoch)
    return task.pretext(batch, batch.draws("task"), START)


def scores(multitask: MultiTask, films: np.ndarray) -> dict[str, float]:
    """Means of the task's metrics."""
    multitask.eval()
    with torch.no_grad():
        _, outcomes = multitask(picture_batch(films, first=10**6), LATE)
    metrics = outcomes["task"].metrics
    return {name: float(total) / max(float(count), 1e-9) for name, (total, count) in metrics.items()}


def trained(control: Control = "none", steps: int = 60, **settings: Any) -> MultiTask:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        multitask = MultiTask(bundle(), {"task": task_of(**settings)}, control=control).train()
        optimizer = torch.optim.AdamW(multitask.parameters(), lr=4e-3)
        films = patched_films(96 if steps < 100 else 192, 1)
        for step in range(steps):
            rows = slice(step * 16 % len(films), step * 16 % len(films) + 16)
            batch = picture_batch(films[rows], epoch=step, first=rows.start)
            loss, outcomes = multitask(batch, Moment(step, steps, 0, step / steps))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(multitask.parameters(), 1.0)
            optimizer.step()
            multitask.after_step({"task": [outcomes["task"].carry]}, LATE)
    return multitask


# -------------------------------------------------------------------------------------------------- what is asked


def test_the_encoder_sees_no_colour() -> None:
    """The gradient of the embeddings with respect to a and b is exactly 0, and films of one lightness are one."""
    multitask = MultiTask(bundle(), {"task": task_of()})
    task, encoders = multitask.tasks["task"], multitask.encoders
    frames = torch.rand(FRAMES, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    lab = rgb_to_lab(frames).requires_grad_()
    task.embeddings(lightness_picture(lab), encoders).square().sum().backward()
    assert bool((lab.grad[:, 1:] == 0).all())
    assert bool((lab.grad[:, 0] != 0).any())
    grey = example_of(task_of(), patched_films(4, 0)).grey
    assert torch.equal(grey, grey[:, :1].expand_as(grey))


def test_labels_are_the_clusters_of_the_cells_mean_colour() -> None:
    films = np.zeros((3, SPAN.count, 3, 48, 48), dtype=np.uint8)
    for film, colour in enumerate(((200, 60, 60), (60, 200, 60), (128, 128, 128))):
        films[film] = np.array(colour, dtype=np.uint8)[:, None, None]
    task = task_of()
    example = example_of(task, films)
    assert example.target.shape == (3, 64)
    assert example.reference.shape == (3, REFERENCES * 64)
    for film in range(3):
        lab = rgb_to_lab(torch.from_numpy(films[film, 0]).float() / 255)[1:, 0, 0]
        wanted = int((task.centroids - lab).square().sum(dim=1).argmin())
        assert example.target[film].unique().tolist() == example.reference[film].unique().tolist() == [wanted]
        assert torch.allclose(example.colours[film], lab.expand(len(example.colours[film]), 2), atol=1e-3)


def test_frames_are_in_the_order_of_time_with_the_gaps_asked_for() -> None:
    films = np.broadcast_to(
        (np.arange(SPAN.count) * 10)[None, :, None, None, None], (20, SPAN.count, 3, 48, 48)
    ).astype(np.uint8)
    grey = example_of(task_of(gap_seconds=(0.25, 0.5)), films).grey[:, 0, 0, 0].reshape(20, FRAMES)
    levels = torch.tensor(np.arange(SPAN.count) * 10 / 255.0)[:, None, None].expand(-1, 1, 1)
    known = lightness_picture(rgb_to_lab(levels.float()[:, None].expand(-1, 3, 1, 1)))[:, 0, 0, 0]
    number = (grey[..., None] - known).abs().argmin(dim=-1)
    assert int(number.diff(dim=1).min()) >= 2
    assert int(number.diff(dim=1).max()) <= 4


def test_frames_and_crop_are_chosen_where_something_moves() -> None:
    """Only the right half moves, and only in the last third of the film."""
    films = np.repeat(still_films(24, 0, size=96), 1, axis=1)[..., :48, :]
    moving = patched_films(24, 3)
    films[:, 16:, :, :, 48:] = moving[:, 16:]
    films[:, :16, :, :, 48:] = moving[:, 16:17]
    colours = {}
    for by_motion in (True, False):
        task = task_of(size=(48, 96), by_motion=by_motion, gap_seconds=(0.125, 0.25), jitter=0.0)
        example = example_of(task, films)
        frames = example.grey.reshape(24, FRAMES, -1)
        colours[by_motion] = float((frames[:, -1] - frames[:, -2]).abs().mean(dim=1).gt(0.005).float().mean())
    assert colours[True] > 0.9
    assert colours[False] < 0.6


def test_each_frame_is_shifted_by_itself() -> None:
    """On still films the same cell has the same colour without the shift, and often another one with it."""
    films = patched_films(32, 0)[:, :1].repeat(SPAN.count, axis=1)
    same = {}
    for jitter in (0.0, 0.125):
        example = example_of(task_of(jitter=jitter), films)
        same[jitter] = float((example.target == example.reference[:, -64:]).float().mean())
    assert same[0.0] == 1.0
    assert same[0.125] < 0.8


def test_the_floor_copies_from_the_same_place_of_the_scene() -> None:
    """On still films it is right everywhere, however the crops are shifted: the shifts are no motion."""
    films = patched_films(32, 0)[:, :1].repeat(SPAN.count, axis=1)
    example = example_of(task_of(), films)
    assert torch.equal(example.copied, example.target)
    assert scores(MultiTask(bundle(), {"task": task_of()}), films)["floor"] == 1.0
    moving = patched_films(32, 0)
    example = example_of(task_of(), moving)
    assert 0.05 < float((example.copied != example.target).float().mean()) < 0.6


# ---------------------------------------------------------------------------------------------------- the pointer


def test_other_numbers_for_the_clusters_change_nothing() -> None:
    multitask = MultiTask(bundle(), {"task": task_of()}).eval()
    task = multitask.tasks["task"]
    example = example_of(task, patched_films(6, 0))
    other = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    renamed = example._replace(
        reference=other[example.reference], target=other[example.target], copied=other[example.copied]
    )
    one, two = (task(e, multitask.encoders, LATE) for e in (example, renamed))
    assert torch.allclose(one.loss, two.loss, atol=1e-6)
    for name in ("balanced_accuracy", "floor", "accuracy", "changed_accuracy"):
        assert torch.allclose(one.metrics[name][0], two.metrics[name][0], atol=1e-4), name


def test_metrics_are_the_means_over_clusters_in_loops() -> None:
    multitask = MultiTask(bundle(), {"task": task_of()}).eval()
    task = multitask.tasks["task"]
    example = example_of(task, patched_films(5, 0))
    found = scores(multitask, patched_films(5, 0))
    outcome = task(example, multitask.encoders, LATE)
    copied = example.copied
    wanted, changed = [], []
    for label, copy, reference in zip(example.target, copied, example.reference, strict=True):
        there = [c for c in label.unique() if bool((reference == c).any())]
        wanted.append(np.mean([float((copy[label == c] == c).float().mean()) for c in there]))
        changed.append(float((label == copy).float().mean()))
    assert float(outcome.metrics["floor"][0]) == pytest.approx(float(np.sum(wanted)), abs=1e-4)
    assert float(outcome.metrics["floor"][1]) == 5
    assert 0 < found["majority"] < 0.5


def test_cells_of_a_colour_that_no_reference_shows_do_not_count() -> None:
    multitask = MultiTask(bundle(), {"task": task_of()}).eval()
    task = multitask.tasks["task"]
    example = example_of(task, patched_films(4, 0))
    place = torch.arange(example.target.shape[1])
    reference = (torch.arange(example.reference.shape[1]) % 2).expand_as(example.reference)
    found = []
    for unknown in (9, 11):
        target = torch.where(place % 3 == 0, unknown, place % 2).expand_as(example.target).clone()
        target[0] = unknown
        outcome = task(example._replace(reference=reference, target=target), multitask.encoders, LATE)
        found.append([outcome.loss.detach(), *(x for name in sorted(outcome.metrics) for x in outcome.metrics[name])])
        assert float(outcome.metrics["balanced_accuracy"][1]) == 3
    assert torch.equal(torch.stack(found[0]), torch.stack(found[1]))


# --------------------------------------------------------------------------------------------------- the clusters


def test_films_without_colour_take_no_part() -> None:
    """Every answer is right there: beside coloured films they change neither the loss nor a score."""
    coloured = patched_films(8, 3)
    grey = np.repeat(coloured.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    task, encoders = task_of(), bundle()
    task.setup(encoders)
    found = []
    for films in (coloured, np.concatenate([coloured, grey])):
        outcome = task(example_of(task, films), encoders, LATE)
        found.append((outcome.losses["nll"], *(outcome.metrics[name][0] for name in ("balanced_accuracy", "floor"))))
        assert float(outcome.metrics["balanced_accuracy"][1]) == 8
    assert torch.allclose(torch.stack(found[0]), torch.stack(found[1]), rtol=1e-5)
    told, among = outcome.metrics["coloured_clips"]
    assert (float(told), float(among)) == (8, 16)
    alone = task(example_of(task, grey), encoders, LATE)
    assert float(alone.losses["nll"].detach()) == 0
    assert float(alone.metrics["balanced_accuracy"][1]) == 0


def test_clusters_are_fitted_once_and_frozen() -> None:
    task = task_of()
    task.setup(encoders := bundle())
    assert torch.equal(task.centroids, grey_spiral(16))
    generator = torch.Generator().manual_seed(0)
    true = torch.tensor([[0.0, 0], [40, 0], [0, 40], [-40, -40]])
    colours = true[torch.randint(4, (SAMPLES // 64, 64), generator=generator)]
    colours = colours + torch.randn(colours.shape, generator=generator)
    weight = torch.ones(len(colours))
    half = len(colours) // 2
    for rows in (slice(0, half), slice(half, None)):
        assert torch.equal(task.centroids, grey_spiral(16))
        task.after_step(encoders, [{"colours": colours[rows], "weight": weight[rows]}], START)
    assert int(task.collected) == SAMPLES
    assert float(torch.cdist(true, task.centroids).min(dim=1).values.max()) < 2.0
    fitted = task.centroids.clone()
    task.after_step(encoders, [{"colours": colours + 100, "weight": weight}], START)
    assert torch.equal(task.centroids, fitted)
    other = task_of()
    other.setup(bundle(1))
    other.load_state_dict(task.state_dict())
    assert torch.equal(other.centroids, fitted)
    assert int(other.collected) == SAMPLES


def test_colours_of_holes_are_not_collected() -> None:
    task = task_of()
    task.setup(encoders := bundle())
    weight = torch.tensor([1.0, 0.0, 1.0])
    colours = torch.arange(3.0)[:, None, None].expand(3, 64, 2)
    task.after_step(encoders, [{"colours": colours, "weight": weight}], START)
    assert int(task.collected) == 128
    assert sorted(task.samples[:128].unique().tolist()) == [0.0, 2.0]


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a crop of 0\.95 with jitter 0\.1 does not fit"):
        VideoColorization(crop=0.95, jitter=0.1)
    with pytest.raises(ValueError, match="clusters must be 2 or more"):
        VideoColorization(clusters=1)
    with pytest.raises(ValueError, match=r"strides \[2\] are not among the encoder's \(4, 8, 16\)"):
        task_of(strides=(2, 4)).setup(bundle())


# ------------------------------------------------------------------------------------------------- what is learned


def lessons(steps: int, films: int, control_steps: int) -> dict[str, dict[str, float]]:
    """Scores on held-out films after three trainings, and of weights that learned nothing."""
    held_out = patched_films(films, 2)
    trainings: tuple[tuple[Control, int], ...] = (
        ("none", steps),
        ("broken_pairs", control_steps),
        ("blind", control_steps),
    )
    found: dict[str, dict[str, float]] = {c: scores(trained(c, n, clusters=6), held_out) for c, n in trainings}
    return found | {"untrained": scores(MultiTask(bundle(), {"task": task_of(clusters=6)}), held_out)}


def assert_controls_teach_nothing(found: dict[str, dict[str, float]]) -> None:
    for control in ("broken_pairs", "blind", "untrained"):
        assert found[control]["balanced_accuracy"] < found[control]["floor"] - 0.15, control


def test_the_label_is_true() -> None:
    """Above copying the same place on true clips; far below it when the colours were another clip's, or blind.

    Where copying the same place is wrong the commonest colour, grey, is right in half of the cells.
    """
    found = lessons(steps=80, films=48, control_steps=40)
    assert found["none"]["balanced_accuracy"] > found["none"]["floor"] + 0.02
    assert found["none"]["changed_accuracy"] > found["broken_pairs"]["changed_accuracy"] + 0.15
    assert_controls_teach_nothing(found)


@pytest.mark.slow
def test_the_label_is_true_and_learned() -> None:
    """By 10 points over copying in all cells, and nearly half of the way from the floor to the ceiling."""
    found = lessons(steps=300, films=128, control_steps=300)
    true = found["none"]
    assert true["balanced_accuracy"] > true["floor"] + 0.1
    assert true["accuracy"] > true["copy_accuracy"] + 0.1
    assert_controls_teach_nothing(found)
