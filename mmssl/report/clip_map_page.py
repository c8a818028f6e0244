"""The page of a map of clips: thumbnails at their places, coloured by label; for mouse, touch and keyboard."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmssl.evaluation.clip_map import ClipMap
from mmssl.report.axes import number_text
from mmssl.report.clip_map_script import CSS, SCRIPT
from mmssl.report.markup import Html, element, join
from mmssl.report.media import jpeg
from mmssl.report.shell import footer, section, whole_page
from mmssl.report.verdict import points

TILE = 96  # pixels of a thumbnail's longer side
SIDE = 10  # thumbnails a row of a sheet
COLOURS, EDGES = 8, ("solid", "dashed", "double")


def clip_map_page(made: ClipMap) -> Html:
    """Return the whole page; it shows the map without its script too, which adds zoom, search and neighbours."""
    title = f"Map of clips: encoder '{made.about['encoder']}'"
    looks = label_looks(made.labels)
    sheets, (height, width) = thumbnail_sheets(made.pictures)
    clips = [_clip(made, n, looks) for n in range(len(made.keys))]
    rules = "".join(
        f".s{n}{{background-image:url(data:image/jpeg;base64,{base64.b64encode(sheet).decode('ascii')})}}"
        for n, sheet in enumerate(sheets)
    )
    plane = element("div", *clips, id="plane")
    shape = f":root{{--shape:{width}/{height}}}.tile{{background-size:{100 * SIDE}% {100 * SIDE}%}}"
    header = element(
        "header",
        element("h1", title),
        element(
            "p", f"{len(made.keys)} clips of {made.about['shards']}, drawn by seed {made.about['seed']}", class_="lead"
        ),
        *(element("p", sentence) for sentence in agreement_sentences(made)),
    )
    tools = element(
        "div",
        element("label", "Search key or label ", element("input", id="search", type="search", autocomplete="off")),
        *(
            element("button", sign, type="button", id=name, aria_label=what)
            for name, sign, what in (("in", "+", "Zoom in"), ("out", "−", "Zoom out"), ("whole", "whole", "Show all"))
        ),
        element("span", "", id="found", role="status"),
        class_="tools",
    )
    buttons = [_label_button(label, looks, made.labels) for label in looks]
    legend = element("div", *buttons, class_="legend", role="group", aria_label="Labels; press to show some alone")
    viewport = element(
        "div", plane, id="map", role="group",
        aria_label="Clips at their places. Arrow keys go to the next clip in that direction, plus and minus zoom.",
    )  # fmt: skip
    panel = element(
        "aside",
        element("div", "", id="big", class_="tile"),
        element("p", "Point at a clip, or press Tab and the arrow keys.", id="key", class_="key"),
        element("p", "", id="label"),
        element("h3", "Nearest clips of other sources", id="near-title", hidden=True),
        element("ul", "", id="near"),
        id="panel",
        aria_live="polite",
    )
    return whole_page(
        title,
        element("a", "Skip to the map", href="#map-section", class_="skip"),
        header,
        element(
            "main",
            element("section", tools, legend, element("div", viewport, panel, class_="both"), id="map-section"),
            section("how", "How to read this", *(element("p", text) for text in _how(made))),
        ),
        footer(),
        script=SCRIPT,
        css=shape + CSS + rules,
    )


def label_looks(labels: Sequence[str | None]) -> dict[str | None, str]:
    """Classes of each label's edge, the most frequent first: eight colours, then the same dashed and doubled."""
    counts = Counter(labels)
    names = sorted((name for name in counts if name is not None), key=lambda name: (-counts[name], name))
    looks: dict[str | None, str] = {}
    for n, name in enumerate(names):
        told = n < COLOURS * len(EDGES)
        looks[name] = f"c{n % COLOURS} {EDGES[n // COLOURS]}" if told else "other"
    if None in counts:
        looks[None] = "other"
    return looks


def thumbnail_sheets(pictures: np.ndarray) -> tuple[list[bytes], tuple[int, int]]:
    """JPEG sheets of 10 x 10 thumbnails each, and the (height, width) of a thumbnail.

    Args:
        pictures: uint8 [N, H, W, 3].
    """
    from PIL import Image

    _, height, width, _ = pictures.shape
    scale = min(1.0, TILE / max(height, width))
    height, width = max(1, round(height * scale)), max(1, round(width * scale))
    sheets = []
    for first in range(0, len(pictures), SIDE * SIDE):
        sheet = np.zeros((SIDE * height, SIDE * width, 3), dtype=np.uint8)
        for n, picture in enumerate(pictures[first : first + SIDE * SIDE]):
            small = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))
            y, x = n // SIDE * height, n % SIDE * width
            sheet[y : y + height, x : x + width] = small
        sheets.append(jpeg(sheet, quality=80))
    return sheets, (height, width)


def _clip(made: ClipMap, n: int, looks: Mapping[str | None, str]) -> Html:
    label, (x, y) = made.labels[n], made.places[n]
    tile = n % (SIDE * SIDE)
    step = 100 / (SIDE - 1)
    near = ",".join(str(k) for k in made.neighbours[n] if k >= 0)
    close = ",".join(f"{s:.2f}" for s, k in zip(made.similarity[n], made.neighbours[n], strict=True) if k >= 0)
    said = f"{made.keys[n]}, {label or 'no label'}"
    picture = f"{tile % SIDE * step:.3f}% {tile // SIDE * step:.3f}%"
    style = f"left:{100 * x:.2f}%;top:{100 * y:.2f}%;background-position:{picture}"
    return element(
        "button", type="button", class_=f"clip tile s{n // (SIDE * SIDE)} {looks[label]}", style=style, title=said,
        aria_label=said, data_key=made.keys[n], data_label=label, data_near=near, data_close=close,
        tabindex=0 if n == 0 else -1,
    )  # fmt: skip


def _label_button(label: str | None, looks: Mapping[str | None, str], labels: Sequence[str | None]) -> Html:
    count = sum(one == label for one in labels)
    swatch = element("i", "", class_=f"swatch {looks[label]}")
    words = join([element("bdi", label if label is not None else "no label"), f" {count}"])
    return element("button", swatch, words, type="button", aria_pressed="false", data_label=label)


def agreement_sentences(made: ClipMap) -> list[str]:
    """How many of the nearest clips have the clip's label, beside random weights and chance."""
    found: Mapping[str, Any] = made.agreement()
    shares = found["agreement"]
    if not shares:
        return ["No two clips of different sources have labels: nothing can be said of the neighbours."]

    def told(name: str) -> str:
        one = shares[name]
        interval = f" [{100 * one['low']:.1f}, {100 * one['high']:.1f}]" if "low" in one else ""
        return f"{number_text(one['mean'], True)}{interval}"

    gap = shares["difference"]
    between = f" [{points(gap['low']).split()[0]}, {points(gap['high']).split()[0]}]" if "low" in gap else ""
    return [
        f"Of the {found['neighbours']} nearest clips of other sources, {told('pretrained')} have the clip's label; "
        f"with random weights ({made.about['seeds']} draws) {told('random_init')}, by chance "
        f"{number_text(shares['chance'], True)} "
        f"({found['judged']} clips, 95 % intervals, {made.about['protocol']}).",
        f"Pretrained minus random init: {points(gap['mean'])}{between}: {gap['verdict']}.",
    ]


def _how(made: ClipMap) -> list[str]:
    said = [
        f"Places are {made.about['map']} of the frozen features, over {made.about['seconds']} s at "
        f"{made.about['rate']} frames a second around each clip's middle; the picture is the middle frame.",
        "The nearest clips, and their agreement, are found in the features themselves, not on the map, by the cosine "
        "after the mean is taken off. Clips of one source are never each other's neighbours.",
    ]
    if made.about["map"].startswith("t-SNE"):
        said.append(
            "t-SNE keeps neighbours together. Distances between groups, their sizes and their order say nothing, and "
            "it can show groups in features that have none."
        )
    if made.about["left_out"]:
        key, cause = next(iter(made.about["left_out"].items()))
        said.append(f"{len(made.about['left_out'])} clips left out, for instance '{key}': {cause}.")
    return said
