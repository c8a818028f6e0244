"""SubtitleMatching: which sentences make a bag, which are no negatives, and what must not matter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from mmssl.batch import Batch
from mmssl.clip import Sentence, Span
from mmssl.errors import UserError
from mmssl.nn.features import Features
from mmssl.tasks.base import Control, Moment, Outcome
from mmssl.tasks.cross_modal.subtitle_matching import SubtitleMatcher, SubtitleMatching, read_sentence
from tests.batches import CHATTER, MATERIALS, WORD_IDS, World, make_batch
from tests.tasks.cross_modal.trained import LATE, changed, mean, multitask_of, outcome_of, train

SIZE = (32, 32)


def saying(batch: Batch, rows: Sequence[Sequence[str]]) -> Batch:
    """The batch with these sentences; words that the world does not know are [UNK]."""
    bag = max(len(row) for row in rows)
    ids = torch.zeros(len(batch), bag, 12, dtype=torch.int64)
    for i, row in enumerate(rows):
        for k, text in enumerate(row):
            words = ["[CLS]", *text.lower().split()]
            ids[i, k, : len(words)] = torch.tensor([WORD_IDS.get(word, WORD_IDS["[UNK]"]) for word in words])
    return changed(
        batch,
        sentences=tuple(tuple(Sentence(text, 0.0, 1.0) for text in row) for row in rows),
        sentence_mask=torch.tensor([[k < len(row) for k in range(bag)] for row in rows]),
        sentence_times=torch.zeros(len(batch), bag, 2, dtype=torch.float64),
        token_ids=ids,
        token_mask=ids > 0,
        has_text=torch.tensor([len(row) > 0 for row in rows]),
    )


def test_sentences_are_read_without_case_punctuation_and_stop_words() -> None:
    assert read_sentence("Thank you -- for watching!") == read_sentence("thank you for  WATCHING")
    assert read_sentence("thank you for watching")[1] != read_sentence("thank you for listening")[1]
    counts = [read_sentence(text)[0] for text in ("and so on", "so it is what it is", "", "cut it open")]
    assert counts == [0, 0, 0, 2]
    assert read_sentence("切って ください")[0] == 2  # words of any script


def test_sentences_of_stop_words_alone_are_dropped_and_a_clip_left_without_takes_no_part() -> None:
    rows = [["so it is what it is", "a glass ball"], ["and so on"], [], ["cedar ball"]]
    batch = saying(make_batch(range(4)), rows)
    example = SubtitleMatching(size=SIZE).pretext(batch, batch.draws("task"), LATE)
    assert example.sentences.tolist() == [[False, True], [False, False], [False, False], [True, False]]
    assert example.weight.tolist() == [1.0, 0.0, 0.0, 1.0]
    assert not example.token_mask[0, 0].any()
    picky = SubtitleMatching(size=SIZE, content_words=3).pretext(batch, batch.draws("task"), LATE)
    assert picky.weight.tolist() == [0.0] * 4


def test_a_bag_holds_the_sentences_nearest_to_the_anchor_and_no_more() -> None:
    batch = saying(make_batch(range(2)), [["glass ball", "clay ball", "jade ball"], ["steel ball"]])
    example = SubtitleMatching(size=SIZE, bag=2).pretext(batch, batch.draws("task"), LATE)
    assert example.sentences.tolist() == [[True, True], [True, False]]
    assert example.token_ids.shape == (2, 2, 3)  # padding that nobody needs is cut
    assert torch.equal(example.token_ids[:, :, :3], batch.token_ids[:, :2, :3])


def test_clips_that_say_the_same_are_no_negatives_of_each_other() -> None:
    multitask = multitask_of(SubtitleMatching(size=SIZE))
    batch = make_batch(range(4))
    alike = saying(batch, [["thank you for watching"], ["Thank you for watching!"]] * 2)
    assert float(outcome_of(multitask, alike).loss.detach()) == pytest.approx(0.0, abs=1e-6)  # nothing to tell apart
    other = saying(batch, [["thank you for watching"], ["Thank you for watching!"], ["jade ball"], ["clay ball"]])
    assert float(outcome_of(multitask, other).loss.detach()) > 0.5


def test_the_order_within_a_bag_does_not_matter() -> None:
    multitask = multitask_of(SubtitleMatching(size=SIZE))
    batch = make_batch(range(6))
    rows = [[s.text for s in row] for row in batch.sentences]
    one, two = (outcome_of(multitask, saying(batch, [row[::step] for row in rows])) for step in (1, -1))
    torch.testing.assert_close(one.loss, two.loss)
    assert mean(one, "accuracy") == pytest.approx(mean(two, "accuracy"))
    assert mean(one, "r_at_1") == pytest.approx(mean(two, "r_at_1"))


@pytest.mark.parametrize(("clip_seconds", "frames"), [(None, 24), (1.0, 8)])
def test_shows_the_whole_span_or_a_sub_clip(clip_seconds: float | None, frames: int) -> None:
    batch = make_batch(range(2))
    task = SubtitleMatching(size=SIZE, clip_seconds=clip_seconds)
    assert task.pretext(batch, batch.draws("task"), LATE).clip.shape == (2, 3, frames, 32, 32)


def test_the_papers_bare_product_has_no_temperature_and_no_unit_vectors() -> None:
    bare = multitask_of(SubtitleMatching(size=SIZE, normalise=False))
    assert not any("temperature" in name for name, _ in bare.named_parameters())
    loss = outcome_of(bare, make_batch(range(4))).loss.detach()
    assert math.isfinite(float(loss))
    matcher = bare.tasks["task"].exports()
    assert matcher is not None
    assert matcher.init_args["normalise"] is False


def test_the_positive_is_counted_once() -> None:
    """With it counted twice, as in the public code, the loss of a perfect matcher would be log 2."""
    multitask = multitask_of(SubtitleMatching(size=SIZE))
    batch = saying(make_batch(range(3)), [["glass ball", "jade ball"], ["so it is"], []])  # one valid clip alone
    assert float(outcome_of(multitask, batch).loss.detach()) == pytest.approx(0.0, abs=1e-6)


def ranking(**settings: Any) -> SubtitleMatching:
    return SubtitleMatching(size=SIZE, rule="ranking", **settings)


def test_the_trust_learns_against_the_matcher_and_each_by_its_own_loss() -> None:
    multitask = multitask_of(ranking(trusting=0.0))
    losses = outcome_of(multitask, make_batch(range(6))).losses
    quality = [p for n, p in multitask.named_parameters() if ".quality." in n]
    others = [p for n, p in multitask.named_parameters() if ".quality." not in n]
    by_trust = torch.autograd.grad(losses["trust"], quality, retain_graph=True)
    assert any(bool(g.any()) for g in by_trust)
    assert not any(
        g is not None for g in torch.autograd.grad(losses["trust"], others, retain_graph=True, allow_unused=True)
    )
    assert not any(
        g is not None for g in torch.autograd.grad(losses["ranking"], quality, retain_graph=True, allow_unused=True)
    )
    with torch.no_grad():  # a step down the gradient raises the loss of what is left out
        for parameter, gradient in zip(quality, by_trust, strict=True):
            parameter -= 0.01 * gradient
    later = outcome_of(multitask, make_batch(range(6))).losses["trust"]
    assert float(later.detach()) > float(losses["trust"].detach())


def test_all_pairs_are_trusted_at_first_and_a_share_of_them_later() -> None:
    task = ranking(trusted=0.4, trusting=0.5)
    shares = [task.trusted_now(Moment(0, 1, 0, progress)) for progress in (0.0, 0.25, 0.5, 1.0)]
    assert shares == pytest.approx([1.0, 0.7, 0.4, 0.4])
    batch = make_batch(range(6))
    multitask = multitask_of(task)
    for progress, share in ((0.0, 1.0), (1.0, 0.4)):
        outcome = outcome_of(multitask, batch, Moment(0, 1, 0, progress))
        nearest = mean(outcome, "trust_of_nearest")
        assert 0 < nearest <= 1
        assert (nearest == 1.0) == (share == 1.0)


def test_holes_and_wordless_clips_have_no_part_in_the_ranking() -> None:
    multitask = multitask_of(ranking())
    batch = make_batch(range(6))
    rows = [[s.text for s in row] for row in batch.sentences]
    rows[2] = []
    holed = changed(saying(batch, rows), weight=torch.tensor([1.0, 1, 1, 1, 1, 0]))
    one = outcome_of(multitask, holed)
    rows[5] = ["nobody knows what happened here"]
    two = outcome_of(multitask, changed(saying(batch, rows), weight=holed.weight))
    torch.testing.assert_close(one.loss, two.loss)
    nothing = outcome_of(multitask, changed(batch, weight=torch.zeros(6)))
    assert float(nothing.loss.detach()) == 0.0
    nothing.loss.backward()
    assert not any(bool(p.grad.any()) for p in multitask.parameters() if p.grad is not None)


def test_bags_that_say_the_same_are_told_by_lot() -> None:
    multitask = multitask_of(SubtitleMatching(size=SIZE, candidates=4))
    alike = saying(make_batch(range(4)), [["thank you for watching"]] * 4)
    outcome = outcome_of(multitask, alike)
    assert mean(outcome, "accuracy") == 0.5
    assert mean(outcome, "r_at_1_of_4") == pytest.approx(1 / 4)
    assert mean(outcome, "r_at_5_of_4") == 1.0
    assert float(outcome.metrics["r_at_1_of_4"][1]) == 4.0


class Ignorant(SubtitleMatcher):
    """A matcher that knows nothing: a vector drawn for each clip and for each distinct sentence, by a task's forward.

    Args:
        clips: float [N, D].
        sentences: float [N * K, D].
    """

    def __init__(self, clips: torch.Tensor, sentences: torch.Tensor) -> None:
        super().__init__(1, 1)
        self.drawn = {"picture": clips, "text": sentences}

    def project(self, modality: str, features: Features) -> torch.Tensor:
        return self.drawn[modality]

    def scale(self, modality: str, projected: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        return projected


@pytest.mark.parametrize("liked", [False, True])
def test_recall_of_what_knows_nothing_is_at_the_stated_chance(liked: bool) -> None:
    """Bags of one to four sentences of a few dozen, as the world's: many are shared, and sizes differ.

    A vector is drawn for each clip and each distinct sentence; where `liked`, all clips have one vector, so that some
    sentences are liked best by all. With shared sentences struck from the rivals alone, the first is at 0.13.
    """
    task = SubtitleMatching(picture=Span(1.0, 4.0), size=SIZE)
    multitask = multitask_of(task)
    generator = torch.Generator().manual_seed(0)
    captions = [f"a {m} ball goes {d} over there" for m in MATERIALS for d in ("left", "right")]
    batch, rounds = make_batch(range(32), task.window), 60
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        pick = torch.randint(0, 1000, (32, 5), generator=generator).tolist()
        rows = [[captions[p[0] % 16], *(CHATTER[q % 8] for q in p[1 : 1 + p[4] % 4])] for p in pick]
        said = saying(changed(batch, seeds=batch.seeds + int(pick[0][0]) * 1000 + 1), rows)
        example = task.pretext(said, said.draws("task"), LATE)
        number = example.meaning.flatten().unique(return_inverse=True)[1]
        clips = torch.randn(1 if liked else 32, 64, generator=generator).expand(32, 64)
        task.matcher = Ignorant(clips, torch.randn(int(number.max()) + 1, 64, generator=generator)[number])
        with torch.no_grad():
            outcome = task(example, multitask.encoders, LATE)
        for name in ("r_at_1_of_16", "r_at_5_of_16", "text_r_at_1_of_16", "text_r_at_5_of_16"):
            found.setdefault(name, []).append(mean(outcome, name))
    for name, values in found.items():
        rates = torch.tensor(values)
        error = float(rates.std()) / math.sqrt(rounds)
        chance = (1 if "_at_1_" in name else 5) / 16
        assert error < 0.02
        assert abs(float(rates.mean()) - chance) <= 3 * error + 1e-6, (name, float(rates.mean()), error)


def test_settings_that_cannot_be_are_refused() -> None:
    for wrong, text in (
        ({"rule": "nce"}, "rule must be mil_nce or ranking, got 'nce'"),
        ({"rule": "ranking", "normalise": False}, "set normalise to true"),
        ({"trusted": 0.0}, r"trusted must be in \(0, 1\]"),
        ({"candidates": 1}, "candidates must be at least 2, got 1"),
    ):
        with pytest.raises(UserError, match=text):
            SubtitleMatching(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"picture of 2\.0 s holds no two clips of 1\.0 s with a gap of 0\.5 s"):
        SubtitleMatching(picture=Span(2.0, 8), clip_seconds=1.0)
    with pytest.raises(UserError, match="bag must be at least 1 sentence, got 0"):
        SubtitleMatching(bag=0)


def heldout(steps: int, control: Control = "none") -> Outcome:
    multitask = train(SubtitleMatching(size=SIZE, clip_seconds=1.0), steps=steps, control=control)
    batch = World(256, multitask.window, seed=1).batch(range(256))
    with torch.no_grad():
        return outcome_of(multitask, batch)


def test_it_learns_which_sentences_belong_to_a_clip() -> None:
    found = heldout(60)
    assert mean(found, "accuracy") > 0.75  # half of the way from the floor
    assert mean(found, "r_at_5_of_16") > 0.66  # half of the way from 5 / 16


@pytest.mark.slow
@pytest.mark.parametrize(("control", "steps"), [("broken_pairs", 80), ("blind", 40)])
def test_controls_stay_at_the_floor(control: Control, steps: int) -> None:
    found = heldout(steps, control)
    assert abs(mean(found, "accuracy") - 0.5) < 0.1  # 3.2 standard deviations of 256
