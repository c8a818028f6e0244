"""`mmssl shards preview`: the picture has each thing where the time axis says, also for clips that lack or break it."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmssl.data.shards.index import read_index
from mmssl.data.shards.preview import (
    COLUMNS,
    Preview,
    PreviewCue,
    choose,
    envelope_of,
    preview_clip,
)
from mmssl.data.shards.preview_draw import (
    MARGIN,
    OTHER,
    OWN,
    PAPER,
    WAVE_INK,
    WIDTH,
    _fit,
    _width,
    draw_sheet,
    frame_width,
    layouts_of,
)
from mmssl.errors import UserError
from tests import media
from tests.corpora import write_tar
from tests.media import number_of

SCRIPT = Path(sys.executable).with_name("mmssl")
LONG = "ein sehr langer Satz, der nie und nimmer in seine Zelle paßt " * 20


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Numbered frames with sound and sentences; one without sound and text; a portrait; sound alone; a broken one."""
    folder = tmp_path_factory.mktemp("preview")
    spoken = media.numbered(folder / "spoken.mp4", frames=100, fps=25.0, size=(64, 160), audio_codec="aac").read_bytes()
    mute = media.numbered(folder / "mute.mp4", frames=50, fps=25.0, size=(64, 160)).read_bytes()
    tall = media.numbered(folder / "tall.mp4", frames=50, fps=25.0, size=(96, 160), rotation=90).read_bytes()
    click = media.flash_and_click(folder / "click.mp4", seconds=4.0, at=(3.0,), audio_rate=16000).read_bytes()
    vtt = "WEBVTT\n\n00:01.000 --> 00:03.000\nin the middle\n\n00:01.500 --> 00:01.600\n" + LONG + "\n"
    context = [[-9.0, -4.0, "long before"], [-3.0, -2.0, "before: привет, ねこ, \ud800 \x07"], [3.5, 9.0, "across"]]
    context += [[1.0, 3.0, "in the middle"], {"start": 5.0, "end": 6.0, "text": "after"}, "no row", [1, 2]]
    meta = {"label": "bars " * 60, "context": context}
    samples = [
        ("spoken", {"mp4": spoken, "vtt": vtt.encode(), "json": json.dumps(meta).encode()}),
        ("mute", {"mp4": mute}),
        ("tall", {"mp4": tall, "json": b'{"label": "bars"}'}),
        ("click", {"mp4": click}),
        ("broken", {"mp4": spoken[: len(spoken) // 2]}),
        ("nojson", {"mp4": mute, "json": b"{"}),
        ("badtext", {"mp4": mute, "vtt": bytes(range(256)) * 8}),
    ]
    return write_tar(folder / "clips.tar", samples)


def previews(shards: Path, frames: int = 5) -> dict[str, Preview]:
    index = read_index(shards)
    return {e.key: preview_clip(shards, e, frames, frame_width(frames)) for e in index.samples}


def preview(shards: Path, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, "shards", "preview", str(shards), "--out", str(out), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_program_draws_every_clip_also_those_that_break(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "sheet.png"
    done = preview(shards, out, "--frames", "5")
    assert done.returncode == 0, done.stderr
    picture = Image.open(out)
    found = previews(shards)
    assert picture.size == (WIDTH, layouts_of(list(found.values()))[-1].bottom + MARGIN)
    assert f"7 clips, {picture.width} x {picture.height} pixels; 3 could not be read whole" in done.stdout
    assert np.array_equal(
        np.asarray(picture),
        np.asarray(draw_sheet(list(found.values()), f"{shards}: 7 clips from number 0 on, in their order")),
    )


def test_frames_lie_where_their_times_are(shards: Path) -> None:
    found = previews(shards)
    sheet = np.asarray(draw_sheet(list(found.values()), "title"))
    layout = layouts_of(list(found.values()))[0]
    assert len(layout.frames) == 5
    for number, (box, stamp) in enumerate(zip(layout.frames, found["spoken"].frame_times, strict=True)):
        wanted = (number + 0.5) / 5 * 4.0
        assert (box[0] + box[2]) / 2 == pytest.approx(MARGIN + wanted / 4.0 * COLUMNS, abs=1)
        assert 0 <= wanted - stamp < 0.04 + 1e-6
        upper = sheet[box[1] : (box[1] + box[3]) // 2, box[0] : box[2]]  # the lower half has the time stamp
        assert number_of(upper) == round(stamp * 25)
        assert (sheet[box[1] : box[3], box[0] - 1] == PAPER).all(), "frames touch each other"


def test_a_portrait_is_whole_and_upright(shards: Path) -> None:
    tall = previews(shards)["tall"]
    height, width = tall.frames.shape[1:3]
    assert height / width == pytest.approx(160 / 96, rel=0.03)
    assert number_of(np.rot90(tall.frames[0])) == round(tall.frame_times[0] * 25)


def test_the_wave_is_loud_where_the_click_is(shards: Path) -> None:
    found = previews(shards)
    sheet = np.asarray(draw_sheet([found["click"]], "title"))
    left, top, right, bottom = layouts_of([found["click"]])[0].wave
    inked = (sheet[top:bottom, left:right] == WAVE_INK).all(axis=2).sum(axis=0)
    loud = np.flatnonzero(inked > 20)
    assert loud.min() == pytest.approx(3.0 / 4.0 * COLUMNS, abs=3)
    assert loud.max() == pytest.approx(3.01 / 4.0 * COLUMNS, abs=6)


def test_without_sound_it_says_so(shards: Path) -> None:
    mute = previews(shards)["mute"]
    assert mute.envelope is None
    left, top, right, bottom = layouts_of([mute])[0].wave
    sheet = np.asarray(draw_sheet([mute], "title"))
    said = (sheet[top:bottom, left:right] != sheet[top + 1, left + 1]).any(axis=2)
    assert said.any()
    assert not said[:, : COLUMNS // 3].any()
    assert not (sheet[top:bottom, left:right] == WAVE_INK).all(axis=2).any()
    assert not layouts_of([mute])[0].bars


def test_sentences_are_bars_on_the_axis_and_context_is_grey(shards: Path) -> None:
    spoken = previews(shards)["spoken"]
    layout = layouts_of([spoken])[0]
    sheet = np.asarray(draw_sheet([spoken], "title"))
    bars = {bar.cue.text[:13]: bar for bar in layout.bars}
    assert set(bars) == {"in the middle", LONG[:13], "across"}
    middle, across = bars["in the middle"], bars["across"]
    assert (middle.left, middle.right) == (MARGIN + COLUMNS // 4, MARGIN + 3 * COLUMNS // 4)
    assert across.cue.context
    assert across.right == MARGIN + COLUMNS
    assert not middle.cue.context
    for bar, colour in ((middle, OWN), (across, OTHER)):
        row = layout.lanes_top + bar.lane * 18 + 2
        assert (sheet[row, bar.left + 1 : bar.right - 2] == colour).mean() > 0.9
    assert layout.aside is not None
    outside = [cue.text for cue in spoken.cues if cue.end <= 0 or cue.start >= spoken.duration]
    assert outside[0] == "long before"
    assert outside[-1] == "after"
    assert len(outside) == 3


def test_text_never_leaves_its_cell(shards: Path) -> None:
    spoken = previews(shards)["spoken"]
    layout = layouts_of([spoken])[0]
    sheet = np.asarray(draw_sheet([spoken], LONG))
    assert (sheet[:, : MARGIN - 1] == PAPER).all()
    assert (sheet[:, WIDTH - MARGIN :] == PAPER).all()
    for bar in layout.bars:
        assert bar.until <= MARGIN + COLUMNS
    assert _width(_fit(LONG, 12, 200, False), 12) <= 200
    assert _fit(LONG, 12, 200, False).endswith("…")
    assert _fit("anything", 12, 3, False) == ""


@pytest.mark.parametrize(
    "text", ["\ud800", "🎬🎵", "שלום", "नमस्ते", "a\nb\tc\x00\x1b[31m", "\u202eabc", "", "字幕", "e\u0301" * 50]
)
def test_any_text_can_be_drawn(text: str) -> None:
    cues = (PreviewCue(0.1, 0.9, text), PreviewCue(0.2, 0.3, text, context=True), PreviewCue(-2.0, -1.0, text))
    one = Preview(text or "-", text, 1.0, "facts", np.zeros((1, 20, 30, 3), np.uint8), np.zeros(1), None, cues, "")
    assert draw_sheet([one], text).width == WIDTH


def test_many_sentences_at_once_are_counted_where_they_have_no_room() -> None:
    cues = tuple(PreviewCue(0.1, 0.9, f"number {n}") for n in range(9))
    (layout,) = layouts_of([Preview("key", None, 1.0, cues=cues)])
    assert layout.lanes == 4
    assert layout.hidden == 5
    for lane in range(layout.lanes):
        row = sorted((bar for bar in layout.bars if bar.lane == lane), key=lambda bar: bar.left)
        assert all(a.right <= b.left for a, b in pairwise(row))


def test_broken_clips_say_why(shards: Path) -> None:
    found = previews(shards)
    assert "unreadable" in found["broken"].error
    assert "bad json" in found["nojson"].error
    assert found["badtext"].error
    assert len(found["badtext"].frames) == 5, "the picture of a clip with bad subtitles is shown"


def test_choosing_clips(shards: Path) -> None:
    keys = [entry.key for _, entry in choose(str(shards), 3, 2, None)]
    assert keys == ["tall", "click", "broken"]
    first = [entry.key for _, entry in choose(str(shards), 4, 0, 7)]
    rest = [entry.key for _, entry in choose(str(shards), 9, 4, 7)]
    assert len(rest) == 3
    assert sorted(first + rest) == sorted(entry.key for entry in read_index(shards).samples)
    assert first != [entry.key for _, entry in choose(str(shards), 4, 0, None)]
    with pytest.raises(UserError, match="there are 7 clips"):
        choose(str(shards), 1, 7, None)


def test_the_envelope_holds_least_and_largest() -> None:
    samples = np.zeros(1000, np.float32)
    samples[505], samples[506] = 0.7, -0.9
    envelope = envelope_of(samples, 100)
    assert envelope.shape == (2, 100)
    assert (envelope[0, 50], envelope[1, 50]) == (np.float32(-0.9), np.float32(0.7))
    assert not envelope[:, [49, 51]].any()
    assert envelope_of(samples[:10], 100).shape == (2, 100)


def test_cues_of_a_clip_without_text_are_none(shards: Path) -> None:
    assert previews(shards)["mute"].cues == ()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--frames", "0"), "frames=0"),
        (("--clips", "0"), "clips=0"),
        (("--start", "99"), "there are 7 clips"),
        (("--out", "sheet.jpg"), "sheet.png"),
    ],
)
def test_mistakes_are_said(shards: Path, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    done = preview(shards, tmp_path / "x.png", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert not list(tmp_path.iterdir())
