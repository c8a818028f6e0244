"""A page that plays clips with the heat of their sound maps drawn over them, from maps that lie in the page.

The clips lie beside the page (`media/`); everything else is in it, and it works from a file without a network. The
heat is drawn by the browser, so that its opacity and threshold can be changed while the clip plays.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from mmssl.report.markup import Html, clean, element, join
from mmssl.report.style import CSS
from mmssl.report.viewed import ViewedClip, fitting
from mmssl.report.viewer_style import VIEWER_CSS

SCRIPT = resources.files("mmssl.report").joinpath("viewer.js").read_text(encoding="utf-8")
KEYS = (
    ("space or k", "play, pause"),
    ("← →", "one frame back, on"),
    ("shift ← →", "one second"),
    ("home, end", "to the beginning, to the end"),
    ("[ ]", "opacity of the heat"),
    ("- =", "threshold: show only heat above it"),
    ("o", "heat on, off"),
    ("p", "ring at the peak on, off"),
    ("b", "true boxes on, off, where they are known"),
    ("m", "sound on, off"),
    ("↑ ↓", "clip before, clip after"),
    ("h or ?", "this help"),
)


def write_viewer(
    folder: Path, clips: Sequence[ViewedClip], colours: np.ndarray, title: str, subtitle: str = ""
) -> Path:
    """Write `folder/index.html` and return its path; the file appears whole or not at all.

    Args:
        folder: an existing folder, in which the clips lie.
        clips: at least one.
        colours: uint8 [256, 3], of the heat.
        title: of the page.
        subtitle: what made the maps.
    """
    text = viewer_page(clips, colours, title, subtitle)
    path, part = folder / "index.html", folder / f".index.html.{os.getpid()}"
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def viewer_page(clips: Sequence[ViewedClip], colours: np.ndarray, title: str, subtitle: str = "") -> Html:
    """Return the page as markup; the arguments are those of `write_viewer`.

    Where the maps of all clips are more than a page holds, those with the most maps lose some, and say so.
    """
    if not clips:
        raise ValueError("a page needs at least one clip")
    clips = fitting(clips)
    data = {"colours": _packed(colours.astype(np.uint8)), "clips": [_clip_data(clip) for clip in clips]}
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode("ascii")
    policy = (
        "default-src 'none'; img-src data:; media-src 'self' file: blob:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Html(CSS + VIEWER_CSS)),
    )
    listed = None if len(clips) == 1 else _list(clips)
    body = element(
        "body",
        element("a", "Skip to the player", href="#player", class_="skip"),
        element("header", element("h1", title), element("p", subtitle, class_="lead") if subtitle else None),
        element(
            "noscript",
            element("p", "The heat is drawn by a script; allow scripts, or look at the mp4 beside this page."),
        ),
        element("main", _player(), listed, class_="viewer" if listed is None else "viewer several"),
        _help(),
        element(
            "footer",
            element(
                "p",
                join(["Written by ", element("code", "mmssl"), ". Nothing is loaded but the clips beside this page."]),
            ),
        ),
        # inside a script element nothing is markup but its end, which the escapes of _raw make impossible
        element("script", _raw(data), type="application/json", id="data"),
        element("script", Html(SCRIPT)),
    )
    return Html("<!doctype html>\n" + element("html", head, body, lang="en") + "\n")


def _raw(data: Any) -> Html:
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Html(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _packed(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def _floats(array: np.ndarray) -> str:
    return _packed(np.asarray(array).astype("<f4"))


def _url(path: str) -> str:
    return quote(path, safe="/")


def _clip_data(clip: ViewedClip) -> dict[str, Any]:
    best = int(np.argmax(clip.confidence))
    x, y = np.asarray(clip.peaks, dtype=np.float64).T
    return {
        "key": clean(clip.key),
        "about": clean(clip.about),
        "notes": [clean(note) for note in clip.notes],
        "media": _url(clip.media),
        "height": clip.size[0],
        "width": clip.size[1],
        "duration": round(float(clip.duration), 4),
        "times": _floats(clip.times),
        "shape": list(clip.heat.shape[1:]),
        "heat": _packed(clip.heat),
        "range": [float(v) for v in clip.range],
        "area": [round(float(v), 5) for v in clip.area],
        "confidence": _floats(clip.confidence),
        "peaks": _floats(clip.peaks),
        "frames": _floats(clip.frames),
        "wave": _packed(clip.wave),
        "boxes": [
            [round(float(a), 4), round(float(b), 4), [[round(float(v), 5) for v in box] for box in boxes]]
            for a, b, boxes in clip.boxes
        ],
        "links": {name: _url(path) for name, path in clip.links.items()},
        "said": {
            "confidence": f"from {clip.confidence.min():.3g} to {clip.confidence.max():.3g}, "
            f"highest at {float(clip.times[best]):.2f} s",
            "track": f"x from {x.min():.2f} to {x.max():.2f}, y from {y.min():.2f} to {y.max():.2f}; "
            f"at the highest confidence x {x[best]:.2f}, y {y[best]:.2f}",
        },
    }


def _player() -> Html:
    stage = element(
        "div",
        element("video", id="video", preload="auto", playsinline=True, aria_label="The clip"),
        element("canvas", id="heat", aria_hidden="true"),
        id="stage",
    )
    speeds = [element("option", f"{v:g} ×", value=f"{v:g}", selected=v == 1) for v in (0.1, 0.25, 0.5, 1.0, 2.0)]
    transport = element(
        "div",
        _button("Play", "play"),
        _button("◂ frame", "back", aria_label="One frame back"),
        _button("frame ▸", "on", aria_label="One frame on"),
        _button("Mute", "mute", aria_pressed="false"),
        element("label", "speed ", element("select", *speeds, id="speed")),
        _button("Keys (h)", "ask"),
        class_="controls",
    )
    shown = element(
        "div",
        *(_button(text, f"show-{name}", aria_pressed="true") for name, text in SHOWN),
        _slider("opacity", "opacity", 75),
        _slider("threshold", "heat above", 0),
        class_="controls",
    )
    links = [
        element("li", element("a", text, id=f"link-{name}", download=name == "npz")) for name, text in LINKS.items()
    ]
    return element(
        "section",
        element("h2", id="name"),
        element("p", id="about", class_="note"),
        element("ul", id="notes", class_="note"),
        stage,
        transport,
        shown,
        element("p", element("span", id="time"), element("span", id="now"), class_="readout"),
        _chart("wave", "Sound", None, 56, slider=True),
        _chart("sure", "Confidence of the map", element("span", id="sure-range"), 72),
        _chart("track", "Place of the peak", _legend(), 88),
        element("canvas", id="axis", aria_hidden="true"),
        element("p", id="said", role="status", aria_live="polite", class_="note"),
        element("ul", *links, class_="links"),
        id="player",
        aria_labelledby="name",
        tabindex="-1",
    )


SHOWN = (("heat", "Heat"), ("peak", "Peak"), ("boxes", "True boxes"))
LINKS = {"npz": "maps as npz", "mp4": "film with the heat drawn in", "png": "picture of the middle"}


def _legend() -> Html:
    return element(
        "span",
        element("span", "x", class_="x"),
        " from left (top of the plot) to right, ",
        element("span", "y", class_="y"),
        " from top to bottom",
    )


def _button(text: str, name: str, **attributes: object) -> Html:
    return element("button", text, type="button", id=name, **attributes)


def _slider(name: str, text: str, value: int) -> Html:
    slider = element("input", type="range", id=name, min=0, max=100, step=1, value=value)
    return element("label", text, " ", slider, " ", element("output", f"{value} %", id=f"{name}-told", for_=name))


def _chart(name: str, title: str, note: Html | None, height: int, slider: bool = False) -> Html:
    role: dict[str, object] = {"role": "img", "aria_label": title}
    if slider:
        role = {"role": "slider", "aria_label": "Play position", "tabindex": 0, "aria_valuemin": 0, "aria_valuenow": 0}
    told = element("p", element("b", title), " " if note else None, note, class_="chart-name")
    return element("div", told, element("canvas", id=name, style=f"height:{height}px", **role), class_="time-chart")


def _list(clips: Sequence[ViewedClip]) -> Html:
    items = []
    for number, clip in enumerate(clips):
        mark = None
        if clip.hit is not None:
            word = "peak in box" if clip.hit else "peak outside"
            mark = element("span", word, class_="mark good" if clip.hit else "mark bad")
        label = element("span", clip.about, class_="note") if clip.about else None
        inside = [element("bdi", clip.key), label, mark]
        items.append(element("li", element("button", *inside, type="button", data_clip=number)))
    return element(
        "section",
        element("h2", f"{len(clips)} clips", id="clips-title"),
        element("ol", *items),
        id="clips",
        aria_labelledby="clips-title",
    )


def _help() -> Html:
    rows = [element("tr", element("th", element("kbd", keys), scope="row"), element("td", what)) for keys, what in KEYS]
    return element(
        "dialog",
        element("h2", "Keys", id="help-title"),
        element("table", element("tbody", *rows)),
        element("p", "A click on a plot goes to that time. The dashed line is the part that the model sees."),
        _button("Close", "close"),
        id="help",
        aria_labelledby="help-title",
    )
