"""Subtitle files of many kinds come out as clean cues on one clock."""

from __future__ import annotations

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmssl.data.subtitles import LARGEST, LONGEST_TEXT, Cue, cut, from_rows, read_subtitles, write_vtt
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


LINES = {
    "shift_jis": [
        "こんにちは、世界。今日はいい天気ですね。",
        "私は学生です。",
        "ありがとうございました",
        "映画を見に行きましょう",
    ],
    "euc_jp": [
        "こんにちは、世界。今日はいい天気ですね。",
        "私は学生です。",
        "ありがとうございました",
        "映画を見に行きましょう",
    ],
    "gb18030": ["你好，世界。今天天气很好。", "我是一个学生", "非常感谢你", "我们去看电影吧"],
    "big5": ["你好，世界。今天天氣很好。", "我是一個學生", "非常感謝你", "我們去看電影吧"],
    "euc_kr": ["안녕하세요, 세계. 오늘은 날씨가 좋습니다.", "저는 학생입니다", "감사합니다", "영화를 보러 갑시다"],
    "koi8-r": ["Привет, мир. Сегодня хорошая погода.", "Я студент", "Большое спасибо", "Пойдём в кино"],
    "iso-8859-1": [
        "Où est la bibliothèque près d'ici?",
        "Ça va très bien, merci à tous",
        "Él está aquí mañana",
        "Grüße an alle schönen Mädchen",
    ],
    "iso-8859-2": [
        "Dzień dobry, świecie. Dziś jest ładna pogoda.",
        "Jestem uczniem, żółw i źrebię",
        "Dziękuję bardzo za wszystko",
        "Chodźmy do kina jutro wieczorem",
    ],
    "iso-8859-7": ["Γειά σου κόσμε. Σήμερα ο καιρός είναι καλός.", "Είμαι φοιτητής", "Ευχαριστώ πολύ", "Πάμε σινεμά"],
    "iso-8859-15": [
        "Où est la bibliothèque? 20 €",
        "Le cœur a ses raisons",
        "Él está aquí mañana",
        "Grüße an alle schönen Mädchen",
    ],
    "cp1252": [
        "Où est la bibliothèque près d’ici?",
        "“Ça va très bien”, merci à tous",
        "Él está aquí mañana — sí",
        "Grüße an alle schönen Mädchen",
    ],
    "utf-16-le": [
        "你好，世界。今天天气很好。你好，世界。今天天气很好。你好，世界。今天天气很好。你好，世界。今天天气很好。你好，世界。今天天气很好。",
        "我们去看电影吧",
    ],
    "utf-16-be": [
        "你好，世界。今天天气很好。你好，世界。今天天气很好。你好，世界。今天天气很好。你好，世界。今天天气很好。你好，世界。今天天气很好。",
        "我们去看电影吧",
    ],
    "utf-32": ["Привет", "你好"],
}


@pytest.mark.parametrize("encoding", LINES)
def test_encodings_of_the_world(encoding):
    lines = LINES[encoding] * 2
    text = "\r\n\r\n".join(f"{i}\r\n00:00:0{i},000 --> 00:00:0{i},900\r\n{line}" for i, line in enumerate(lines, 1))
    assert [cue.text for cue in read_subtitles(text.encode(encoding)).cues] == lines


def test_drawings_of_ass_are_no_text():
    text = (
        "[Script Info]\nScriptType: v4.00+\n\n[Events]\n"
        "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
        "Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,{\\pos(1,2)\\p1}m 0 0 l 100 0 100 100{\\p0}\n"
        "Dialogue: 0,0:00:02.50,0:00:04.00,Default,,0,0,0,,spoken\n"
    )
    subtitles = read_subtitles(text.encode())
    assert [cue.text for cue in subtitles.cues] == ["spoken"]
    assert subtitles.dropped == {"drawing": 1}


def test_impossible_times_are_counted_by_cause():
    rows = [
        (float("nan"), 1.0, "a"),
        (1.0, float("inf"), "b"),
        (-5.0, -1.0, "c"),
        (-0.5, 1.0, "on the screen from the beginning"),
        (2.0, 2.0, "d"),
        (2.0, 2.0004, "e"),
        (1e300, 2e300, "f"),
        (3.0, 4.0, "g"),
    ]
    subtitles = from_rows(rows)
    assert subtitles.cues == (Cue(0.0, 1.0, "on the screen from the beginning"), Cue(3.0, 4.0, "g"))
    assert subtitles.dropped == {"impossible time": 3, "before the beginning": 1, "no duration": 2}
    events = [{"tStartMs": t, "dDurationMs": 9, "segs": [{"utf8": f"{t}"}]} for t in (float("nan"), 5, 1e30)]
    json3 = read_subtitles(json.dumps({"events": events}).encode())
    assert json3.cues == (Cue(0.005, 0.014, "5"),)
    assert json3.dropped == {"impossible time": 2}
    srt = "1\n-00:00:05,000 --> 00:00:01,000\nx\n\n2\n9999:00:00,000 --> 9999:00:01,000\ny\n"
    assert read_subtitles(srt.encode()).dropped == {"malformed time": 1, "impossible time": 1}


def test_overlapping_cues_are_all_kept_in_order():
    text = (
        "1\n00:00:01,000 --> 00:00:09,000\nlong\n\n2\n00:00:02,000 --> 00:00:03,000\ninside\n\n"
        "3\n00:00:01,000 --> 00:00:02,000\nsame start\n"
    )
    assert [cue.text for cue in read_subtitles(text.encode()).cues] == ["same start", "long", "inside"]


CUE = b"00:00.000 --> 00:01.000\n"
HOSTILE = {
    "larger than any subtitles": b"WEBVTT\n\n" + CUE * ((50 << 20) // len(CUE)),
    "one cue of a megabyte": b"WEBVTT\n\n" + CUE + b"{\\" * 500_000,
    "blanks before an arrow": b"WEBVTT\n\n" + b" " * 1_000_000 + b"-->",
    "many tiny cues": (b"WEBVTT\n\n" + (CUE + b"a\n\n") * 300_000)[: 1 << 20],
    "same lines again and again": b"WEBVTT\n\n" + (CUE + b"a\n" * 1000 + b"\n") * 500,
    "nested json": b'{"events":' + b"[" * 500_000,
    "times beyond all numbers": b'{"events":[{"tStartMs":' + b"9" * 400 + b',"segs":[{"utf8":"a"}]}]}',
    "half a character": b'{"events":[{"tStartMs":1,"dDurationMs":5,"segs":[{"utf8":"\\ud800b"}]}]}',
    "unknown bytes": bytes(range(128, 256)) * 8192,
    "entities that grow": b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(9))
    + b']><tt xmlns="http://www.w3.org/ns/ttml"><body><div><p begin="1s" end="2s">&j;</p></div></body></tt>',
    "open tags": b"<SAMI><BODY>" + b"<" * 1_000_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_subtitles_cost_little(name):
    began = time.process_time()
    cues: tuple[Cue, ...] = ()
    with contextlib.suppress(UserError):
        cues = read_subtitles(HOSTILE[name]).cues
    assert time.process_time() - began < 5.0
    assert all(len(cue.text) <= LONGEST_TEXT and cue.text.encode() for cue in cues)


def test_limits_are_said():
    with pytest.raises(UserError, match="larger than 8 MiB"):
        read_subtitles(b"WEBVTT\n" + b"a" * LARGEST)
    subtitles = read_subtitles(HOSTILE["one cue of a megabyte"] + b"\n\n" + CUE + b"short\n")
    assert subtitles.dropped == {"text too long": 1}
    assert [cue.text for cue in subtitles.cues] == ["short"]


PIECES = [b"WEBVTT\n\n", b"1\n", CUE, b"00:00:01,000 --> 00:00:02,000\n", b"-->", b"\n\n", b"[Events]\n", b"{\\p1}"]
PIECES += [
    b"[Script Info]\n",
    b"Format: Start, End, Text\n",
    b"Dialogue: 0,0:00:01.00,0:00:02.00,a\n",
    b"\xff\xfe",
    b"\0",
]
PIECES += [b'{"events":[', b'{"tStartMs":1,"segs":[{"utf8":"a"}]}', b"]}", b"<SAMI>", b"<SYNC Start=1>", b"{1}{2}a\n"]
PIECES += [b"<tt><p begin='1'>", b"\xef\xbb\xbf", b"\x93\xfa\x96\x7b", b"NaN", b"99999999999", b"&#0;", b"\r", b"<c>"]


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=12)), max_size=14).map(b"".join))
def test_any_bytes_are_cues_or_a_user_error(data):
    try:
        subtitles = read_subtitles(data)
    except UserError:
        return
    for cue in subtitles.cues:
        assert 0 <= cue.start < cue.end <= 1e6
        assert cue.text.strip()
        assert "\n" not in cue.text
        cue.text.encode()
    assert all(count > 0 for count in subtitles.dropped.values())


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**8), st.integers(1, 10**5), st.text(st.characters(categories=["L", "N", "P", "S"]))
        ),
        max_size=8,
    ),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
def test_any_text_survives_writing_and_reading(rows, encoding):
    cues = [Cue(a / 1000, (a + d) / 1000, f"{n} {text}".strip()) for n, (a, d, text) in enumerate(rows)]
    cues.sort(key=lambda cue: (cue.start, cue.end))
    assert read_subtitles(write_vtt(cues).encode(encoding)).cues == tuple(cues)
