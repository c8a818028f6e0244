"""The page of sound maps in headless Chromium: heat lies where the map is hot and moves with the time, keys work."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mmssl.localization.overlay import heat_colours
from mmssl.report.viewed import ViewedClip, fitting
from mmssl.report.viewer import viewer_page, write_viewer
from tests.evaluation.oracle import encode
from tests.report.browser import screenshot, title_after

HEIGHT, WIDTH, SECONDS, RATE = 64, 96, 2.0, 10
AREA = (1 / 6, 0.0, 5 / 6, 1.0)  # the model saw the middle square of a wide picture
HOT = ((1, 2), (6, 5))  # (row, column) of the hot one of 8 x 8 cells, in the first and in the second half


def place(cell):
    """(x, y) of a cell's centre in fractions of the picture."""
    row, column = cell
    return AREA[0] + (column + 0.5) / 8 * (AREA[2] - AREA[0]), (row + 0.5) / 8


def viewed(folder, key="clip", **changes):
    (folder / "media").mkdir(exist_ok=True)
    wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(SECONDS * 16000)) / 16000)
    frames = np.full((round(SECONDS * RATE), HEIGHT, WIDTH, 3), 90, np.uint8)
    name = f"media/{len(list((folder / 'media').iterdir()))} #%.mp4"
    (folder / name).write_bytes(encode(frames, wave.astype(np.float32)))
    times = np.arange(0, SECONDS, 0.25)
    heat = np.zeros((len(times), 8, 8), np.uint8)
    peaks = np.zeros((len(times), 2))
    for number, time in enumerate(times):
        cell = HOT[int(time >= 1.0)]
        heat[(number, *cell)] = 255
        peaks[number] = place(cell)
    given = {
        "key": key,
        "media": name,
        "size": (HEIGHT, WIDTH),
        "duration": SECONDS,
        "times": times,
        "heat": heat,
        "range": (0.1, 0.9),
        "area": AREA,
        "confidence": np.linspace(0.2, 0.9, len(times)),
        "peaks": peaks,
        "frames": np.arange(round(SECONDS * RATE)) / RATE,
        "wave": np.full(200, 80, np.uint8),
        "boxes": [(0.9, 2.0, [(0.4, 0.6, 0.7, 0.9)])],
        "about": "a tone",
        "hit": True,
        "links": {"npz": "clip.npz", "mp4": "clip.mp4", "png": "clip.png"},
    }
    return ViewedClip(**(given | changes))


def written(folder, clips=None):
    return write_viewer(folder, clips or [viewed(folder)], heat_colours(), "Sound maps", "of a test")


#: what the scripts of the tests share: wait, press a key, the opacity of the canvas at a place. Browsers' virtual time
#: runs ahead of a busy machine, so waiting for the video costs real time too.
HELPERS = """
const $ = id => document.getElementById(id), wait = ms => new Promise(f => setTimeout(f, ms));
const press = (key, more) => document.body.dispatchEvent(new KeyboardEvent("keydown",
  Object.assign({key, bubbles: true, cancelable: true}, more)));
const alpha = (x, y) => { const c = $("heat");
  return c.getContext("2d").getImageData(Math.round(x * c.width), Math.round(y * c.height), 1, 1).data[3] };
const burn = () => { for (let i = 0, x = 0; i < 2e6; i++) x += Math.sqrt(i) };
const until = async done => { while (!done()) { await wait(20); burn() } };
const ready = () => until(() => $("video").readyState >= 2);
const seeked = async () => { await until(() => !$("video").seeking); await wait(50) };
const told = async f => { try { await ready(); document.title = JSON.stringify(await f()) }
  catch (e) { document.title = "failed: " + e } };
"""


def after(folder, script, clips=None, helpers=HELPERS, **options):
    page = written(folder, clips)
    said = title_after(page, f"{helpers} told(async () => {{ {script} }})", folder / "copy.html", **options)
    assert said.startswith(("[", "{")), said
    return json.loads(said)


def test_the_page_shows_heat_in_the_colours_of_the_map_and_runs_clean(tmp_path):
    page = written(tmp_path)
    assert screenshot(page, tmp_path / "page.png", 1000, 900) == []
    pixels = np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).astype(int)
    stage = (abs(pixels - 90).max(axis=2) < 12).any(axis=0)
    assert stage.sum() > 300, "the clip itself is on the screen"
    bright = (pixels[..., 0] > 180) & (pixels[..., 1] > 150) & (pixels[..., 2] < 170)
    assert bright.any(), "and the heat over it"


def test_heat_lies_where_the_map_is_hot_and_moves_with_the_time(tmp_path):
    (x0, y0), (x1, y1) = place(HOT[0]), place(HOT[1])
    script = f"""
    press("p"); press("b");  // ring and box off: what is left is the heat
    const out = [];
    out.push(alpha({x0}, {y0}), alpha({x1}, {y1}), alpha(0.05, 0.5));
    const w = $("wave"), box = w.getBoundingClientRect();
    w.dispatchEvent(new PointerEvent("pointerdown", {{clientX: box.left + 0.8 * box.width, clientY: box.top + 5,
      button: 0, pointerId: 1, bubbles: true}}));
    await seeked();
    out.push(alpha({x0}, {y0}), alpha({x1}, {y1}), alpha(0.05, 0.5));
    out.push(Math.round($("video").currentTime * 100) / 100, w.getAttribute("aria-valuenow"));
    return out;"""
    first, second, outside, later, there, still_outside, time, told = after(tmp_path, script)
    assert first > 150
    assert (second, outside) == (0, 0)
    assert there > 150
    assert (later, still_outside) == (0, 0)
    assert time == pytest.approx(1.6, abs=0.02)
    assert float(told) == pytest.approx(1.6, abs=0.02)


def test_between_two_maps_the_heat_is_in_proportion(tmp_path):
    x, y = place(HOT[0])
    script = f"""
    press("p"); press("b"); const whole = alpha({x}, {y});
    const w = $("wave"), box = w.getBoundingClientRect();
    w.dispatchEvent(new PointerEvent("pointerdown", {{clientX: box.left + 0.875 / 2 * box.width, clientY: box.top,
      button: 0, pointerId: 1, bubbles: true}}));
    await seeked();
    return [whole, alpha({x}, {y})];"""
    whole, half = after(tmp_path, script)  # at 0.875 s, between the maps of 0.75 and 1.0
    assert half == pytest.approx(whole / 2, abs=12)


def test_keys_change_what_is_shown(tmp_path):
    x, y = place(HOT[0])
    script = f"""
    press("p"); press("b");
    const out = {{before: alpha({x}, {y})}};
    for (let i = 0; i < 5; i++) press("[");
    out.opacity = $("opacity").value; out.fainter = alpha({x}, {y}); out.said = $("said").textContent;
    press("o"); out.off = alpha({x}, {y}); out.pressed = $("show-heat").getAttribute("aria-pressed"); press("o");
    for (let i = 0; i < 25; i++) press("]"); out.most = $("opacity").value;
    press("="); out.threshold = $("threshold").value;
    press("ArrowRight"); await seeked(); out.frame = $("time").textContent;
    press("ArrowRight"); press("ArrowLeft"); await seeked(); out.again = $("time").textContent;
    press("ArrowRight", {{shiftKey: true}}); await seeked(); out.second = Number(document.documentElement.dataset.time);
    press("End"); await seeked(); out.end = Number(document.documentElement.dataset.time);
    press("m"); out.muted = $("video").muted;
    press("h"); out.help = $("help").open; press("h"); out.closed = !$("help").open;
    press("Home"); await seeked(); press(" ");
    await until(() => $("video").currentTime > 0); out.playing = !$("video").paused;
    press(" "); await wait(100); out.paused = $("video").paused; out.moved = $("video").currentTime > 0;
    return out;"""
    found = after(tmp_path, script)
    assert found["opacity"] == "50"
    assert found["fainter"] == pytest.approx(found["before"] * 50 / 75, abs=3)
    assert found["said"] == "opacity of the heat 50 %"
    assert (found["off"], found["pressed"], found["most"], found["threshold"]) == (0, "false", "100", "5")
    assert "frame 2 of 20" in found["frame"]
    assert "frame 2 of 20" in found["again"]
    assert found["second"] == pytest.approx(1.14, abs=0.06)
    assert found["end"] == pytest.approx(2.0, abs=0.05)
    assert all(found[name] for name in ("muted", "help", "closed", "playing", "paused", "moved")), found


def test_keys_that_a_control_needs_are_left_to_it(tmp_path):
    script = """
    const right = more => new KeyboardEvent("keydown", {key: "ArrowRight", bubbles: true, cancelable: true, ...more});
    const range = $("opacity"), event = right(), other = right({ctrlKey: true});
    range.focus(); range.dispatchEvent(event);
    document.body.dispatchEvent(other);
    return [event.defaultPrevented, other.defaultPrevented, $("time").textContent.includes("frame 1 of")];"""
    assert after(tmp_path, script) == [False, False, True]


def test_heat_below_the_threshold_is_not_drawn_and_boxes_come_in_their_time(tmp_path):
    weak = viewed(tmp_path)
    weak = replace(weak, heat=(weak.heat // 2).astype(np.uint8))
    x, y = place(HOT[0])
    script = f"""
    press("p"); const out = [alpha({x}, {y})];
    $("threshold").value = 60; $("threshold").dispatchEvent(new Event("input")); out.push(alpha({x}, {y}));
    out.push(alpha(0.4, 0.75)); press("End"); await seeked(); out.push(alpha(0.4, 0.75));
    press("b"); out.push(alpha(0.4, 0.75));
    return out;"""
    shown, hidden, early, box, without = after(tmp_path, script, [weak])
    assert shown > 60
    assert (hidden, early, box, without) == (0, 0, 255, 0)


def test_several_clips_are_listed_and_chosen(tmp_path):
    clips = [viewed(tmp_path, f"clip {n}", hit=[True, False, None][n], boxes=()) for n in range(3)]
    script = """
    const out = [document.querySelectorAll("#clips button").length, $("name").textContent];
    press("ArrowDown"); out.push($("name").textContent, decodeURI($("video").src).endsWith("media/1 %23%.mp4"));
    document.querySelectorAll("#clips button")[2].click(); out.push($("name").textContent,
      document.querySelector("[aria-current]").dataset.clip, $("show-boxes").hidden);
    press("ArrowDown"); out.push($("name").textContent, $("link-npz").getAttribute("href"));
    return out;"""
    assert after(tmp_path, script, clips) == [
        3, "clip 0", "clip 1", True, "clip 2", "2", True, "clip 0", "clip.npz",
    ]  # fmt: skip


def test_a_clip_that_the_browser_cannot_play_is_told_of_and_its_maps_still_move(tmp_path):
    clip = viewed(tmp_path)
    (tmp_path / clip.media).write_bytes(b"no film")
    x, y = place(HOT[1])
    script = f"""
    await until(() => $("said").textContent);
    const out = [$("said").textContent.includes("cannot play")];
    press("p"); press("b"); press("End"); await wait(100); out.push(alpha({x}, {y}) > 150); return out;"""
    assert after(tmp_path, script, [clip], HELPERS.replace("await ready();", "")) == [True, True]


def test_hostile_names_stay_text_and_nothing_sticks_out_of_a_phone(tmp_path):
    evil = "</script><img src=x onerror=alert(1)>" + "W" * 90 + "\u2028\ud800"
    clips = [viewed(tmp_path, evil, about=evil, links={"npz": 'a"><b>.npz', "mp4": "x", "png": "y"}) for _ in range(2)]
    script = """
    document.documentElement.style.width = "390px"; await wait(100);
    const right = Math.max(...[...document.querySelectorAll("main, header, footer, section, canvas, button, label")]
      .filter(e => e.offsetParent).map(e => e.getBoundingClientRect().right));
    return [document.scripts.length, document.querySelectorAll("img, iframe, [onerror]").length,
      $("name").textContent.startsWith("<\\/script><img"), Math.round(right) <= 390];"""
    # three scripts: the data, the page's own and this one
    assert after(tmp_path, script, clips, width=390) == [3, 0, True, True]


def test_every_control_has_a_name(tmp_path):
    script = """
    return [...document.querySelectorAll("button, input, select, [role=slider], [role=img], a[href]")].filter(e =>
      !(e.textContent.trim() || e.getAttribute("aria-label") || (e.labels && e.labels.length))).map(e => e.id);"""
    assert after(tmp_path, script, [viewed(tmp_path), viewed(tmp_path)]) == []


def test_the_page_is_the_same_for_the_same_clips_and_refuses_what_does_not_fit(tmp_path):
    clip = viewed(tmp_path)
    assert viewer_page([clip], heat_colours(), "t") == viewer_page([clip], heat_colours(), "t")
    with pytest.raises(ValueError, match="heat must be uint8"):
        replace(clip, heat=clip.heat.astype(np.float32))
    with pytest.raises(ValueError, match="one length"):
        replace(clip, peaks=clip.peaks[1:])
    with pytest.raises(ValueError, match="at least one clip"):
        viewer_page([], heat_colours(), "t")


def test_what_the_page_leaves_out_is_said_below_the_name(tmp_path):
    noted = viewed(tmp_path, notes=("The picture ends at 1.00 s.", "</li><b>no markup"))
    script = """
    const list = $("notes"), out = [list.hidden, [...list.children].map(e => e.textContent)];
    press("ArrowDown"); out.push(list.hidden, list.children.length);
    return out;"""
    assert after(tmp_path, script, [noted, viewed(tmp_path, "quiet")]) == [
        False, ["The picture ends at 1.00 s.", "</li><b>no markup"], True, 0,
    ]  # fmt: skip


def test_of_too_many_maps_the_hottest_of_every_few_are_kept(tmp_path):
    small, large = viewed(tmp_path, "small"), viewed(tmp_path, "large")
    times = np.arange(100) / 50
    confidence = np.random.default_rng(0).permutation(100) / 100
    heat = np.repeat(np.arange(100, dtype=np.uint8), 64).reshape(100, 8, 8)
    large = replace(large, times=times, heat=heat, confidence=confidence, peaks=np.stack([times, times], axis=1))
    kept, thin = fitting([small, large], limit=8 * 64 + 25 * 64)
    assert kept is small, "what fits its share stays as it is"
    assert len(thin.times) == 25
    assert thin.confidence.tolist() == confidence.reshape(25, 4).max(axis=1).tolist()
    np.testing.assert_allclose(thin.times * 50, thin.heat[:, 0, 0])
    assert thin.notes[-1].startswith("This page of 2 clips holds 25 of the clip's 100 maps: of every 4 in a row")
    assert "clip.npz" in thin.notes[-1]
    assert fitting([small, large]) == [small, large]
    assert sum(clip.heat.size for clip in fitting([large] * 3, limit=60 * 64)) <= 60 * 64
