"""Charts: ticks that cover the data, marks where the numbers are, a text for everybody."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmssl.report.axes import Scale, linear_ticks, log_ticks, number_text, spread, tick_text
from mmssl.report.plots import Bar, Level, Line, bar_chart, line_chart, matrix_chart, smoothed


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 8))
def test_linear_ticks_cover_the_range_evenly(low, span, count):
    ticks = linear_ticks(low, low + span, count)
    assert ticks[0] <= low + span * 1e-6
    assert ticks[-1] >= low + span * (1 - 1e-6)
    assert 2 <= len(ticks) <= count + 3
    np.testing.assert_allclose(np.diff(ticks), ticks[1] - ticks[0], rtol=1e-3)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
def test_ticks_of_a_constant_surround_it(value):
    ticks = linear_ticks(value, value)
    assert ticks[0] < value < ticks[-1]


@given(st.floats(1e-9, 1e6), st.floats(1, 1e9))
def test_log_ticks_are_powers_of_ten_that_cover_the_range(low, factor):
    ticks = log_ticks(low, low * factor)
    assert ticks[0] <= low * 1.001
    assert ticks[-1] >= low * factor * 0.999
    assert len(ticks) <= 8
    np.testing.assert_allclose(np.log10(ticks), np.round(np.log10(ticks)), atol=1e-9)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_spread_labels_keep_their_order_and_distance(wanted):
    placed = spread(wanted, 14.0, 0.0, 100.0)
    order = np.argsort(wanted, kind="stable")
    assert (np.diff(np.array(placed)[order]) >= 14.0 - 0.11).all()
    assert max(placed) <= 100.0 + 0.05
    assert min(placed) >= 0.0 - 0.05


def test_numbers_are_written_for_people():
    assert [number_text(v) for v in (0.0, 0.0789, 1.5, 43.26, 1234567.0, -0.5)] == [
        "0", "0.079", "1.5", "43.3", "1.2e+06", "−0.5",
    ]  # fmt: skip
    assert number_text(1234.0) == "1\u202f234"
    assert number_text(0.5, percent=True) == "50.0 %"
    assert number_text(float("nan")) == "n/a"
    assert [tick_text(v) for v in (0.25, 2000.0, 0.0)] == ["0.25", "2 k", "0"]
    assert [tick_text(v, log=True) for v in (1e-5, 0.01, 1.0)] == ["10⁻⁵", "0.01", "1"]
    assert tick_text(0.25, percent=True) == "25 %"


def test_a_scale_maps_the_ends_and_holds_what_lies_outside():
    scale = Scale(0.0, 10.0, 100.0, 0.0)
    assert [scale(v) for v in (0, 5, 10, 20, -5)] == [100, 50, 0, 0, 100]
    assert Scale(0.01, 1.0, 0.0, 100.0, log=True)(0.1) == pytest.approx(50)


def shapes(svg: str, tag: str, class_: str) -> list[dict[str, str]]:
    root = ElementTree.fromstring(svg)
    return [e.attrib for e in root.iter(tag) if class_ in e.attrib.get("class", "").split()]


def texts(svg: str) -> list[str]:
    return [e.text or "" for e in ElementTree.fromstring(svg).iter("text")]


def test_a_line_chart_draws_the_line_and_its_floor_where_they_are():
    x = np.array([0.0, 10.0, 20.0])
    svg = line_chart(
        [Line("accuracy", x, np.array([0.0, 0.5, 1.0]), points=True)],
        title="t", x_label="step", y_label="accuracy", levels=[Level("floor", 0.5)], percent=True,
    )  # fmt: skip
    (line,) = shapes(svg, "polyline", "line")
    points = np.array([[float(v) for v in p.split(",")] for p in line["points"].split()])
    assert (np.diff(points[:, 0]) > 0).all()
    assert (np.diff(points[:, 1]) < 0).all()  # up is up
    (floor,) = shapes(svg, "line", "level")
    assert float(floor["y1"]) == points[1, 1]
    assert len(shapes(svg, "circle", "dot")) == 3
    assert {"floor 50.0 %", "100.0 %", "step", "100 %"} <= set(texts(svg))
    said = ElementTree.fromstring(svg).attrib["aria-label"]
    assert said == "t. accuracy over step. accuracy: 100.0 % at the end; floor: 50.0 %."


def test_several_lines_have_a_legend_and_their_names_at_the_end():
    x = np.arange(3.0)
    lines = [Line("video", x, x, 0), Line("audio", x, x + 1, 1), Line("", x, x + 2, 1, faint=True)]
    svg = line_chart(lines, title="t", x_label="step", y_label="std")
    found = texts(svg)
    assert {"video", "audio", "video 2", "audio 3"} <= set(found)
    ends = shapes(svg, "text", "end")
    assert len(ends) == 2
    assert abs(float(ends[0]["y"]) - float(ends[1]["y"])) >= 13.9


def test_one_point_is_drawn_and_none_is_an_error():
    svg = line_chart([Line("a", np.array([5.0]), np.array([0.3]))], title="t", x_label="x", y_label="y")
    assert len(shapes(svg, "circle", "dot")) == 1
    with pytest.raises(ValueError, match="at least one point"):
        line_chart([Line("a", np.array([]), np.array([]))], title="t", x_label="x", y_label="y")


def test_a_long_run_stays_a_small_chart_and_noise_gets_a_running_mean():
    x = np.arange(100_000.0)
    lines = smoothed("loss", x, np.random.default_rng(0).normal(size=len(x)))
    assert [line.faint for line in lines] == [True, False]
    assert lines[1].y.std() < 0.1 * lines[0].y.std()
    assert len(line_chart(lines, title="t", x_label="x", y_label="y")) < 20_000
    assert len(smoothed("loss", x[:5], x[:5])) == 1


def test_bars_are_as_long_as_their_values():
    bars = [Bar("model", 0.8, "80 %", own=True, error=0.1, dots=(0.7, 0.9)), Bar("<chance>", 0.2, "20 %", target=0.4)]
    svg = bar_chart(bars, title="t", x_label="share", high=1.0, percent=True, levels=[Level("chance", 0.1)])
    wide = [float(r["width"]) for r in shapes(svg, "rect", "bar")]
    assert wide[0] == pytest.approx(4 * wide[1], abs=0.5)
    assert len(shapes(svg, "circle", "seed")) == 2
    (target,) = shapes(svg, "line", "target")
    left = float(shapes(svg, "rect", "bar")[0]["x"])
    assert float(target["x1"]) - left == pytest.approx(2 * wide[1], abs=0.5)
    assert "<chance>" in texts(svg)
    assert "<chance>" not in svg
    with pytest.raises(ValueError, match="at least one bar"):
        bar_chart([], title="t", x_label="x")


def test_a_matrix_shows_shares_of_its_rows():
    svg = matrix_chart(np.array([[3, 1], [0, 0]]), ["a", "b"], title="t")
    shades = [float(re.search(r"[\d.]+", c["style"])[0]) for c in shapes(svg, "rect", "cell")]
    assert shades == sorted(shades, reverse=True)
    assert {"75", "25"} <= set(texts(svg))
    assert "a: 75 % right; b: 0 % right" in ElementTree.fromstring(svg).attrib["aria-label"]
    with pytest.raises(ValueError, match="do not fit 3 names"):
        matrix_chart(np.eye(2), ["a", "b", "c"], title="t")
