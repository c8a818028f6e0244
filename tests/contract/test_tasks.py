"""The contract of a pretext task, kept by every task of the table: a new one is tested by being listed.

What the label has to do with the input is judged by `tests/laws/test_label_is_true.py`.
"""

from __future__ import annotations

import copy
import importlib
import math
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mmssl.tasks
from mmssl.batch import Batch
from mmssl.clip import Window
from mmssl.errors import UserError
from mmssl.nn.encoders import Encoders
from mmssl.nn.matcher import Matcher
from mmssl.tasks import TASKS
from mmssl.tasks.base import Moment, MultiTask, Outcome, PretextTask
from tests.batches import World, small_encoders, training_undropped, truth_of
from tests.contract.rows import changed, same_rows, spoiled, take_rows, without

SIZE = (32, 32)
CLIPS = 8
MODALITIES = {"image", "video", "audio", "flow", "text", "graph"}
SEES = {"picture": {"image", "video", "flow"}, "flow": {"flow"}, "sound": {"audio"}, "text": {"text"}}
LATE = Moment(90, 100, 1, 0.9)  # when curricula have brought in everything

pytestmark = pytest.mark.parametrize("name", sorted(TASKS))


def task_of(name: str) -> PretextTask[Any, Any]:
    return TASKS[name](size=SIZE)  # type: ignore[call-arg]


def multitask_of(name: str, seed: int = 0, width: int = 48) -> MultiTask:
    """One task and its encoders, moved off their start weights (some start at zero and pass no gradient)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        multitask = MultiTask(small_encoders(seed, width), {name: task_of(name)})
        with torch.no_grad():
            for parameter in multitask.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return training_undropped(multitask)


WORLDS: dict[Window, World] = {}


def batch_of(name: str, epoch: int = 0, clips: int = CLIPS) -> Batch:
    window = task_of(name).window
    if window not in WORLDS:
        WORLDS[window] = World(16, window, seed=3)
    return WORLDS[window].batch(range(clips), epoch)


def example_of(name: str, batch: Batch) -> Any:
    with torch.no_grad():
        return task_of(name).pretext(batch, batch.draws(name), LATE)


def learn(multitask: MultiTask, batch: Batch) -> tuple[Outcome, dict[str, torch.Tensor]]:
    """Outcome and gradients of one step without an optimizer."""
    multitask.zero_grad(set_to_none=True)
    loss, outcomes = multitask(batch, LATE, truth=truth_of(batch))
    loss.backward()
    (outcome,) = outcomes.values()
    gradients = {n: p.grad.clone() for n, p in multitask.named_parameters() if p.grad is not None}
    return outcome, gradients


def assert_same_learning(name: str, one: Batch, two: Batch) -> None:
    multitask = multitask_of(name)
    (outcome, gradients), (other, others) = learn(multitask, one), learn(multitask, two)
    assert float(outcome.loss.detach()) > 0
    assert torch.allclose(outcome.loss, other.loss, rtol=1e-5, atol=1e-6)
    assert gradients.keys() == others.keys()
    # A bias that a standardisation over the batch follows has no gradient but what rounding leaves of it.
    rounding = 1e-6 * max(float(gradient.abs().max()) for gradient in gradients.values())
    for parameter, gradient in gradients.items():
        close = 1e-4 * (float(gradient.abs().max()) + 1e-4) + rounding
        assert torch.allclose(gradient, others[parameter], rtol=1e-3, atol=close), parameter
    assert outcome.metrics.keys() == other.metrics.keys()
    for metric, values in outcome.metrics.items():
        for value, again in zip(values, other.metrics[metric], strict=True):
            assert torch.allclose(value, again, atol=1e-4), metric


# -------------------------------------------------------------------------------------------- what a task declares


def test_declares_what_it_uses_needs_and_is_judged_by(name: str) -> None:
    task = task_of(name)
    assert task.uses
    assert set(task.uses.values()) <= MODALITIES
    assert task.needs
    assert task.ablated_input in task.needs
    assert any(modality in SEES[task.ablated_input] for modality in task.uses.values())
    assert task.score.floor is None or (task.score.floor < task.score.ceiling) == task.score.higher_is_better
    window = task.window
    assert ("picture" in task.needs) == bool(window.pictures)
    assert ("sound" in task.needs) == bool(window.sounds)
    assert ("text" in task.needs) == window.text
    assert window.size == SIZE
    assert set(task.needs_truth) == set(window.truth)


def test_says_where_it_comes_from(name: str) -> None:
    """File, class and table go by one name, and the file names its paper."""
    cls = TASKS[name]
    module = importlib.import_module(cls.__module__)
    path = Path(str(module.__file__))
    assert path.stem == name
    assert path.parent.parent == Path(mmssl.tasks.__file__).parent
    assert cls.__name__.lower() == name.replace("_", "")
    assert re.search(r"\b\d{4}\.\d{4,5}\b", module.__doc__ or ""), "no arXiv number in the file's docstring"
    assert "Args:" in (cls.__doc__ or "")


def test_parameter_groups_hold_every_parameter_once(name: str) -> None:
    task = multitask_of(name).tasks[name]
    grouped = [id(p) for group in task.parameter_groups() for p in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for p in task.parameters()}
    assert grouped


# ----------------------------------------------------------------------------------------------------- pseudo labels


def test_example_is_a_named_tuple_of_tensors(name: str) -> None:
    example = example_of(name, batch_of(name))
    assert hasattr(example, "_fields")
    for field, value in example._asdict().items():
        assert isinstance(value, torch.Tensor), field
        assert not value.requires_grad, field
    assert example.weight.dtype == torch.float32


def test_pseudo_labels_are_a_function_of_the_samples(name: str) -> None:
    """The same samples and epoch, the same example; another epoch, another one."""
    one, again, later = (example_of(name, batch_of(name, epoch)) for epoch in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(one, later, strict=True))


def test_what_belongs_together_can_be_taken_apart(name: str) -> None:
    """The control of law 6: the paired fields change places, everything else stays."""
    batch = batch_of(name)
    example, draws = example_of(name, batch), batch.draws(name)
    assert TASKS[name].paired
    broken = task_of(name).break_pairs(example, draws)
    moved = {f for f, a, b in zip(example._fields, example, broken, strict=True) if not torch.equal(a, b)}
    assert moved
    assert moved <= set(TASKS[name].paired)
    assert [a.shape for a in example] == [b.shape for b in broken]


def test_broken_pairs_say_nothing_about_the_truth(name: str) -> None:
    """Labels of a row's own are never kept; sides that are compared are anyone's alike, the own clip's included."""
    task, own = task_of(name), []
    field = TASKS[name].paired[0]
    batch = batch_of(name)
    example = example_of(name, batch)
    parts = len(getattr(example, field)) // CLIPS
    numbered = torch.arange(CLIPS).repeat_interleave(parts)  # which clip a row is of

    def filled(side: torch.Tensor) -> torch.Tensor:
        return numbered.reshape(-1, *(1,) * (side.ndim - 1)).expand_as(side)

    held = example._replace(**{one: filled(getattr(example, one)) for one in task.paired})
    for epoch in range(60):
        moved = getattr(task.break_pairs(held, batch_of(name, epoch).draws(name)), field)
        moved = moved.reshape(len(moved), -1)[:, 0]
        assert torch.equal(moved.sort().values, numbered)
        own.append((moved == numbered).float().mean())
    kept = float(torch.stack(own).mean())
    assert (0.06 < kept < 0.2) if task.negatives else kept == 0.0  # 1 / 8 where all are alike
    alone = batch_of(name, clips=1)
    with pytest.raises(UserError, match=r"broken_pairs: a batch of one clip .* set data\.batch_size"):
        task.break_pairs(example_of(name, alone), alone.draws(name))


def test_a_row_does_not_depend_on_the_others(name: str) -> None:
    batch = batch_of(name)
    whole = example_of(name, batch)
    rows = [5, 2]
    part = example_of(name, take_rows(batch, rows))
    for field, a, b in zip(whole._fields, whole, part, strict=True):
        assert same_rows(a, b, CLIPS, rows), field


def test_no_global_generator_is_used(name: str) -> None:
    batch = batch_of(name)
    task = task_of(name)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index]
    with torch.no_grad():
        task.pretext(batch, batch.draws(name), LATE)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # type: ignore[index]
    assert before[2] == random.getstate()


def test_the_batch_is_left_as_it_was(name: str) -> None:
    batch = batch_of(name)
    kept = copy.deepcopy(changed(batch))
    learn(multitask_of(name), batch)
    assert torch.equal(batch.frames, kept.frames)
    assert torch.equal(batch.audio, kept.audio)
    for one, two in ((batch.motion, kept.motion), (batch.motion_known, kept.motion_known)):
        assert one is two is None or (one is not None and two is not None and torch.equal(one, two))
    assert torch.equal(batch.token_ids, kept.token_ids)
    assert torch.equal(batch.sentence_mask, kept.sentence_mask)


@pytest.mark.gpu
def test_pseudo_labels_are_the_same_on_the_gpu(name: str) -> None:
    batch = batch_of(name)
    here, there = example_of(name, batch), None
    with torch.no_grad():
        there = task_of(name).to("cuda").pretext(batch.to("cuda"), batch.to("cuda").draws(name), LATE)
    for field, a, b in zip(here._fields, here, there, strict=True):
        # The GPU's powers and interpolation round otherwise: 1e-4 of a colour in Lab, which reaches from 0 to 100.
        close = torch.allclose(a, b.cpu(), atol=1e-3, rtol=1e-4) if a.is_floating_point() else torch.equal(a, b.cpu())
        assert close, field


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_the_loss_is_the_same_on_the_gpu(name: str, dtype: torch.dtype) -> None:
    batch, truth = batch_of(name), truth_of(batch_of(name))
    with torch.no_grad():
        here, _ = multitask_of(name)(batch, LATE, truth=truth)
    multitask = multitask_of(name).to("cuda")
    with torch.autocast("cuda", dtype, enabled=dtype == torch.bfloat16):
        there, _ = multitask(batch.to("cuda"), LATE, truth=truth.to("cuda"))
    there.backward()
    gradients = [p.grad for p in multitask.parameters() if p.grad is not None]
    assert gradients
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
    # TF32 of convolutions keeps ten bits; rows whose label lies on an edge may change sides in bfloat16.
    assert float(there.detach()) == pytest.approx(float(here), rel=0.01 if dtype == torch.float32 else 0.15)


# ------------------------------------------------------------------------------------------------ loss and gradients


@pytest.mark.parametrize("width", [16, 40])
def test_heads_fit_encoders_of_any_width(name: str, width: int) -> None:
    multitask = multitask_of(name, width=width)
    batch = batch_of(name)
    loss, outcomes = multitask(batch, LATE, truth=truth_of(batch))
    assert math.isfinite(float(loss.detach()))
    assert outcomes[name].loss.dtype == torch.float32


def test_gradient_reaches_heads_and_used_encoders_and_no_others(name: str) -> None:
    """Every parameter of the heads; of each used encoder all but those behind the last level that is read."""
    multitask = multitask_of(name)
    _, gradients = learn(multitask, batch_of(name))
    assert all(bool(torch.isfinite(g).all()) for g in gradients.values())
    reached = {parameter for parameter, gradient in gradients.items() if bool(gradient.any())}
    heads = {n for n, _ in multitask.named_parameters() if n.startswith("heads.")}
    assert heads <= reached
    for encoder in multitask.encoders.names():
        of_encoder = [n for n, _ in multitask.named_parameters() if n.startswith(f"encoders.parts.{encoder}.")]
        inside = [n in reached for n in of_encoder]
        if encoder not in multitask.tasks[name].uses:
            assert not any(inside), encoder
        else:
            depth = max(i for i, hit in enumerate(inside) if hit) + 1
            assert all(inside[:depth]), [n for n, hit in zip(of_encoder[:depth], inside, strict=False) if not hit]
            assert depth > len(inside) / 3


def test_metrics_are_sums_and_counts(name: str) -> None:
    outcome, _ = learn(multitask_of(name), batch_of(name))
    score = TASKS[name].score
    assert score.metric in outcome.metrics
    assert score.floor is not None or "floor" in outcome.metrics
    for metric, (total, count) in outcome.metrics.items():
        assert total.shape == count.shape == ()
        assert not total.requires_grad
        assert float(count) >= 0
        assert math.isfinite(float(total)), metric
    total, count = outcome.metrics[score.metric]
    assert float(count) > 0
    if {score.floor, score.ceiling} <= {x for x in (score.floor, score.ceiling) if x is not None and 0 <= x <= 1}:
        assert 0 <= float(total) <= float(count)
    assert all(not carried.requires_grad for carried in outcome.carry.values())


def test_what_stands_in_a_hole_changes_nothing(name: str) -> None:
    batch = batch_of(name)
    weight = torch.ones(CLIPS)
    weight[[1, 6]] = 0
    holed = changed(batch, weight=weight)
    assert_same_learning(name, holed, changed(spoiled(batch, [1, 6]), weight=weight))


def test_a_hole_is_as_if_the_clip_were_not_there(name: str) -> None:
    batch = batch_of(name)
    weight = torch.ones(CLIPS)
    weight[[1, 6]] = 0
    assert_same_learning(name, changed(batch, weight=weight), take_rows(batch, [0, 2, 3, 4, 5, 7]))


@pytest.mark.parametrize("what", ["sound", "text", "picture"])
def test_clips_that_lack_something(name: str, what: str) -> None:
    """They take no part where it is needed, and all of it where it is not."""
    batch = batch_of(name)
    lacking = without(batch, what, [0, 3])
    if what in TASKS[name].needs:
        assert_same_learning(name, lacking, take_rows(batch, [1, 2, 4, 5, 6, 7]))
    else:
        assert_same_learning(name, lacking, batch)


def test_clips_without_the_truth_that_is_needed(name: str) -> None:
    """They are rows that lack it: zeros are never taken for the truth."""
    if not TASKS[name].needs_truth:
        return
    batch = batch_of(name)
    assert_same_learning(name, without(batch, "truth", [0, 3]), take_rows(batch, [1, 2, 4, 5, 6, 7]))


@pytest.mark.parametrize("cause", ["holes", "nothing there"])
def test_no_valid_row_at_all(name: str, cause: str) -> None:
    """A loss of exactly 0 with gradients of exactly 0: the other ranks still wait for them."""
    batch = batch_of(name)
    if cause == "holes":
        batch = changed(batch, weight=torch.zeros(CLIPS))
    else:
        batch = without(batch, TASKS[name].needs[-1], range(CLIPS))
    outcome, gradients = learn(multitask_of(name), batch)
    assert float(outcome.loss.detach()) == 0.0
    assert {n.split(".")[0] for n in gradients} == {"encoders", "heads"}
    assert not any(bool(gradient.any()) for gradient in gradients.values())
    total, count = outcome.metrics[TASKS[name].score.metric]
    assert float(total) == float(count) == 0.0


def test_bfloat16_autocast_keeps_the_loss_in_float32(name: str) -> None:
    multitask, batch = multitask_of(name), batch_of(name)
    exact = float(multitask(batch, LATE, truth=truth_of(batch))[0].detach())
    with torch.autocast("cpu", torch.bfloat16):
        loss, outcomes = multitask(changed(batch), LATE, truth=truth_of(batch))
    assert {value.dtype for value in outcomes[name].losses.values()} == {torch.float32}
    loss.backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in multitask.parameters() if p.grad is not None)
    assert float(loss.detach()) == pytest.approx(exact, rel=0.1, abs=0.05)


# ------------------------------------------------------------------------------------------------------------- state


def _attributes(task: nn.Module) -> Iterator[tuple[str, str]]:
    for path, module in task.named_modules():
        for key, value in vars(module).items():
            if key not in ("_parameters", "_buffers", "_modules"):
                yield f"{path}.{key}", repr(value)


def test_between_calls_it_keeps_registered_buffers_only(name: str) -> None:
    multitask = multitask_of(name)
    task = multitask.tasks[name]
    before = dict(_attributes(task))
    for epoch in range(2):
        outcome, _ = learn(multitask, batch_of(name, epoch))
        multitask.after_step({name: [outcome.carry]}, LATE)
    assert dict(_attributes(task)) == before
    assert not any(isinstance(module, Encoders) for module in task.modules()), "the student is never stored in a task"


def test_state_goes_through_a_state_dict(name: str) -> None:
    one, two = multitask_of(name, seed=0), multitask_of(name, seed=1)
    batch = batch_of(name)
    truth = truth_of(batch)
    wanted = one(batch, LATE, truth=truth)[0]
    assert not torch.allclose(wanted, two(changed(batch), LATE, truth=truth)[0])
    two.load_state_dict(one.state_dict())
    assert torch.equal(wanted, two(changed(batch), LATE, truth=truth)[0])


def test_exported_head_is_saved_and_loaded(name: str, tmp_path: Path) -> None:
    multitask = multitask_of(name).eval()
    head = multitask.tasks[name].exports()
    if head is None:
        assert multitask.exports() == {}
        return
    if not isinstance(head, Matcher):  # a head of another kind builds itself of its arguments, weights and all
        multitask.encoders.save(tmp_path, multitask.exports())
        again = Encoders.load_exported(tmp_path, name, type(head))
        assert again.state_dict().keys() == head.state_dict().keys()
        assert all(
            torch.equal(a, b) for a, b in zip(again.state_dict().values(), head.state_dict().values(), strict=True)
        )
        with pytest.raises(UserError, match="no Matcher"):
            Encoders.load_head(tmp_path, name)
        return
    assert isinstance(head, Matcher)
    assert set(head.encoders) <= set(SEES)
    assert set(head.encoders.values()) <= set(TASKS[name].uses)
    multitask.encoders.save(tmp_path, multitask.exports())
    loaded, encoders = Encoders.load_head(tmp_path, name), Encoders.from_pretrained(tmp_path)
    given = inputs(multitask.encoders, batch_of(name))
    embedded = []
    for bundle, matcher in ((multitask.encoders, head), (encoders, loaded)):
        with torch.no_grad():
            features = {what: bundle[e](*given[what, e]) for what, e in matcher.encoders.items()}
            embedded.append({what: matcher.embed(what, found) for what, found in features.items()})
    for what, wanted in embedded[0].items():
        assert torch.equal(wanted, embedded[1][what]), what
        assert wanted.shape[0] == CLIPS
        assert torch.isfinite(wanted).all()
    a, b = embedded[0].values()
    similarity = head.similarity(a, b)
    assert similarity.shape == (CLIPS, CLIPS)
    assert torch.allclose(a.norm(dim=1), torch.ones(CLIPS), atol=1e-4)


def inputs(encoders: Encoders, batch: Batch) -> dict[tuple[str, str], tuple[torch.Tensor, ...]]:
    """What an encoder of the bundle is given for each part of a clip."""
    frames = batch.frames[:, 0].float() / 255
    given: dict[tuple[str, str], tuple[torch.Tensor, ...]] = {
        ("picture", "image"): (frames[:, 0],),
        ("picture", "video"): (frames.transpose(1, 2),),
        ("text", "text"): (batch.token_ids[:, 0], batch.token_mask[:, 0]),
    }
    if batch.audio_rate:
        given["sound", "audio"] = (encoders["audio"].frontend(batch.audio[:, 0]),)
    if batch.motion is not None:
        given["flow", "flow"] = (batch.motion[:, 0].transpose(1, 2),)
    return given
