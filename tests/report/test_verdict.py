"""The statements at the head of the page: what holds, what does not, what was not measured."""

from __future__ import annotations

import dataclasses

import pytest

from mmssl.report import Bars, Card, Localization, LocalizationRow, PretextRow, ReportContent
from mmssl.report.verdict import at_floor, clock, far_above_floor, points, summary_cards
from tests.report.examples import full

LOCALIZATION = (
    LocalizationRow("model", 0.70), LocalizationRow("centre_prior", 0.10),
    LocalizationRow("motion_saliency", 0.50), LocalizationRow("shuffled_sound", 0.40),
)  # fmt: skip


def card(content: ReportContent, title: str) -> Card:
    return next(c for c in summary_cards(content) if c.title == title)


def test_the_demo_s_statements():
    cards = {c.title: c for c in summary_cards(full())}
    assert {t: c.holds for t, c in cards.items()} == {
        "Action, linear probe": True, "Points at the sound": True, "Listens: sound shuffled": True,
        "Pretext tasks learned": False, "At the floor when ablated": True, "Time used": None,
    }  # fmt: skip
    assert cards["Action, linear probe"].value == "86.1 %"
    assert "+32.9 points over random init (95 % interval +29.0 to +37.1)" in cards["Action, linear probe"].evidence
    assert "Least: subtitle_matching" in cards["Pretext tasks learned"].evidence


@pytest.mark.parametrize(
    ("changed", "where", "listens"),
    [
        ({}, True, True),
        ({"model": 0.59}, False, True),  # below 60 %
        ({"centre_prior": 0.46}, False, True),  # not 25 points above
        ({"motion_saliency": 0.56}, False, True),  # not 15 points above
        ({"shuffled_sound": 0.56}, True, False),  # the sound hardly matters
        ({"motion_saliency": None}, None, True),
        ({"shuffled_sound": None}, True, None),
    ],
)
def test_localization_is_judged_against_every_baseline(changed, where, listens):
    rows = tuple(dataclasses.replace(r, peak_in_box=changed.get(r.name, r.peak_in_box)) for r in LOCALIZATION)
    content = ReportContent("t", bars=Bars(), localization=Localization(rows))
    assert card(content, "Points at the sound").holds is where
    assert card(content, "Listens: sound shuffled").holds is listens


def test_without_bars_numbers_are_told_and_not_judged():
    content = dataclasses.replace(full(), bars=None)
    assert card(content, "Action, linear probe").holds is None
    assert card(content, "Points at the sound").holds is None
    assert "asked" not in card(content, "Points at the sound").evidence


def test_given_cards_stand_instead():
    given = (Card("a", "1", "b", True),)
    assert summary_cards(dataclasses.replace(full(), cards=given)) == list(given)


def test_half_of_the_way_is_far_above_the_floor_in_both_directions():
    assert far_above_floor(PretextRow("t", "accuracy", 0.75, 0.5, 1.0))
    assert not far_above_floor(PretextRow("t", "accuracy", 0.74, 0.5, 1.0))
    assert far_above_floor(PretextRow("t", "error", 4.0, 10.0, 0.0, higher_is_better=False))
    assert not far_above_floor(PretextRow("t", "error", 6.0, 10.0, 0.0, higher_is_better=False))


def test_at_the_floor_is_the_binomial_interval_or_a_twentieth_of_the_way():
    share = PretextRow("t", "accuracy", 0.9, 0.25, 1.0, samples=500)
    edge = 0.25 + 2.576 * (0.25 * 0.75 / 500) ** 0.5  # normal approximation, here good to two hits of 500
    assert at_floor(share) is None
    assert at_floor(dataclasses.replace(share, ablated=edge - 0.004)) is True
    assert at_floor(dataclasses.replace(share, ablated=edge + 0.006)) is False
    assert at_floor(dataclasses.replace(share, ablated=0.25, samples=499)) is None
    assert at_floor(dataclasses.replace(share, ablated=0.1)) is True
    error = PretextRow("t", "error", 1.0, 10.0, 0.0, higher_is_better=False)
    assert at_floor(dataclasses.replace(error, ablated=9.6)) is True
    assert at_floor(dataclasses.replace(error, ablated=9.4)) is False


def test_an_ablated_score_is_held_against_its_own_floor():
    """Where the floor depends on what the model says, one answer to all inputs has a higher one."""
    share = PretextRow("t", "accuracy", 0.9, 0.25, 1.0, samples=500, ablated=0.4)
    assert at_floor(share) is False
    assert at_floor(dataclasses.replace(share, ablated_floor=0.4)) is True
    assert at_floor(dataclasses.replace(share, ablated_floor=0.3)) is False
    error = PretextRow("t", "error", 1.0, 10.0, 0.0, higher_is_better=False, ablated=8.0)
    assert at_floor(error) is False
    assert at_floor(dataclasses.replace(error, ablated_floor=8.2)) is True


def test_tasks_with_too_few_samples_are_told_and_not_judged():
    rows = (PretextRow("a", "accuracy", 0.9, 0.5, 1.0, 0.5, 500), PretextRow("b", "accuracy", 0.9, 0.5, 1.0, 0.8, 80))
    found = card(ReportContent("t", pretext=rows), "At the floor when ablated")
    assert (found.value, found.holds) == ("1 of 1", True)
    assert "Too few samples to tell: b (80)." in found.evidence


def test_a_task_that_cheats_without_its_input_is_named():
    rows = (PretextRow("a", "accuracy", 0.9, 0.5, 1.0, 0.5, 500), PretextRow("b", "accuracy", 0.9, 0.5, 1.0, 0.8, 500))
    found = card(ReportContent("t", pretext=rows), "At the floor when ablated")
    assert (found.value, found.holds) == ("1 of 2", False)
    assert "but not b." in found.evidence


def test_seconds_and_points_are_written_for_people():
    assert [clock(s) for s in (0.42, 9.97, 59.4, 59.6, 187, 3599.7, 7500)] == [
        "0.4 s", "10 s", "59 s", "1 min 00 s", "3 min 07 s", "1 h 00 min", "2 h 05 min",
    ]  # fmt: skip
    assert points(-0.1234) == "−12.3 points"
