"""Every scoring rule keeps the contract of a task, and what its own teacher, dropout and warm-up promise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import localization_rules as program
from mmssl.batch import Batch
from mmssl.errors import UserError
from mmssl.losses.false_negatives import false_negative_terms
from mmssl.losses.similarity import place_similarities
from mmssl.tasks import TASKS
from mmssl.tasks.base import Control, Moment, MultiTask
from mmssl.tasks.cross_modal.av_localization import AVLocalization
from mmssl.tasks.cross_modal.localization_rules import AvolNet, EzVsl, Fnac, LocalizationRule, Lvs, Projected, Slavc
from mmssl.training.optim import parameter_groups
from mmssl.training.trainer import Finished
from tests.batches import World, make_batch
from tests.contract import test_tasks as contract
from tests.tasks.cross_modal.trained import LATE, START, changed, mean, multitask_of, outcome_of, train

SIZE = (32, 32)
RULES: dict[str, Callable[[], LocalizationRule]] = {
    "lvs": Lvs,
    "ez_vsl": EzVsl,
    "slavc": Slavc,
    "fnac": Fnac,
}
#: What depends on the rule; the rest of the contract is that of the task with any rule.
CLAUSES = (
    contract.test_parameter_groups_hold_every_parameter_once,
    contract.test_gradient_reaches_heads_and_used_encoders_and_no_others,
    contract.test_metrics_are_sums_and_counts,
    contract.test_what_stands_in_a_hole_changes_nothing,
    contract.test_a_hole_is_as_if_the_clip_were_not_there,
    contract.test_bfloat16_autocast_keeps_the_loss_in_float32,
    contract.test_between_calls_it_keeps_registered_buffers_only,
    contract.test_state_goes_through_a_state_dict,
)


def task_of(rule: Callable[[], LocalizationRule], **settings: Any) -> AVLocalization:
    return AVLocalization(size=SIZE, augment=False, rule=rule(), **settings)


@pytest.fixture
def listed(rule: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The table with the rule in the place of the default one."""

    class WithRule(AVLocalization):
        def __init__(self, size: tuple[int, int]) -> None:
            super().__init__(size=size, rule=RULES[rule]())

    monkeypatch.setitem(TASKS, "av_localization", WithRule)
    return "av_localization"


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.__name__[5:])
@pytest.mark.parametrize("rule", RULES)
def test_keeps_the_contract(listed: str, clause: Callable[[str], None]) -> None:
    clause(listed)


@pytest.mark.parametrize("rule", RULES)
def test_without_a_valid_row_it_learns_nothing_and_its_head_is_saved(listed: str, tmp_path: Path) -> None:
    contract.test_no_valid_row_at_all(listed, "nothing there")
    contract.test_clips_that_lack_something(listed, "sound")
    contract.test_exported_head_is_saved_and_loaded(listed, tmp_path)


@pytest.mark.parametrize("rule", RULES)
def test_maps_hold_cosines_and_the_score_is_their_best(rule: str) -> None:
    multitask = multitask_of(task_of(RULES[rule]))
    task = multitask.tasks["task"]
    batch = make_batch(range(5))
    example = task.pretext(batch, batch.draws("task"), LATE)
    matcher, encoders = task.exports(), multitask.encoders
    assert matcher is not None
    with torch.no_grad():
        picture, sound = encoders["image"](example.picture), encoders["audio"](encoders["audio"].frontend(example.wave))
        found = matcher.similarity_map(picture, sound)
        places, heard = matcher.places(matcher.project("picture", picture)), matcher.embed("sound", sound)
        torch.testing.assert_close(places.norm(dim=1), torch.ones(5, 4, 4))
        torch.testing.assert_close(heard.norm(dim=1), torch.ones(5))
        scores = task.rule(
            batch=matcher_rows(places, heard), weight=torch.ones(5), moment=LATE, teacher=matcher_rows(places, heard)
        ).scores
    torch.testing.assert_close(found.flatten(1).amax(dim=1), scores.diagonal())
    # The mean over the heads of each head's cosine.
    parts = zip(places.chunk(task.rule.heads, 1), heard.chunk(task.rule.heads, 1), strict=True)
    cosines = [torch.cosine_similarity(p, s[:, :, None, None], dim=1) for p, s in parts]
    torch.testing.assert_close(found, torch.stack(cosines).mean(dim=0))


def matcher_rows(places: torch.Tensor, sounds: torch.Tensor) -> Any:
    return Projected(places, sounds)


# ----------------------------------------------------------------------------------------------------------- teacher


def step(multitask: MultiTask, batch: Batch) -> None:
    optimizer = torch.optim.SGD(multitask.parameters(), 0.1)
    loss, outcomes = multitask(changed(batch), LATE)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    multitask.after_step({"task": [outcomes["task"].carry]}, LATE)


def test_the_teacher_of_slavc_follows_encoders_and_head_and_is_saved() -> None:
    multitask, other = (multitask_of(task_of(Slavc), seed) for seed in (0, 1))
    task: Any = multitask.tasks["task"]
    names = [n for n, _ in multitask.encoders["image"].named_parameters()]
    before = task.teacher.copied["image"].get_buffer(names[0]).clone()
    assert torch.equal(before, multitask.encoders["image"].get_parameter(names[0]))
    step(multitask, make_batch(range(6)))
    student = multitask.encoders["image"].get_parameter(names[0]).detach()
    assert not torch.equal(student, before)
    torch.testing.assert_close(
        task.teacher.copied["image"].get_buffer(names[0]), before + 0.001 * (student - before), atol=1e-7, rtol=1e-6
    )
    other.load_state_dict(multitask.state_dict())
    held: Any = other.tasks["task"]
    assert torch.equal(
        held.teacher.copied["image"].get_buffer(names[0]), task.teacher.copied["image"].get_buffer(names[0])
    )
    trained = {id(p) for group in parameter_groups(multitask) for p in group["params"]}
    assert trained == {id(p) for p in multitask.parameters()}
    assert not any("teacher" in n for n, _ in multitask.named_parameters())


def test_the_teacher_takes_part_but_gets_no_gradient() -> None:
    multitask = multitask_of(task_of(Slavc))
    batch = make_batch(range(6))
    loss = outcome_of(multitask, batch).loss
    task: Any = multitask.tasks["task"]
    with torch.no_grad():
        for buffer in task.teacher.copied["audio"].buffers():
            if buffer.is_floating_point() and buffer.ndim > 1:
                buffer.mul_(-0.5)
    assert abs(float(outcome_of(multitask, batch).loss.detach()) - float(loss.detach())) > 1e-4
    assert not any(buffer.requires_grad for buffer in task.teacher.buffers())


# --------------------------------------------------------------------------------------------- settings of the rules


def test_dropout_hides_features_in_training_only() -> None:
    batch = make_batch(range(6))
    for rule, random in ((lambda: EzVsl(dropout=0.9), True), (EzVsl, False)):
        multitask = multitask_of(task_of(rule)).train()
        losses = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            losses.append(float(outcome_of(multitask, batch).loss.detach()))
        assert (abs(losses[0] - losses[1]) > 1e-3) is random
        multitask.eval()
        one, two = (float(outcome_of(multitask, batch).loss.detach()) for _ in range(2))
        assert one == two


def test_soft_targets_come_after_the_warm_up() -> None:
    multitask = multitask_of(task_of(lambda: Fnac(warmup=0.5)))
    batch = make_batch(range(6))
    early, late = outcome_of(multitask, batch, START).losses, outcome_of(multitask, batch, LATE).losses
    assert set(early) == {"multiple_instance"}
    assert set(late) == {"multiple_instance", "sounds_pairs", "sounds_foregrounds", "pictures_pairs"}
    assert float(early["multiple_instance"].detach()) == float(late["multiple_instance"].detach())


def test_sounds_that_are_alike_are_pushed_apart_less() -> None:
    """Two clips of one source: FNAC's targets accept the pair that EZ-VSL counts as a false match."""
    sounds = torch.nn.functional.normalize(torch.tensor([[1.0, 0, 0], [1.0, 0.05, 0], [0, 0, 1.0]]), dim=1)
    places = sounds[:, :, None, None].repeat(1, 1, 2, 2)
    terms = Fnac(warmup=0)(matcher_rows(places, sounds), torch.ones(3), LATE, None).losses
    apart = places.clone()
    apart[1] = torch.tensor([0, 1.0, 0])[:, None, None]  # as far from its twin as the plain loss wants it
    pushed = Fnac(warmup=0)(matcher_rows(apart, sounds), torch.ones(3), LATE, None).losses
    assert float(terms["sounds_pairs"]) < 0.1 * float(pushed["sounds_pairs"])
    assert place_similarities(places, sounds).shape == (3, 3, 4)


def slow_fnac(places: torch.Tensor, sounds: torch.Tensor, temperature: float) -> torch.Tensor:
    """The published total: both directions summed, and a hundred times each of the distances as in a batch of 128."""
    similarity = place_similarities(places, sounds)
    best, total = similarity.amax(dim=2).double() / temperature, torch.zeros((), dtype=torch.float64)
    for i in range(len(best)):
        total -= torch.log_softmax(best[i], dim=0)[i] / len(best)
        total -= torch.log_softmax(best[:, i], dim=0)[i] / len(best)
    terms = false_negative_terms(places.flatten(2), sounds, similarity, torch.ones(len(best)), temperature)
    return total + 100 * terms.double().sum()


def unit_batch(count: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    places, sounds = torch.randn(count, 8, 2, 3, generator=generator), torch.randn(count, 8, generator=generator)
    return torch.nn.functional.normalize(places, dim=1), torch.nn.functional.normalize(sounds, dim=1)


def test_fnacs_distances_weigh_as_published_beside_the_contrast() -> None:
    places, sounds = unit_batch()
    losses = Fnac(temperature=0.5)(matcher_rows(places, sounds), torch.ones(5), LATE, None).losses
    torch.testing.assert_close(2 * sum(losses.values()).double(), slow_fnac(places, sounds, 0.5), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("count", [32, 128])
def test_fnac_prefers_right_maps_to_a_collapse_whatever_the_batch(count: int) -> None:
    """One place of 16 holds the sound and the rest one background, or all vectors are one: the soft targets, which do
    not know the places, favour the second, and must not by more than the contrast favours the first."""
    own = torch.eye(count + 1)[:count]
    right = torch.eye(count + 1)[count][None, :, None, None].repeat(count, 1, 4, 4)
    right[:, :, 1, 2] = own
    same = own[:1].expand(count, -1)
    rule = Fnac(warmup=0)
    batches = matcher_rows(right, own), matcher_rows(same[:, :, None, None].expand(-1, -1, 4, 4), same)
    losses = [rule(batch, torch.ones(count), LATE, None).losses for batch in batches]
    found, collapsed = (float(sum(terms.values())) for terms in losses)
    assert found < 0.6 * collapsed, (found, collapsed)
    # Two of the distances are the largest there can be.
    assert found == pytest.approx(2 * 50 * 2 / 128, rel=0.05)


def slow_slavc_term(places: torch.Tensor, sounds: torch.Tensor, temperature: float, pictures: bool) -> torch.Tensor:
    """One of SLAVC's cross-entropies; `pictures` compete for a sound, or sounds for a picture."""
    both = []
    for part in range(2):
        p, s = places.double().chunk(2, dim=1)[part].flatten(2), sounds.double().chunk(2, dim=1)[part]
        both.append(torch.einsum("ndp,md->nmp", p, s) * 2 / temperature)  # each half has length 2 ** -0.5
    agree = (torch.softmax(both[0], dim=0 if pictures else 1) * torch.softmax(both[1], dim=2)).sum(dim=2).log()
    chosen = torch.log_softmax(agree, dim=0 if pictures else 1)
    return -chosen.diagonal().mean()


@pytest.mark.parametrize("pictures", [False, True])
def test_the_candidates_of_slavcs_terms(pictures: bool) -> None:
    """Sounds in both, as published; or pictures in the second."""
    (places, sounds), (slow_places, slow_sounds) = unit_batch(seed=1), unit_batch(seed=2)
    rule = Slavc(temperature=0.3, picture_candidates=pictures)
    losses = rule(matcher_rows(places, sounds), torch.ones(5), LATE, matcher_rows(slow_places, slow_sounds)).losses
    wanted = {
        "student_pictures": slow_slavc_term(places, slow_sounds, 0.3, False),
        "student_sounds": slow_slavc_term(slow_places, sounds, 0.3, pictures),
    }
    assert losses.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(losses[name].double(), value, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pictures", [False, True])
def test_a_picture_is_told_from_other_pictures_where_they_are_candidates_only(pictures: bool) -> None:
    """A clip's own loss with all other pictures made copies of its own."""
    places, sounds = unit_batch()
    rule = Slavc(temperature=0.3, picture_candidates=pictures)
    weight = torch.tensor([1.0, 1e-9, 1e-9, 1e-9, 1e-9])  # the loss is that of the first clip, all are candidates

    def of_sounds(held: torch.Tensor) -> float:
        kept = places.clone()
        kept[1:] = held
        return float(
            rule(matcher_rows(kept, sounds), weight, LATE, matcher_rows(kept, sounds)).losses["student_sounds"]
        )

    moved = abs(of_sounds(places[1:]) - of_sounds(places[:1].expand(4, -1, -1, -1)))
    assert (moved > 1e-2) is pictures


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match="temperature must be above 0, got 0"):
        EzVsl(temperature=0)
    with pytest.raises(UserError, match=r"negative=0\.7 must not be above positive=0\.65"):
        Lvs(negative=0.7)
    with pytest.raises(UserError, match=r"dropout must be in \[0, 1\), got 1\.0"):
        Fnac(dropout=1.0)
    with pytest.raises(UserError, match=r"momentum must be in \[0, 1\), got 1\.2"):
        Slavc(momentum=1.2)


# ------------------------------------------------------------------------------------------------------ the benchmark


@pytest.mark.parametrize("ended", [Finished(7, "SIGTERM"), Finished(7), Finished(12)])
def test_the_benchmark_takes_no_training_that_was_cut_short(
    ended: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Trainer.train` returns normally after a signal: a row would claim steps that were not made."""
    monkeypatch.setattr(program, "Trainer", lambda *_, **__: SimpleNamespace(train=lambda: ended))
    clips: Any = SimpleNamespace(device=torch.device("cpu"), restart=lambda *_: None)
    config = program.configured("ez_vsl", 0, 12)
    if ended.step == 12:
        assert program.train(config, clips, tmp_path / "run") >= 0
    else:
        with pytest.raises(SystemExit, match=f"run: stopped by {ended.stopped_by or 'nothing known'} after step 7 of"):
            program.train(config, clips, tmp_path / "run")


# -------------------------------------------------------------------------------------------------------------- law 6


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["avol_net", *RULES])
def test_learns_and_its_controls_do_not(rule: str) -> None:
    """Accuracy on true held-out clips: far above the floor, and at it after broken pairs or in silence."""
    short: dict[str, Callable[[], LocalizationRule]] = {
        "avol_net": AvolNet,
        "lvs": Lvs,
        "ez_vsl": lambda: EzVsl(temperature=0.07),
        "slavc": lambda: Slavc(temperature=0.07, dropout=0.2, momentum=0.95),
        "fnac": lambda: Fnac(temperature=0.07, dropout=0.2),
    }
    found = {}
    controls: tuple[Control, ...] = ("none", "broken_pairs", "blind")
    for control in controls:
        task = task_of(short[rule])
        multitask = train(task, steps=80, clips=128, control=control)
        held_out = World(256, task.window, seed=1).batch(range(256))
        found[control] = mean(outcome_of(multitask, held_out, Moment(80, 80, 0, 1.0)), "accuracy")
    assert found["none"] > 0.85, found
    assert abs(found["broken_pairs"] - 0.5) < 0.1, found
    assert abs(found["blind"] - 0.5) < 0.1, found
