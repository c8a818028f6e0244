"""The page as text: every section, what is missing, nothing from outside, bounded, whole or not at all."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser

import numpy as np
import pytest

from mmssl.errors import UserError
from mmssl.report import NeighbourRow, Overlay, PretextRow, ReportContent, Spectrum, Stage, Strip, write_report
from mmssl.report.markup import VOID, clean
from mmssl.report.page import page
from tests.report.examples import HOSTILE, TASKS, full, hostile, metrics

MISSING = (
    "No scores were measured", "Action transfer was not evaluated", "Localization was not scored",
    "No overlays were made", "No held-out scores of pretext tasks", "No curves: the run left no metrics.jsonl",
    "No nearest neighbours", "No singular-value spectra", "No subtitle examples", "No stage times",
    "Versions and machine were not recorded", "The configuration was not recorded",
)  # fmt: skip


class Page(HTMLParser):
    """Elements of a page by name, its text, and whether every element is closed in turn."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if not self.open or self.open[-1] not in ("style", "script") else ""

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_full_data_fill_every_section_and_nothing_is_missing():
    found = Page(page(full()))
    assert [a["id"] for a in found.all("section")] == [
        "action", "localization", "pretext", "neighbours", "representation", "subtitles", "run",
    ]  # fmt: skip
    assert "missing" not in {a.get("class") for _, a in found.elements}
    assert {f"#{a['id']}" for a in found.all("section")} <= {a["href"] for a in found.all("a")}
    for words in ("86.1 %", "motion saliency", "95 % interval +29.0 points to +37.1 points", "hard_negatives: 0.25",
                  "soundstage_00003", "2.14.0", "the wooden ball bounces twice", "4 of 5 checks hold"):  # fmt: skip
        assert words in found.text
    charts = [a["aria-label"] for a in found.all("svg")]
    for task in TASKS:
        assert any(str(c).startswith(f"{task}: held-out") for c in charts)
        assert any(str(c).startswith(f"{task}: training loss") for c in charts)
    for title in (
        "Singular values",
        "Effective rank",
        "Gradient of each task at video",
        "Throughput",
        "Waiting for data",
        "Time of the stages",
        "Confusion",
    ):
        assert any(str(c).startswith(title) for c in charts), title


def test_an_empty_run_says_what_is_missing_and_claims_nothing():
    found = Page(page(ReportContent("nothing")))
    for words in MISSING:
        assert words in found.text
    assert not found.all("svg")
    assert "checks hold" not in found.text


def test_warnings_and_failures_of_the_run_are_shown():
    found = Page(page(full()))
    assert "step 100: audio: effective rank 6.1 of 128" in found.text
    assert "failed: truncated file" in found.text
    assert "256 clips for 128 dimensions: the rank is bounded" in found.text
    quiet = [r for r in metrics() if r["event"] != "warning"]
    assert "No warning was raised" in Page(page(dataclasses.replace(full(), metrics=quiet))).text


@pytest.mark.parametrize("part", [f.name for f in dataclasses.fields(ReportContent) if f.name != "title"])
def test_any_single_part_may_be_missing(part):
    empty = getattr(ReportContent("t"), part)
    found = Page(page(dataclasses.replace(full(), **{part: empty})))
    assert len(found.all("section")) == 7


@pytest.mark.parametrize("content", [full, hostile])
def test_nothing_comes_from_outside(content):
    found = Page(page(content()))
    assert "link" not in {tag for tag, _ in found.elements}
    for _tag, attributes in found.elements:
        for name in ("src", "href", "poster", "srcset", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/", "data:video/mp4;", "#")), (name, value)
        assert "url(" not in (attributes.get("style") or "")
    policy = next(a["content"] for a in found.all("meta") if a.get("http-equiv"))
    assert str(policy).startswith("default-src 'none'; img-src data:; media-src data:;")
    assert "url(" not in page(content())
    assert "@import" not in page(content())


def test_hostile_text_is_shown_as_text():
    text = page(hostile())
    found = Page(text)
    assert len(found.all("script")) == 1
    assert "<script>alert" not in text
    assert "\x00" not in text
    assert found.text.count(clean(HOSTILE)) > 100
    assert not {name for _, a in found.elements for name in a if name.startswith("on")}
    text.encode("utf-8")


def test_the_page_is_accessible():
    found = Page(page(full()))
    assert found.all("html") == [{"lang": "en"}]
    assert len(found.all("h1")) == 1
    assert all(a.get("alt") for a in found.all("img"))
    assert all(a.get("aria-label") and "controls" in a for a in found.all("video"))
    assert all(a.get("aria-label") and a.get("role") == "img" for a in found.all("svg"))
    assert all(a.get("scope") in ("row", "col") for a in found.all("th"))
    assert len(found.all("caption")) == len(found.all("table")) >= 6
    scrolls = [a for _, a in found.elements if a.get("class") == "scroll"]
    assert all(a["tabindex"] == "0" and a["role"] == "region" and a["aria-label"] for a in scrolls)
    ids = [a["id"] for _, a in found.elements if "id" in a]
    assert len(ids) == len(set(ids))


def test_hits_misses_and_wrong_neighbours_are_marked():
    found = Page(page(full()))
    classes = [a.get("class") for a in found.all("figure")]
    assert (classes.count("hit"), classes.count("miss")) == (6, 2)
    assert (classes.count("right"), classes.count("wrong"), classes.count("query")) == (16, 4, 4)
    assert "6 of these 8 peaks lie in the true box" in found.text
    assert "16 of 20 neighbours share the label" in found.text


def test_unlabelled_clips_are_not_judged():
    frames = np.zeros((3, 8, 8, 3), np.uint8)
    row = NeighbourRow(Strip("q", frames), (Strip("n", frames, "a"), Strip("m", frames)))
    overlay = Overlay("k", np.zeros((8, 8, 3), np.uint8))
    found = Page(page(ReportContent("t", neighbours=(row,), overlays=(overlay,))))
    classes = {a.get("class") for a in found.all("figure")}
    assert classes == {None, "query"}
    assert "share the label" not in found.text
    assert "peaks lie" not in found.text


def test_media_stay_within_the_limit_and_what_is_left_out_is_told(tmp_path):
    whole = write_report(tmp_path / "whole", full()).stat().st_size
    small = write_report(tmp_path / "small", full(), media_limit=60_000)
    assert whole < 1_500_000
    none = write_report(tmp_path / "none", full(), media_limit=0).stat().st_size
    assert none < 250_000
    assert none < small.stat().st_size <= none + 62_000
    assert "left out to keep the page small" in small.read_text()
    assert "left out" not in Page((tmp_path / "whole" / "index.html").read_text()).text


def test_a_long_run_gives_a_page_of_the_same_size():
    long = dataclasses.replace(full(), metrics=metrics(60_000))
    assert len(page(long)) < len(page(full())) + 250_000


def test_the_file_appears_whole_or_not_at_all(tmp_path):
    bad = dataclasses.replace(full(), overlays=(Overlay("clip_7", b"GIF89a", None, "wood", "roll"),))
    with pytest.raises(UserError, match=r"picture of .*clip_7.*: neither PNG nor JPEG"):
        write_report(tmp_path / "a", bad)
    assert not (tmp_path / "a").exists()
    path = write_report(tmp_path / "a" / "b", full())
    before = path.read_bytes()
    with pytest.raises(UserError):
        write_report(tmp_path / "a" / "b", bad)
    assert path.read_bytes() == before
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["index.html"]


def test_the_same_content_gives_the_same_bytes(tmp_path):
    assert write_report(tmp_path / "a", full()).read_bytes() == write_report(tmp_path / "b", full()).read_bytes()


def test_numbers_that_are_not_finite_do_not_break_the_page():
    content = ReportContent(
        "t",
        stages=(Stage("a", 0.0),),
        metrics=[{"event": "step", "step": 1, "loss": float("nan"), "t/loss": float("inf")}, {"event": "step"}],
        pretext=(PretextRow("t", "accuracy", float("nan"), 0.5, 0.5),),
        spectra=(Spectrum("video", np.array([0.0, 0.0]), float("nan"), float("nan"), 4),),
    )
    assert "n/a" in Page(page(content)).text
