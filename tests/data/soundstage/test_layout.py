"""The layouts of preset demo: places, sizes and motions say neither who sounds nor what is done."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.stats import chi2_contingency, chisquare, ks_2samp
from sklearn.ensemble import RandomForestClassifier

from mmssl.data.soundstage import ACTIONS, PRESETS, Layout, draw_layout, sparse_truth
from mmssl.data.soundstage.camera import HEIGHT, resting_rotation
from mmssl.data.soundstage.layout import SHAPES, boxes, track, visible_boxes

DEMO = PRESETS["demo"]
COUNT = 800


@pytest.fixture(scope="module")
def layouts() -> list[Layout]:
    return [draw_layout(DEMO, 3, "train", index) for index in range(COUNT)]


def seen(layout: Layout, number: int) -> np.ndarray:
    body = layout.bodies[number]
    whole = boxes(body, track(body, DEMO.frame_times(extra=1)), layout.camera)
    return visible_boxes(whole, DEMO.size)[: DEMO.frames]


def area(box: np.ndarray) -> np.ndarray:
    return (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])


def sounding_of(layout: Layout) -> int:
    assert layout.sounding is not None
    return layout.sounding


@pytest.fixture(scope="module")
def sounding_boxes(layouts: list[Layout]) -> list[np.ndarray]:
    return [seen(layout, sounding_of(layout)) for layout in layouts[:500]]


def test_every_clip_has_three_to_five_bodies_of_different_materials(layouts: list[Layout]) -> None:
    assert {len(layout.bodies) for layout in layouts} == {3, 4, 5}
    for layout in layouts:
        assert len({body.material for body in layout.bodies}) == len(layout.bodies)
    assert len(DEMO.materials) >= 8
    assert {body.material for layout in layouts for body in layout.bodies} == set(DEMO.materials)


def test_sounding_box_covers_2_to_6_percent_of_the_picture(sounding_boxes: list[np.ndarray]) -> None:
    means = np.array([np.nanmean(area(box)) for box in sounding_boxes])
    assert means.min() >= 0.02
    assert means.max() <= 0.06


def test_sounding_box_is_in_the_picture_in_nearly_every_frame(sounding_boxes: list[np.ndarray]) -> None:
    assert np.mean([np.isfinite(box[:, 0]).mean() for box in sounding_boxes]) > 0.97


def test_centre_of_the_picture_is_rarely_in_the_sounding_box(sounding_boxes: list[np.ndarray]) -> None:
    hits = [(box[:, 0] <= 0.5) & (box[:, 2] >= 0.5) & (box[:, 1] <= 0.5) & (box[:, 3] >= 0.5) for box in sounding_boxes]
    assert np.mean(hits) < 0.12


def test_places_are_spread_evenly_over_the_picture(sounding_boxes: list[np.ndarray]) -> None:
    centres = np.array([np.nanmean((box[:, :2] + box[:, 2:]) / 2, axis=0) for box in sounding_boxes])
    inside = (centres > 0.18) & (centres < 0.82)
    for axis in (0, 1):
        counts, _ = np.histogram(centres[inside[:, axis], axis], bins=6, range=(0.18, 0.82))
        assert chisquare(counts).pvalue > 1e-3, counts


def _table(layouts: list[Layout], first: list[str], second: list[str]) -> np.ndarray:
    rows, columns = sorted(set(first)), sorted(set(second))
    pairs = Counter(zip(first, second, strict=True))
    return np.array([[pairs[row, column] for column in columns] for row in rows])


@pytest.mark.parametrize("other", ["action", "shape", "place"])
def test_material_of_the_sounding_body_is_independent(layouts: list[Layout], other: str) -> None:
    bodies = [layout.bodies[sounding_of(layout)] for layout in layouts]
    views = {
        "action": lambda: [layout.action for layout in layouts],
        "shape": lambda: [body.shape for body in bodies],
        "place": lambda: [
            f"{body.place[0] > 0}{body.place[1] > np.median([other.place[1] for other in bodies])}" for body in bodies
        ],
    }
    table = _table(layouts, [body.material for body in bodies], views[other]())
    assert chi2_contingency(table).pvalue > 1e-3


def test_colour_hints_at_the_material_but_does_not_tell_it(layouts: list[Layout]) -> None:
    """Even the two colours as they were drawn, before light, shadow and codec, leave the pattern something to tell."""
    bodies = [body for layout in layouts for body in layout.bodies]
    colours = np.array([(*body.light, *body.dark) for body in bodies])
    materials = np.array([body.material for body in bodies])
    half = len(bodies) // 2
    forest = RandomForestClassifier(200, random_state=0, n_jobs=1).fit(colours[:half], materials[:half])
    assert 3 / len(DEMO.materials) < forest.score(colours[half:], materials[half:]) < 0.8


def test_actions_and_shapes_are_equally_frequent(layouts: list[Layout]) -> None:
    actions = Counter(layout.action for layout in layouts)
    assert chisquare([actions[name] for name in ACTIONS]).pvalue > 1e-3
    shapes = Counter(layout.bodies[sounding_of(layout)].shape for layout in layouts)
    assert chisquare([shapes[name] for name in SHAPES]).pvalue > 1e-3


def _speeds(layout: Layout, number: int) -> float:
    """Mean speed of the corners of the box in pictures a second."""
    body = layout.bodies[number]
    whole = boxes(body, track(body, DEMO.frame_times(extra=1)), layout.camera) / DEMO.size
    return float(np.abs(np.diff(whole, axis=0)).mean() * float(DEMO.rate))


def test_a_silent_body_moves_as_much_as_the_sounding_one(layouts: list[Layout]) -> None:
    own, best, ratios = [], [], []
    for layout in layouts[:600]:
        sounding = sounding_of(layout)
        silent = [n for n, body in enumerate(layout.bodies) if n != sounding and body.motion.action == layout.action]
        assert silent, "no silent body moves"
        own.append(_speeds(layout, sounding))
        others = [_speeds(layout, number) for number in silent]
        best.append(max(others))
        ratios.append(np.log(others[0] / own[-1]))
    assert np.mean(np.array(best) >= 0.8 * np.array(own)) > 0.8
    assert abs(np.mean(ratios)) < 4 * np.std(ratios) / np.sqrt(len(ratios)), (
        "silent bodies move unlike the sounding one"
    )


@pytest.mark.parametrize("trait", ["area", "x", "y", "depth", "period", "reach"])
def test_sounding_and_silent_movers_have_the_same_distribution(layouts: list[Layout], trait: str) -> None:
    values: dict[bool, list[float]] = {True: [], False: []}
    for layout in layouts[:500]:
        for number, body in enumerate(layout.bodies):
            if body.motion.action == "rest":
                continue
            box = seen(layout, number) if trait in ("area", "x", "y") else np.zeros((1, 4))
            value = {
                "area": lambda box=box: np.nanmean(area(box)),
                "x": lambda box=box: np.nanmean(box[:, [0, 2]]),
                "y": lambda box=box: np.nanmean(box[:, [1, 3]]),
                "depth": lambda body=body: body.depth,
                "period": lambda body=body: body.motion.period,
                "reach": lambda body=body: body.motion.reach,
            }[trait]()
            values[number == layout.sounding].append(float(value))
    assert ks_2samp(values[True], values[False]).pvalue > 1e-3


@pytest.mark.parametrize("trait", ["x", "y", "area", "count", "turn"])
def test_one_frame_traits_are_alike_for_all_actions(layouts: list[Layout], trait: str) -> None:
    by_action: dict[str, list[float]] = {name: [] for name in ACTIONS}
    for layout in layouts:
        number = sounding_of(layout)
        box = seen(layout, number) if trait in ("x", "y", "area") else np.zeros((1, 4))
        body = layout.bodies[number]
        value = {
            "x": lambda box=box: np.nanmean(box[:, [0, 2]]),
            "y": lambda box=box: np.nanmean(box[:, [1, 3]]),
            "area": lambda box=box: np.nanmean(area(box)),
            "count": lambda layout=layout: len(layout.bodies),
            "turn": lambda body=body: body.turn,
        }[trait]()
        by_action[layout.action].append(float(value))
    for name in ACTIONS:
        rest = [value for other in ACTIONS if other != name for value in by_action[other]]
        assert ks_2samp(by_action[name], rest).pvalue > 1e-4, name


def test_splits_seeds_and_indices_give_other_scenes() -> None:
    looks = [
        draw_layout(DEMO, seed, split, index).bodies[0].place.tobytes()
        for seed in (0, 1)
        for split in ("train", "val", "test")
        for index in range(3)
    ]
    assert len(set(looks)) == len(looks)


@pytest.mark.parametrize(("preset", "least", "most"), [("demo", 0.0, 0.04), ("moving_camera", 0.06, 0.25)])
def test_how_far_the_picture_moves_in_a_second(preset: str, least: float, most: float) -> None:
    chosen = PRESETS[preset]
    far = resting_rotation() @ np.array([0.0, 0.0, 6.0]) + np.array([0.0, HEIGHT, 0.0])  # in the middle of the picture
    moves = []
    for index in range(60):
        camera = draw_layout(chosen, 0, "train", index).camera
        seen = camera.project(np.tile(far, (len(camera.position), 1, 1)))[:, 0, :2] / chosen.size
        moves.append(np.linalg.norm(seen[12:] - seen[:-12], axis=1).mean())
    assert least < np.mean(moves) < most


def test_hard_preset_has_its_shares_of_silent_and_off_screen_clips() -> None:
    hard = PRESETS["hard"]
    drawn = [draw_layout(hard, 0, "train", index) for index in range(300)]
    silent = np.mean([layout.sounding is None for layout in drawn])
    off_screen = np.mean([layout.off_screen for layout in drawn])
    assert abs(silent - hard.silent_share) < 0.06
    assert abs(off_screen - hard.off_screen_share * (1 - hard.silent_share)) < 0.06
    for layout in drawn:
        truth = sparse_truth(layout)
        if layout.sounding is None:
            assert truth["material"] is None
            assert truth["boxes"] is None
            assert len(truth["silent_boxes"]) == len(layout.bodies)
        elif layout.off_screen:
            assert truth["onscreen"] is False
            assert not np.isfinite(
                visible_boxes(
                    boxes(
                        layout.bodies[layout.sounding],
                        track(layout.bodies[layout.sounding], hard.frame_times(extra=1)),
                        layout.camera,
                    ),
                    hard.size,
                )
            ).any()
