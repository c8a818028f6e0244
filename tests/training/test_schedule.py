"""The learning rate: closed form, bounds, and that it is a function of the step alone."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmssl.training.schedule import ScheduleSettings, multiplier


def test_closed_form() -> None:
    settings = ScheduleSettings(warmup=0.1, final=0.2)
    values = [multiplier(step, 100, settings) for step in range(101)]
    assert values[:10] == pytest.approx([(k + 1) / 11 for k in range(10)])
    assert values[10] == 1.0
    assert values[55] == pytest.approx(0.2 + 0.8 * 0.5)  # half way down
    assert values[100] == pytest.approx(0.2)
    assert values[32] == pytest.approx(0.2 + 0.4 * (1 + math.cos(math.pi * 22 / 90)))


def test_constant_stays_at_its_peak() -> None:
    settings = ScheduleSettings(name="constant", warmup=0.5)
    assert [multiplier(step, 8, settings) for step in range(8)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1])


@given(st.integers(1, 5000), st.floats(0, 0.99), st.floats(0, 1))
def test_rises_then_falls_within_bounds(total: int, warmup: float, final: float) -> None:
    settings = ScheduleSettings(warmup=warmup, final=final)
    values = [multiplier(step, total, settings) for step in range(0, total, max(1, total // 50))]
    assert all(0 < value <= 1 for value in values)
    top = values.index(max(values))
    assert values[: top + 1] == sorted(values[: top + 1])
    assert values[top:] == sorted(values[top:], reverse=True)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"warmup is a share of all steps in \[0, 1\), got 500"):
        ScheduleSettings(warmup=500)
    with pytest.raises(ValueError, match=r"final is a multiple of the rate in \[0, 1\], got 2"):
        ScheduleSettings(final=2)
