"""The page in headless Chromium: it shows, runs clean, plays its clips, fits a phone, and hostile text stays text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmssl.report import ReportContent, write_report
from tests.report.browser import screenshot, title_after
from tests.report.examples import full, hostile


def distinct_colours(picture: Path) -> int:
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(np.int32)
    return int(np.count_nonzero(np.bincount((pixels @ [1 << 16, 1 << 8, 1]).ravel())))


@pytest.mark.parametrize(
    "content", [full, hostile, lambda: ReportContent("nothing measured")], ids=["full", "hostile", "empty"]
)
def test_the_page_shows_without_console_errors(content, tmp_path):
    page = write_report(tmp_path, content())
    picture = tmp_path / "page.png"
    assert screenshot(page, picture, 1200, 2400) == []
    assert Image.open(picture).size == (1200, 2400)
    # text alone has a few dozen shades through smoothing; charts and pictures of clips have thousands
    assert distinct_colours(picture) > (20 if content not in (full, hostile) else 2000)


def test_the_console_check_sees_errors(tmp_path):
    (tmp_path / "index.html").write_text("<!doctype html><title>x</title><script>nothing.there()</script>")
    errors = screenshot(tmp_path / "index.html", tmp_path / "page.png", 400, 300)
    assert len(errors) == 1
    assert "nothing is not defined" in errors[0]
    assert distinct_colours(tmp_path / "page.png") == 1


def test_the_policy_stops_scripts_and_requests_that_are_not_the_page_s_own(tmp_path):
    page = write_report(tmp_path, ReportContent("t"))
    text = page.read_text().replace("</body>", '<script>document.title = "ran"</script><img src="a.png"></body>')
    page.write_text(text)
    errors = screenshot(page, tmp_path / "page.png", 400, 300)
    assert len(errors) == 2, errors


def test_clips_decode_with_sound_and_one_plays_at_a_time(tmp_path):
    page = write_report(tmp_path, full())
    script = """
    const all = [...document.querySelectorAll("video")], wait = ms => new Promise(f => setTimeout(f, ms));
    (async () => {
      try {
        for (const v of all) v.muted = true;
        await all[0].play(); await all[1].play(); await wait(300);
        const bytes = Uint8Array.from(atob(all[1].src.split(",")[1]), c => c.charCodeAt(0));
        const sound = await new OfflineAudioContext(1, 1, 16000).decodeAudioData(bytes.buffer);
        document.title = JSON.stringify([all.length, all[0].paused, all[1].paused, all[1].videoWidth,
          Math.round(all[1].duration), Math.max(...sound.getChannelData(0).slice(0, 16000)) > 0.1]);
      } catch (e) { document.title = "failed: " + e }
    })()"""
    assert title_after(page, script, tmp_path / "copy.html") == "[8,true,false,96,3,true]"


@pytest.mark.parametrize("content", [full, hostile], ids=["full", "hostile"])
def test_hostile_text_makes_no_element_and_a_phone_needs_no_sideways_scrolling(content, tmp_path):
    page = write_report(tmp_path, content())
    script = """
    document.documentElement.style.width = "390px";  // a window is 500 wide at least; both lie below every breakpoint
    const any = query => document.querySelectorAll(query).length;
    const outside = [...document.querySelectorAll("[src],[href],[poster]")].filter(e =>
      !["src", "href", "poster"].every(a => /^(data:(image|video)\\/|#)/.test(e.getAttribute(a) || "#")));
    const right = Math.max(...[...document.querySelectorAll("main, header, footer, section, figure, .chart")]
      .map(e => e.getBoundingClientRect().right));
    document.title = JSON.stringify([document.scripts.length, outside.length,
      any("[onerror],[onload],[onclick],iframe,object,embed,link,base,form"), Math.round(right)])"""
    # two scripts: the page's own and this one
    assert title_after(page, script, tmp_path / "copy.html", width=390) == "[2,0,0,390]"
