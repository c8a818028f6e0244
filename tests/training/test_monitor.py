"""The monitor: what it shows encoders, what it calls a collapse, and the cause it names."""

from __future__ import annotations

import re

import pytest
import torch

from mmssl import distributed
from mmssl.metrics.collapse import Collapse, measure_collapse
from mmssl.tasks.base import Moment
from mmssl.training.monitor import Monitor, Standing, collapse_warning, encoder_input, monitor_row, spectrum_file
from mmssl.training.precision import Precision
from tests.training.stand_ins import TinyStream, UpOrDown, tiny_multitask

FP32 = Precision("fp32", torch.device("cpu"))


def stream() -> TinyStream:
    return TinyStream(clips=64, batch_size=16, repeat=False)


def alive() -> Collapse:
    return measure_collapse(torch.randn(400, 32, generator=torch.Generator().manual_seed(0)))


def few_directions() -> Collapse:
    generator = torch.Generator().manual_seed(0)
    line = torch.randn(400, 1, generator=generator) @ torch.randn(1, 64, generator=generator)
    return measure_collapse(line + 1e-3 * torch.randn(400, 64, generator=generator))


def one_vector() -> Collapse:
    generator = torch.Generator().manual_seed(0)
    return measure_collapse(torch.ones(400, 32) + 0.01 * torch.randn(400, 32, generator=generator))


def test_healthy_features_give_no_warning() -> None:
    assert collapse_warning("image", alive(), {}) == ""


@pytest.mark.parametrize(
    ("tasks", "cause"),
    [
        ({"byol": Standing(0.4, 0.0, 1.0, teacher=True)}, "'byol' learns from a teacher without negatives"),
        ({"nce": Standing(0.5, 0.5, 1.0)}, r"no task that trains it is above its floor \('nce'\) - lower optimizer.lr"),
        ({"nce": Standing(0.9, 0.5, 1.0)}, "none trains the pooled vector"),
        ({"l1": Standing(0.51, 0.52, 0.0)}, "no task that trains it is above its floor"),  # lower is better here
    ],
)
def test_one_vector_for_all_clips(tasks: dict[str, Standing], cause: str) -> None:
    text = collapse_warning("image", one_vector(), tasks)
    assert text.startswith("collapse: encoder 'image' gives nearly one vector for all clips (std 0.0")
    assert re.search(cause, text)


@pytest.mark.parametrize(
    ("score", "cause"), [(1.0, "'rotation' is solved already, so a shortcut"), (0.5, "augmentation stronger than")]
)
def test_few_directions(score: float, cause: str) -> None:
    text = collapse_warning("image", few_directions(), {"rotation": Standing(score, 0.25, 1.0)})
    assert text.startswith("dimensional collapse: encoder 'image' uses 1.")
    assert cause in text


def test_a_warning_comes_once_until_the_features_recover() -> None:
    monitor = Monitor(tiny_multitask(), stream, 1, FP32)
    standings = {"turn": Standing(0.5, 0.5, 1.0)}
    assert len(monitor.warnings({"image": one_vector()}, standings)) == 1
    assert monitor.warnings({"image": one_vector()}, standings) == []
    assert monitor.warnings({"image": alive()}, standings) == []
    assert len(monitor.warnings({"image": one_vector()}, standings)) == 1


def test_it_looks_at_the_same_valid_clips_every_time() -> None:
    multitask = tiny_multitask()
    made = []

    def factory() -> TinyStream:
        made.append(stream())
        return made[-1]

    monitor = Monitor(multitask, factory, 3, FP32)
    first, second = monitor.look(), monitor.look()
    assert first["image"].samples == 47  # three batches of 16, one clip is a hole
    assert second["image"].std == first["image"].std
    assert len(made) == 1
    assert made[0].closed == 1
    assert multitask.training
    row = monitor_row(first)
    assert row["image/effective_rank"] == first["image"].rank
    assert len(spectrum_file(7, first)["encoders"]["image"]["singular_values"]) == 8


def test_dead_encoder_is_seen() -> None:
    multitask = tiny_multitask()
    with torch.no_grad():
        multitask.encoders["image"].project.weight.zero_()
    found = Monitor(multitask, stream, 2, FP32).look()["image"]
    assert found.std == pytest.approx(0, abs=1e-6)
    assert "gives nearly one vector" in collapse_warning("image", found, {})


def test_gradient_norms_are_those_of_each_weighted_task() -> None:
    multitask = tiny_multitask(a=UpOrDown(), b=UpOrDown())
    multitask.weights["b"] = 0.0
    norms = Monitor(multitask, stream, 1, FP32).gradient_norms(Moment(0, 1, 0, 0.0))
    batch, _ = next(iter(stream()))
    multitask.eval()
    loss, _ = multitask(batch, Moment(0, 1, 0, 0.0), ["a"])
    loss.backward()
    grads = torch.cat([p.grad.flatten() for p in multitask.encoders["image"].parameters() if p.grad is not None])
    assert norms == {"image/gradient/a": pytest.approx(float(grads.norm()), rel=1e-5), "image/gradient/b": 0.0}
    assert distributed.world_size() == 1


def test_encoders_see_the_middle_frame_unaugmented() -> None:
    multitask = tiny_multitask()
    batch, _ = next(iter(stream()))
    given = encoder_input(multitask.encoders, "image", batch, multitask.window)
    assert given is not None
    (pictures,), real = given
    assert torch.equal(pictures, batch.frames[:, 0, 1].float() / 255)
    assert real.tolist() == [key != "clip007" for key in batch.keys]
