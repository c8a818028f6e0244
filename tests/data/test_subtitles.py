"""Subtitle files of many kinds come out as clean cues on one clock."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmssl.data.subtitles import Cue, cut, read_subtitles, write_vtt
from mmssl.errors import UserError

SRT = """1
00:00:01,000 --> 00:00:02,500
<i>Grüße</i> an {\\an8}alle

2
00:00:03,000 --> 00:00:04,000
two
lines

3
00:00:05,000 --> 00:00:06,000
In the year
1984
"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_srt_in_any_common_encoding(encoding):
    subtitles = read_subtitles(SRT.encode(encoding))
    assert subtitles.cues == (
        Cue(1.0, 2.5, "Grüße an alle"),
        Cue(3.0, 4.0, "two lines"),
        Cue(5.0, 6.0, "In the year 1984"),
    )
    assert subtitles.dropped == {}


def test_srt_in_cyrillic_windows_encoding():
    line = "Это обычный русский текст для проверки кодировки субтитров."
    text = "\n\n".join(f"{i}\n00:00:0{i},000 --> 00:00:0{i},900\n{line}" for i in range(1, 6))
    assert read_subtitles(text.encode("cp1251")).cues[2].text == line


def test_malformed_cues_are_counted_and_leave_their_neighbours_alone():
    text = (
        "1\n00:00:01,000 --> 00:00:02,000\nfirst\n\n"
        "2\n00:xx:03,000 --> 00:00:04,000\nbroken\n\n"
        "3\n00:00:06,000 --> 00:00:05,000\nbackwards\n\n"
        "4\n00:00:07,000 --> 00:00:08,000\n<b> </b>\n\n"
        "5\n00:00:09,000 --> 00:00:10,000\nlast\n"
    )
    subtitles = read_subtitles(text.encode())
    assert [cue.text for cue in subtitles.cues] == ["first", "last"]
    assert subtitles.dropped == {"malformed time": 1, "no duration": 1, "empty": 1}


def test_webvtt_notes_settings_identifiers_and_entities():
    text = (
        "WEBVTT - a title\n\nSTYLE\n::cue { color: red }\n\nNOTE a remark\n\n"
        "intro\n00:01.000 --> 00:02.000 line:80% align:start\n<v Ann>Tom &amp; <c.loud>Jerry</c>\n\n"
        "NOTE another\nremark\n\n01:00:00.500 --> 01:00:01.000\nlate\n"
    )
    cues = read_subtitles(text.encode()).cues
    assert cues == (Cue(1.0, 2.0, "Tom & Jerry"), Cue(3600.5, 3601.0, "late"))


def test_ass_through_pysubs2():
    text = (
        "[Script Info]\nScriptType: v4.00+\n\n[Events]\n"
        "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
        "Comment: 0,0:00:00.00,0:00:09.00,Default,,0,0,0,,not shown\n"
        "Dialogue: 0,0:00:02.50,0:00:04.00,Default,,0,0,0,,{\\pos(1,2)}up\\Nand down\n"
    )
    assert read_subtitles(text.encode()).cues == (Cue(2.5, 4.0, "up and down"),)


def test_rolling_captions_become_one_cue_a_line():
    text = (
        "WEBVTT\nKind: captions\n\n"
        "00:00.000 --> 00:02.000\n \nhello<00:00:00.500><c> my</c><c> friends</c>\n\n"
        "00:02.000 --> 00:02.010\nhello my friends\n \n\n"
        "00:02.010 --> 00:04.000\nhello my friends\nhow<c> are</c> you\n\n"
        "00:04.000 --> 00:04.010\nhow are you\n \n\n"
        "00:04.010 --> 00:06.000\nhow are you\nfine thanks\n\n"
        "00:06.000 --> 00:06.010\nfine thanks\n \n"
    )
    subtitles = read_subtitles(text.encode())
    assert [cue.text for cue in subtitles.cues] == ["hello my friends", "how are you", "fine thanks"]
    assert [cue.start for cue in subtitles.cues] == [0.0, 2.01, 4.01]


def test_a_person_may_say_a_thing_twice():
    text = "WEBVTT\n\n00:00.000 --> 00:01.000\nNo.\n\n00:01.000 --> 00:02.000\nNo.\n"
    assert [cue.text for cue in read_subtitles(text.encode()).cues] == ["No.", "No."]


def test_json3_events_end_when_the_next_one_starts():
    events = [
        {"tStartMs": 0, "dDurationMs": 5000, "segs": [{"utf8": "one"}, {"utf8": " two", "tOffsetMs": 300}]},
        {"tStartMs": 1900, "dDurationMs": 3000, "aAppend": 1, "segs": [{"utf8": "\n"}]},
        {"tStartMs": 2000, "dDurationMs": 3000, "segs": [{"utf8": "three"}]},
        {"tStartMs": 0, "dDurationMs": 9000, "id": 1},
    ]
    cues = read_subtitles(json.dumps({"events": events}).encode()).cues
    assert cues == (Cue(0.0, 2.0, "one two"), Cue(2.0, 5.0, "three"))


@pytest.mark.parametrize(
    ("data", "message"),
    [(bytes(range(256)) * 20, "no text in a known encoding"), (b"just a letter\nto a friend", "no known subtitle")],
)
def test_what_is_no_subtitle_is_refused(data, message):
    with pytest.raises(UserError, match=message):
        read_subtitles(data)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.srt' cannot be read"):
        read_subtitles(tmp_path / "nothing.srt")


def test_empty_file_has_no_cues(tmp_path):
    (tmp_path / "empty.srt").write_bytes(b"")
    assert read_subtitles(tmp_path / "empty.srt").cues == ()


def test_cut_keeps_what_touches_and_clamps_on_request():
    cues = (Cue(0.0, 1.0, "before"), Cue(1.5, 2.5, "into"), Cue(2.5, 3.0, "within"), Cue(3.9, 9.0, "out of"))
    assert cut(cues, 2.0, 4.0) == (Cue(-0.5, 0.5, "into"), Cue(0.5, 1.0, "within"), Cue(1.9, 7.0, "out of"))
    assert cut(cues, 2.0, 4.0, clamp=True)[0] == Cue(0.0, 0.5, "into")
    assert cut(cues, 1.0, 1.5) == ()


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**7),
            st.integers(1, 10**5),
            st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters="{\\"), min_size=1),
        ),
        max_size=8,
    )
)
def test_written_webvtt_reads_back(rows):
    cues = [Cue(a / 1000, (a + d) / 1000, f"{n} {text}") for n, (a, d, text) in enumerate(rows)]
    cues.sort(key=lambda cue: (cue.start, cue.end))
    assert read_subtitles(write_vtt(cues).encode()).cues == tuple(cues)
