"""PNG figures and the Markdown table."""

from __future__ import annotations

import dataclasses
import io
import re

import numpy as np
import pytest
from PIL import Image

from mmssl.report import LocalizationRow, ReportContent, results_markdown, write_pictures
from mmssl.report.media import jpeg, picture_size, strip
from mmssl.report.pictures import gallery_picture
from tests.report.examples import full, hostile


def test_every_figure_is_drawn(tmp_path):
    written = write_pictures(tmp_path, full())
    assert [p.name for p in written] == ["curves.png", "localization.png", "neighbours.png"]
    for path in written:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert pixels.shape[0] > 200
        assert pixels.shape[1] > 800
        assert len(np.unique(pixels.reshape(-1, 3)[::7], axis=0)) > 50


def test_hits_are_framed_green_and_misses_orange():
    def has(data: bytes | None, colour: tuple[int, int, int]) -> bool:
        assert data is not None
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).reshape(-1, 3)
        return bool((pixels == colour).all(axis=1).any())

    shown = full().overlays
    green, orange = (0, 158, 115), (213, 94, 0)
    hits = gallery_picture([o for o in shown if o.hit])
    misses = gallery_picture([o for o in shown if not o.hit])
    assert (has(hits, green), has(hits, orange)) == (True, False)
    assert (has(misses, green), has(misses, orange)) == (False, True)


def test_hostile_text_is_drawn_and_nothing_is_drawn_of_nothing(tmp_path):
    assert len(write_pictures(tmp_path / "hostile", hostile())) == 3
    assert write_pictures(tmp_path / "empty", ReportContent("t")) == []


def test_frames_stand_in_reading_order():
    frames = np.stack([np.full((4, 6, 3), 50 * i, np.uint8) for i in range(4)])
    row = strip(frames, gap=2)
    assert row.shape == (4, 30, 3)
    assert row[0, [0, 8, 16, 24], 0].tolist() == [0, 50, 100, 150]
    assert (row[:, 6:8] == 255).all()
    square = strip(frames[:3], columns=2, gap=2)
    assert square.shape == (10, 14, 3)
    assert [square[0, 0, 0], square[0, 8, 0], square[6, 0, 0], square[6, 8, 0]] == [0, 50, 100, 255]
    with pytest.raises(ValueError, match=r"frames are uint8 \[T, H, W, 3\]"):
        strip(np.zeros((4, 6, 3), np.uint8))


def test_jpeg_keeps_size_and_colour_and_refuses_other_arrays():
    data = jpeg(np.full((20, 30, 3), (200, 40, 90), np.uint8))
    assert picture_size(data) == (20, 30)
    assert np.abs(np.asarray(Image.open(io.BytesIO(data))).astype(int) - (200, 40, 90)).max() < 6
    with pytest.raises(ValueError, match="not float64"):
        jpeg(np.zeros((4, 4, 3)))


def rows(markdown: str) -> list[list[str]]:
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_the_markdown_holds_every_number_beside_its_baselines():
    found = rows(results_markdown(full()))
    assert ["linear probe, pretrained", "86.1 %", "1.1", "3"] in found
    assert ["linear probe, random init", "53.2 %", "2.1", "3"] in found
    assert ["chance", "10.0 %", "—", "—"] in found
    assert ["motion\\_saliency", "46.5 %", "20.4 %", "26.0 %"] in found
    assert ["whole\\_frame", "—", "0.0 %", "5.1 %"] in found
    assert ["av\\_sync", "accuracy", "86.2 %", "50.0 %", "100.0 %", "50.4 %"] in found


def test_hostile_names_stay_in_their_cell():
    text = results_markdown(hostile())
    widths = {len(r) for r in rows(text)}
    assert widths <= {4, 6}
    assert "<script>" not in text.replace("\\<script\\>", "")
    content = full()
    assert content.localization is not None
    odd = dataclasses.replace(content.localization, rows=(LocalizationRow("a\n| b"),))
    assert ["a \\| b", "—", "—", "—"] in rows(results_markdown(dataclasses.replace(content, localization=odd)))


def test_an_empty_run_is_a_heading():
    assert results_markdown(ReportContent("nothing")) == "## nothing\n"
