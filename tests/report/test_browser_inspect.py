"""The pages of comparisons, clips, stages and filters in headless Chromium: consoles, keys, both themes, a phone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from mmssl.evaluation.clip_map import ClipMap, in_square, nearest
from mmssl.evaluation.stages import StageMaps
from mmssl.evaluation.top_activations import Hit, TopActivations
from mmssl.report.attention_page import attention_page
from mmssl.report.clip_map_page import clip_map_page
from mmssl.report.comparison import compare
from mmssl.report.comparison_page import comparison_page
from mmssl.report.runs import read_results
from mmssl.report.shell import write_page
from mmssl.report.stage_pictures import stage_picture
from mmssl.report.top_activations_page import top_activations_page
from tests.report.browser import screenshot, title_after
from tests.report.test_browser import distinct_colours
from tests.report.test_comparison import hits, write_action

EVIL = "<img src=x onerror=alert(1)>"
DARK = "--blink-settings=preferredColorScheme=0"


def clip_map(n=30, columns=6):
    """Clips on a grid, row by row, coloured by place; the first has a hostile name."""
    x, y = np.arange(n) % columns, np.arange(n) // columns
    places = np.stack([x, y], axis=1).astype(np.float32)
    pictures = np.zeros((n, 32, 32, 3), np.uint8)
    pictures[..., 0], pictures[..., 1] = (40 * x)[:, None, None], (40 * y)[:, None, None]
    keys = tuple(EVIL if k == 0 else f"clip{k:02d}" for k in range(n))
    labels = tuple(None if k == n - 1 else ("even", "odd", EVIL)[k % 3] for k in range(n))
    sources = tuple(f"s{k}" for k in range(n))
    features = np.concatenate([places, np.eye(n, dtype=np.float32)], axis=1)
    about = {
        "protocol": "neighbour-agreement-v1", "encoder": "video", "shards": EVIL, "seconds": 2.0, "rate": 8.0,
        "seed": 0, "seeds": 1, "map": "first two principal components", "left_out": {EVIL: "could not be decoded"},
    }  # fmt: skip
    near, close = nearest(features, sources)
    return ClipMap(
        keys, sources, labels, pictures, features, features[None, ::-1].copy(), in_square(places), near, close, about
    )


def comparison(folder):
    runs = [
        write_action(folder / name, hits(rate, seed=n)) for n, (name, rate) in enumerate((("low", 0.2), ("high", 0.9)))
    ]
    return compare(read_results(runs))


def stage_clips():
    rng = np.random.default_rng(0)
    maps = {"trained": rng.random((4, 12, 12), np.float32), "random weights": rng.random((4, 12, 12), np.float32)}
    pictures = rng.integers(0, 255, (4, 48, 48, 3), dtype=np.uint8)
    return [StageMaps(f"{EVIL}{n}", f"s{n}", EVIL, pictures, {"stride 4": maps}) for n in range(2)]


def filters():
    picture = np.random.default_rng(0).integers(0, 255, (48, 48, 3), dtype=np.uint8)
    found = [Hit(2.0 - n, f"{EVIL}{n}", f"s{n}", EVIL, 0.5, picture, (0.2, 0.2, 0.7, 0.7), (0, 1)) for n in range(9)]
    about = {
        "encoder": "image", "level": 8, "of_channels": 96, "weights": "trained", "clips": 20, "shards": EVIL,
        "receptive_field": [47, 47], "modality": "image", "left_out": {},
    }  # fmt: skip
    return TopActivations({3: found, 7: found}, about)


def pages(folder):
    clips = stage_clips()
    about = {"encoder": "image", "shards": EVIL}
    return {
        "comparison": lambda: comparison_page(comparison(folder)),
        "clips": lambda: clip_map_page(clip_map()),
        "attention": lambda: attention_page(clips, [stage_picture(clip) for clip in clips], about),
        "filters": lambda: top_activations_page(filters()),
    }


NAMES = ("comparison", "clips", "attention", "filters")


@pytest.mark.parametrize(("name", "flags"), [*((name, (DARK,)) for name in NAMES), ("clips", ())])
def test_pages_show_in_both_themes_without_console_errors(name, flags, tmp_path):
    page = write_page(tmp_path / "index.html", pages(tmp_path)[name]())
    picture = tmp_path / "page.png"
    assert screenshot(page, picture, 1100, 1600, *flags) == []
    assert distinct_colours(picture) > 200
    mean = float(np.asarray(Image.open(picture).convert("L")).mean())
    assert mean < 90 if flags else mean > 190


@pytest.mark.parametrize("name", NAMES)
def test_hostile_text_makes_no_element_and_a_phone_needs_no_sideways_scrolling(name, tmp_path):
    page = write_page(tmp_path / "index.html", pages(tmp_path)[name]())
    script = """
    document.documentElement.style.width = "390px";
    const any = query => document.querySelectorAll(query).length;
    const outside = [...document.querySelectorAll("[src],[href]")].filter(e =>
      !["src", "href"].every(a => /^(data:image\\/|#)/.test(e.getAttribute(a) || "#")));
    const wide = "main, header, footer, section, figure, .chart, #panel, .tools";
    const right = Math.max(...[...document.querySelectorAll(wide)]
      .map(e => e.getBoundingClientRect().right));
    document.title = JSON.stringify([outside.length,
      any("[onerror],[onload],[onclick],iframe,object,embed,link,base,form"), Math.round(right)])"""
    assert title_after(page, script, tmp_path / "copy.html", width=390) == "[0,0,390]"


def test_the_map_is_walked_by_keys_searched_and_pointed_at(tmp_path):
    page = write_page(tmp_path / "index.html", clip_map_page(clip_map()))
    walk = """
    said.push(all("#plane [tabindex='0']").length);
    document.querySelector("#plane [tabindex='0']").focus();
    said.push(text("key"), all(".near").length, all("#near button").length);
    key("ArrowRight"); said.push(at()); key("ArrowDown"); said.push(at()); key("ArrowLeft"); said.push(at());
    said.push(text("key"), text("label"), all("#plane [tabindex='0']").length);
    const before = wide();
    key("+"); key("+"); said.push(wide() / before);
    const box = document.activeElement.getBoundingClientRect(), view = $("map").getBoundingClientRect();
    said.push(box.left > view.left && box.right < view.right && box.top > view.top && box.bottom < view.bottom);
    key("0"); said.push(wide() / before);
    document.querySelector("#near button").click(); said.push(at() === text("key"));"""
    walked = [1, EVIL, 5, 5, "clip01", "clip07", "clip06", "clip06", "even", 1, 2.25, True, 1, True]
    find = """
    const search = $("search"), input = v => { search.value = v; search.dispatchEvent(new Event("input")) };
    const bright = () => all(".clip:not(.dim)").length;
    const legend = name => [...all(".legend button")].find(b => b.textContent.startsWith(name));
    said.push(bright()); input("CLIP1"); said.push(bright(), text("found"));
    search.focus(); key("Enter"); said.push(at()); input(""); said.push(bright());
    legend("even").click(); said.push(bright(), legend("even").getAttribute("aria-pressed"));
    legend("even").click(); said.push(bright(), text("found"));
    legend("no label").click(); said.push(bright()); legend("no label").click();"""
    found = [30, 10, "10 of 30 clips", "clip10", 30, 10, "true", 30, "", 1]
    point = """
    const clip = document.querySelector("[data-key='clip20']"), small = wide();
    clip.dispatchEvent(new PointerEvent("pointerover", {bubbles: true}));
    said.push(text("key"), $("big").style.backgroundPosition === clip.style.backgroundPosition);
    const turn = {deltaY: -277, clientX: 300, clientY: 500, bubbles: true, cancelable: true};
    $("map").dispatchEvent(new WheelEvent("wheel", turn)); said.push(wide() > small * 1.9);"""
    pointed = ["clip20", True, True]
    script = f"""(() => {{
    const key = (k) => document.activeElement.dispatchEvent(
      new KeyboardEvent("keydown", {{key: k, bubbles: true, cancelable: true}}));
    const at = () => document.activeElement.dataset.key, text = id => $(id).textContent;
    const all = query => document.querySelectorAll(query), wide = () => $("plane").getBoundingClientRect().width;
    const said = []; try {{ {walk} {find} {point} }} catch (e) {{ said.push("failed: " + e) }}
    document.title = JSON.stringify(said) }})()"""
    assert json.loads(title_after(page, script, tmp_path / "copy.html")) == walked + found + pointed
