"""PNG figures of a report for a README and for documents: curves, overlays with hit or miss, nearest clips.

The same content as the page, drawn with matplotlib on canvases of their own (no global figure state). Text is
set without mathtext, so that a dollar sign in a key stays one.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmssl.report.axes import number_text
from mmssl.report.content import NeighbourRow, Overlay, PretextRow, ReportContent, Strip
from mmssl.report.history import Row, score_curve, tasks
from mmssl.report.markup import clean
from mmssl.report.media import strip

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b77d00", "#56b4e9", "#6b5b95", "#444b54")
GOOD, BAD, NEUTRAL, INK = "#009e73", "#d55e00", "#8a929c", "#1a1d21"


def write_pictures(folder: Path, content: ReportContent) -> list[Path]:
    """Write `curves.png`, `localization.png` and `neighbours.png`, those the content has data for.

    Args:
        folder: Made if missing.
        content: The content of the report.

    Returns:
        The files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    pictures = {
        "curves.png": curves_picture(content.metrics, content.pretext),
        "localization.png": gallery_picture(content.overlays),
        "neighbours.png": neighbours_picture(content.neighbours),
    }
    for name, data in pictures.items():
        if data is not None:
            path = folder / name
            path.write_bytes(data)
            written.append(path)
    return written


def curves_picture(rows: Sequence[Row], pretext: Sequence[PretextRow] = ()) -> bytes | None:
    """Return held-out scores of all tasks over steps, each with its floor dashed, as PNG; None without scores."""
    found = [(task, score_curve(rows, task)) for task in tasks(rows)]
    scored = [(task, s) for task, s in found if s is not None]
    if not scored:
        return None
    shares = {r.task: r.is_share for r in pretext}
    columns = min(len(scored), 5)
    lines = -(-len(scored) // columns)
    figure = _figure(2.5 * columns, 2.35 * lines)
    for i, (task, s) in enumerate(scored):
        axes = figure.add_subplot(lines, columns, i + 1)
        percent = shares.get(task, s.ceiling == 1.0)
        unit = 100.0 if percent else 1.0
        axes.plot(s.curve.steps, unit * s.curve.values, color=PALETTE[i % 8], linewidth=1.8, marker="o", markersize=2.5)
        for level in (s.floor, s.ceiling):
            if level is not None:
                axes.axhline(unit * level, color=NEUTRAL, linewidth=1, linestyle=(0, (4, 3)))
        if s.floor is not None:
            axes.annotate(
                "floor", (1, unit * s.floor), xycoords=("axes fraction", "data"), xytext=(-2, 1),
                textcoords="offset points", fontsize=7.5, color="#5a626c", ha="right", va="bottom",
            )  # fmt: skip
        _title(axes, f"{task}  {number_text(float(s.curve.values[-1]), percent)}", PALETTE[i % 8])
        axes.set_xlabel("step", fontsize=8)
        axes.set_ylabel(clean(s.score_name) + (" (%)" if percent else ""), fontsize=8, parse_math=False)
        axes.tick_params(labelsize=7.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(y=0.08)
        if percent:
            axes.set_ylim(0, 104)
    return _png(figure)


def gallery_picture(overlays: Sequence[Overlay], most: int = 12, columns: int = 6) -> bytes | None:
    """Return the first overlays as a sheet, framed green for a hit and orange for a miss, as PNG; None if empty."""
    shown = overlays[:most]
    if not shown:
        return None
    columns = min(columns, len(shown))
    lines = -(-len(shown) // columns)
    figure = _figure(1.75 * columns, 2.05 * lines)
    for i, overlay in enumerate(shown):
        axes = figure.add_subplot(lines, columns, i + 1)
        _show(axes, _pixels(overlay.poster), {None: NEUTRAL, True: GOOD, False: BAD}[overlay.hit])
        state = {None: "", True: " · hit", False: " · miss"}[overlay.hit]
        _title(axes, (", ".join(x for x in (overlay.material, overlay.action) if x) or overlay.key) + state, INK, 7.5)
    return _png(figure)


def neighbours_picture(rows: Sequence[NeighbourRow], most: int = 5) -> bytes | None:
    """Return queries (left) and their nearest clips, framed by right or wrong label, as PNG; None if empty."""
    shown = rows[:most]
    if not shown:
        return None
    columns = 1 + max(len(row.neighbours) for row in shown)
    height = max(0.55, 2.05 / max(1, len(shown[0].query.frames)))
    figure = _figure(2.05 * columns, (height + 0.3) * len(shown))
    for i, row in enumerate(shown):
        for j, clip in enumerate((row.query, *row.neighbours)):
            axes = figure.add_subplot(len(shown), columns, i * columns + j + 1)
            colour = INK if j == 0 else _label_colour(row.query, clip)
            _show(axes, strip(clip.frames), colour)
            near = f" {clip.similarity:.2f}" if clip.similarity is not None else ""
            _title(axes, ("query: " if j == 0 else "") + (clip.label or clip.key) + near, INK, 7.5)
    return _png(figure)


def _label_colour(query: Strip, clip: Strip) -> str:
    if query.label is None or clip.label is None:
        return NEUTRAL
    return GOOD if query.label == clip.label else BAD


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _title(axes: Any, text: str, colour: str, size: float = 9.0) -> None:
    text = clean(text)
    short = text if len(text) <= 34 else text[:33] + "…"
    axes.set_title(short, fontsize=size, color=colour, loc="left", parse_math=False)


def _show(axes: Any, picture: np.ndarray, colour: str) -> None:
    axes.imshow(picture, interpolation="bilinear")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(colour)
        spine.set_linewidth(2.2)


def _pixels(picture: np.ndarray | bytes) -> np.ndarray:
    if not isinstance(picture, bytes):
        return picture
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))


def _png(figure: Any) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
