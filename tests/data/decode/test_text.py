"""The sentences of a clip: its own cues with those around it, each once, and what is lost is counted."""

from __future__ import annotations

import json

import pytest

from mmssl.clip import EncodedClip, Sentence, Span, Window
from mmssl.data import Stream
from mmssl.data import worker as worker_module
from mmssl.data.decode.text import read_sentences, sentences_of
from mmssl.data.sentences import first_sentences
from mmssl.data.shards import BuildSettings, build
from mmssl.data.subtitles import Cue, write_vtt
from tests.corpora import sample, write_tar
from tests.media import flash_and_click
from tests.requirements import real_data

WINDOW = Window(Span(0.4, 5), text=True, size=(32, 32))


def clip(subtitles: str | bytes = b"", context: object = None, duration: float = 10.0) -> EncodedClip:
    meta = {"duration": duration} | ({} if context is None else {"context": context})
    return EncodedClip("k", "s", b"", subtitles if isinstance(subtitles, bytes) else subtitles.encode(), meta)


def test_context_of_built_shards_reaches_the_batch_and_no_sentence_comes_twice(tmp_path):
    """A film of 80 s in clips of 4 s, with a sentence across every border and one said twice."""
    (tmp_path / "films").mkdir()
    flash_and_click(tmp_path / "films" / "film.mp4", seconds=80.0, fps=5.0, size=(32, 32), audio_codec=None)
    cues = [(t, t + 2.0, f"sentence at {t:.0f}") for t in range(3, 80, 4)]  # each lies half in the next clip
    cues += [(40.2, 40.8, "No."), (41.0, 41.6, "No.")]
    srt = "\n".join(
        f"{n}\n00:{int(a) // 60:02d}:{a % 60:06.3f} --> 00:{int(b) // 60:02d}:{b % 60:06.3f}\n{text}\n".replace(
            ".", ",", 2
        )
        for n, (a, b, text) in enumerate(sorted(cues), 1)
    )
    (tmp_path / "films" / "film.srt").write_text(srt)
    build(tmp_path / "films", tmp_path / "shards", BuildSettings(clip_seconds=4.0, processes=1))
    stream = Stream(
        str(tmp_path / "shards"), WINDOW, 5, workers=0, shuffle=False, repeat=False, max_sentences=50, anchor="centre"
    )
    with stream:
        rows = [row for batch, _ in stream for row in zip(batch.keys, batch.sentences, strict=True)]
    assert len(rows) == 20
    for number, (_, sentences) in enumerate(rows):
        start = 4.0 * number
        near = [(a, b, text) for a, b, text in cues if b > start - 30 and a < start + 34]
        expected = sorted((round(a - start, 3), round(b - start, 3), text) for a, b, text in near)
        found = sorted((round(s.start, 3), round(s.end, 3), s.text) for s in sentences)
        assert found == expected
    assert not any(name.startswith(("subtitles", "context")) for name in stream.counters)


def test_context_is_read_as_lists_and_as_objects():
    rows = [[-3.0, -1.0, "before"], {"start": 11, "end": 12.5, "text": "after"}]
    assert sentences_of(clip(context=rows)) == (Sentence("before", -3.0, -1.0), Sentence("after", 11.0, 12.5))


def test_a_cue_cut_to_the_clip_takes_the_times_of_its_row_in_the_context():
    vtt = write_vtt([Cue(0.0, 1.5, "Hi & <bye>"), Cue(3.0, 4.0, "alone"), Cue(5.0, 5.5, "No."), Cue(6.0, 6.5, "No.")])
    context = [[-2.0, 1.5, "Hi & <bye>"], [5.0, 5.5, "No."], [6.0, 6.5, "No."], [20.0, 21.0, "No."]]
    assert [(s.text, s.start) for s in sentences_of(clip(vtt, context))] == [
        ("Hi & <bye>", -2.0),
        ("alone", 3.0),
        ("No.", 5.0),
        ("No.", 6.0),
        ("No.", 20.0),
    ]


def test_sentences_further_than_30_s_are_left_out_and_counted():
    vtt = write_vtt([Cue(2.0, 3.0, "own"), Cue(39.9, 45.0, "near"), Cue(40.1, 45.0, "far")])
    context = [[-35.0, -30.5, "long ago"], [-35.0, -29.5, "just before"]]
    sentences, left_out = read_sentences(clip(vtt, context))
    assert [s.text for s in sentences] == ["just before", "own", "near"]
    assert left_out == {"subtitles: more than 30 s away": 2}


@pytest.mark.parametrize(
    ("context", "count"),
    [
        ("no list", 0),
        ([["a", 1, "text"], [1, 2], [1, 2, 3], None, 7, [float("nan"), 1, "x"], [3, 1, "back"], [1, 2, " "]], 8),
        ([{"start": True, "end": 2, "text": "x"}, {"text": "x"}, {"start": 1e300, "end": 1e301, "text": "x"}], 3),
    ],
)
def test_malformed_context_is_counted(context, count):
    sentences, left_out = read_sentences(clip(context=context))
    assert sentences == ()
    assert left_out == ({"context: malformed": count} if count else {})


def test_subtitles_that_cannot_be_read_lose_the_text_and_not_the_clip(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_module, "LARGEST_SUBTITLES", 20_000)
    broken = b"WEBVTT\n\n00:xx.000 --> 00:01.000\na\n\n00:00.500 --> 00:01.000\ngood\n"
    texts = [b"\x00\x01\x02\x03" * 50, broken, b"WEBVTT\n" + b"\n" * 20_000, b"WEBVTT\n\n00:01.000 --> 00:01.500\nb\n"]
    samples = []
    for number, text in enumerate(texts):
        key, members = sample(tmp_path, f"clip{number:04d}", number)
        if number == 3:
            members["json"] = json.dumps(
                {"duration": 2.0, "context": [[3.0, 4.0, "x" * 5000], [3.0, 4.0, "c"]]}
            ).encode()
        samples.append((key, members | {"vtt": text}))
    spec = str(write_tar(tmp_path / "a.tar", samples))
    with Stream(spec, WINDOW, 4, workers=0, shuffle=False, repeat=False) as stream:
        ((batch, _),) = list(stream)
    assert batch.weight.tolist() == [1.0] * 4
    assert [[s.text for s in row] for row in batch.sentences] == [[], ["good"], [], ["b", "c"]]
    assert batch.has_text.tolist() == [False, True, False, True]
    counted = {name: n for name, n in stream.counters.items() if name.startswith(("subtitles", "context", "failed"))}
    assert counted == {
        "subtitles: unreadable": 1,
        "subtitles: malformed time": 1,
        "subtitles: member too large": 1,
        "context: text too long": 1,
    }


@pytest.mark.parametrize("extension", ["en.vtt", "srt", "ass", "json3"])
def test_subtitles_of_foreign_shards_have_other_extensions(tmp_path, extension):
    head = (
        "[Script Info]\n\n[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
    )
    text = {
        "en.vtt": "WEBVTT\n\n00:00.500 --> 00:01.000\nhello\n",
        "srt": "1\n00:00:00,500 --> 00:00:01,000\nhello\n",
        "ass": head + "Dialogue: 0,0:00:00.50,0:00:01.00,Default,,0,0,0,,hello\n",
        "json3": '{"events": [{"tStartMs": 500, "dDurationMs": 500, "segs": [{"utf8": "hello"}]}]}',
    }[extension]
    key, members = sample(tmp_path, "clip0000", 0)
    del members["vtt"]
    spec = str(write_tar(tmp_path / "a.tar", [(key, members | {extension: text.encode()})]))
    with Stream(spec, WINDOW, 1, workers=0, repeat=False) as stream:
        ((batch, _),) = list(stream)
    assert batch.sentences == ((Sentence("hello", 0.5, 1.0),),)


def test_context_of_real_films(tmp_path):
    """Every clip of the subtitled films has what is said within 30 s of it, and nothing twice."""
    folder = real_data() / "C"
    build(folder, tmp_path / "shards", BuildSettings(clip_seconds=2.0, short_side=64, processes=2))
    with Stream(
        str(tmp_path / "shards"), WINDOW, 8, workers=1, shuffle=False, repeat=False, max_sentences=99
    ) as stream:
        rows = [row for batch, _ in stream for row in zip(batch.sentences, batch.weight.tolist(), strict=True)]
    told = [sentences for sentences, weight in rows if weight and sentences]
    assert len(told) > 10
    beside = [s for sentences in told for s in sentences if s.end < 0 or s.start > 2.0]
    assert len(beside) > len(told)
    assert all(s.end >= -30.5 and s.start <= 32.5 for sentences in told for s in sentences)
    for sentences in told:
        assert len({(s.text, s.start) for s in sentences}) == len(sentences)


def test_a_tokenizer_is_trained_on_the_sentences_that_can_be_read(tmp_path):
    samples = [sample(tmp_path, f"clip{number:04d}", number) for number in range(3)]
    samples[1][1]["vtt"] = b"\x00\x01\x02\x03" * 50
    found = first_sentences(str(write_tar(tmp_path / "a.tar", samples)))
    assert found == ["sentence number 0 of the corpus", "sentence number 2 of the corpus"]
