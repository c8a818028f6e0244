"""Clips to batches: which sentences are kept, how they are tokenised, how holes are filled."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmssl.clip import Clip, Sentence, Span, Window
from mmssl.data.collate import blank, collate, collate_clips, nearest_sentences
from mmssl.data.shards.index import SampleEntry
from mmssl.data.sources import Place
from mmssl.data.worker import Decoded, Failure, Row
from mmssl.nn.tokenizer import Tokenizer

WINDOW = Window(Span(1.0, 2), Span(0.5, 100), size=(4, 6))


def clip(key: str, value: int = 0, sentences: tuple[Sentence, ...] = (), anchor: float = 1.0) -> Clip:
    times = np.array([[0.5, 1.0]])
    return Clip(
        key=key,
        frames=np.full((1, 2, 3, 4, 6), value, np.uint8),
        wanted_times=times,
        frame_times=times,
        audio=np.full((1, 50), value / 100, np.float32),
        audio_start=np.array([0.75]),
        audio_rate=100,
        has_picture=True,
        has_audio=value != 7,
        sentences=sentences,
        duration=2.0,
        anchors=np.array([anchor]),
        geometry=np.eye(2, 3),
        decoded_pictures=3,
        decoder_calls=1,
    )


def said(text: str, start: float, end: float) -> Sentence:
    return Sentence(text, start, end)


def test_the_nearest_sentences_are_kept_nearest_first():
    before, around, after, far = said("a", -3, -1), said("b", 0.5, 1.5), said("c", 1.6, 2.0), said("d", 8, 9)
    kept = nearest_sentences(clip("x", sentences=(before, around, after, far)), 3)
    assert kept == (around, after, before)


def test_sentences_are_tokenised_and_masked():
    tokenizer = Tokenizer.train(["the ball falls", "a box rolls"], vocabulary=80, length=9)
    clips = [clip("x", sentences=(said("the ball falls", 0.5, 1.5),)), clip("y")]
    batch = collate_clips(clips, tokenizer=tokenizer, max_sentences=2)
    assert batch.token_ids.shape == (2, 2, 9)
    assert batch.token_ids[0, 0].tolist() == tokenizer.encode(["the ball falls"])[0].tolist()
    assert not batch.token_ids[0, 1].any()
    assert not batch.token_ids[1].any()
    assert torch.equal(batch.token_mask, batch.token_ids != 0)
    assert batch.sentence_mask.tolist() == [[True, False], [False, False]]
    assert batch.sentence_times[0, 0].tolist() == [0.5, 1.5]
    assert batch.has_text.tolist() == [True, False]


def test_without_a_tokenizer_the_ids_are_padding_of_length_one():
    batch = collate_clips([clip("x", sentences=(said("the ball falls", 0.5, 1.5),))])
    assert batch.token_ids.shape == (1, 8, 1)
    assert not batch.token_ids.any()
    assert batch.sentences[0][0].text == "the ball falls"
    assert batch.has_text.all()


def test_clips_in_hand_make_a_batch_with_the_windows_clock():
    batch = collate_clips([clip("x", 5), clip("y", 7)], seeds=[3, -4], sources=["a", "b"])
    assert (batch.keys, batch.sources) == (("x", "y"), ("a", "b"))
    assert batch.seeds.tolist() == [3, -4]
    assert batch.weight.tolist() == [1.0, 1.0]
    assert batch.has_audio.tolist() == [True, False]
    assert batch.frames_of(Span(1.0, 2)).float().mean(dim=(1, 2, 3, 4)).tolist() == [5.0, 7.0]
    assert batch.audio_between(torch.tensor([0.8, 0.8]), 0.2)[:, 0].tolist() == pytest.approx([0.05, 0.07])


def test_holes_hold_the_first_valid_row_under_their_own_key(tmp_path):
    def place(key: str, label: str | None = None) -> Place:
        return Place("src", 0, tmp_path / "a.tar", SampleEntry(key, {"mp4": (0, 1)}, label=label))

    frames = np.full((4, 1, 2, 3, 4, 6), 99, np.uint8)
    audio = np.full((4, 1, 50), 9, np.float32)
    good = clip("b", 5, (said("the ball falls", 0.5, 1.5),))
    frames[1], audio[1] = good.frames, good.audio
    decoded = Decoded(
        [Failure("a", "cut", "a was cut"), Row(good, {"label": 3}), None, Row(clip("d", 7), {})], frames, audio
    )
    places = [place("a", "x"), place("b", "x"), None, place("d", "from the index")]
    batch, truth = collate(decoded, places, [1, 2, 0, 4], WINDOW)
    assert batch.keys == truth.keys == ("a", "b", "", "d")
    assert batch.weight.tolist() == [0.0, 1.0, 0.0, 1.0]
    assert batch.seeds.tolist() == [1, 2, 0, 4]
    assert truth.labels == (None, "3", None, "from the index")
    assert truth.metas == ({}, {"label": 3}, {}, {})
    for row in (0, 2):
        assert torch.equal(batch.frames[row], batch.frames[1])
        assert torch.equal(batch.audio[row], batch.audio[1])
        assert batch.sentences[row] == batch.sentences[1]
    assert batch.counters == {"decoder_calls": 2, "decoded_pictures": 6}


def test_a_blank_clip_has_nothing():
    empty = blank(WINDOW, np.zeros((1, 2, 3, 4, 6), np.uint8), np.zeros((1, 50), np.float32))
    assert (empty.has_picture, empty.has_audio, empty.sentences) == (False, False, ())
    batch = collate_clips([empty], weight=[0])
    assert batch.weight.tolist() == [0.0]
    assert not batch.has_text.any()
