"""SubtitleMatching: which sentences make a bag, which are no negatives, and what must not matter."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from mmssl.batch import Batch
from mmssl.clip import Sentence, Span
from mmssl.errors import UserError
from mmssl.tasks.cross_modal.subtitle_matching import SubtitleMatching, read_sentence
from tests.batches import WORD_IDS, make_batch
from tests.tasks.cross_modal.trained import LATE, changed, mean, multitask_of, outcome_of

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


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match=r"picture of 2\.0 s holds no two clips of 1\.0 s with a gap of 0\.5 s"):
        SubtitleMatching(picture=Span(2.0, 8), clip_seconds=1.0)
    with pytest.raises(UserError, match="bag must be at least 1 sentence, got 0"):
        SubtitleMatching(bag=0)
