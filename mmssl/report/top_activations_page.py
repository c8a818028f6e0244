"""Contact sheets of what makes filters answer: a row a filter, the region that the winning cell sees outlined."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from mmssl.evaluation.top_activations import Hit, TopActivations
from mmssl.report.axes import number_text
from mmssl.report.markup import Html, element, join
from mmssl.report.media import MediaBudget, image, jpeg
from mmssl.report.page import MEDIA_LIMIT
from mmssl.report.shell import footer, section, whole_page
from mmssl.report.stage_pictures import png, titled

SIDE = 104  # pixels of a picture's shorter side in the sheet
WIDEST = 220
CSS = """
.nine{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(30%,104px),1fr));gap:.5rem;margin:.4rem 0 1.4rem}
.nine.wide{grid-template-columns:repeat(auto-fill,minmax(min(46%,220px),1fr))}
.nine figcaption{font-size:.76rem;line-height:1.35}.nine img{border-radius:3px}
"""


def marked(hit: Hit) -> np.ndarray:
    """Uint8 [h, w, 3]: the picture, enlarged, with the region outlined in white within black."""
    height, width = hit.picture.shape[:2]
    scale = min(max(SIDE / min(height, width), 0.05), WIDEST / width if width > 2 * height else np.inf)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    drawn = Image.fromarray(hit.picture).resize(size, Image.Resampling.BICUBIC)
    left, top, right, bottom = hit.region
    box = [left * size[0], top * size[1], right * size[0] - 1, bottom * size[1] - 1]
    box = [min(max(v, 0.0), s - 1) for v, s in zip(box, (*size, *size), strict=True)]
    pen = ImageDraw.Draw(drawn)
    pen.rectangle(box, outline=(0, 0, 0), width=3)
    inner = [box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1]
    if inner[2] > inner[0] and inner[3] > inner[1]:
        pen.rectangle(inner, outline=(255, 255, 255), width=1)
    return np.asarray(drawn)


def contact_sheet(found: TopActivations) -> bytes:
    """PNG of all filters: a row a filter, highest value first."""
    rows = []
    for channel, hits in found.filters.items():
        pictures = [marked(hit) for hit in hits]
        parts = [np.pad(p, ((0, 0), (0, 3), (0, 0)), constant_values=255) for p in pictures]
        values = f"{number_text(hits[0].value)} to {number_text(hits[-1].value)}"
        rows.append(titled(f"filter {channel}: {values}", np.concatenate(parts, axis=1)))
    width = max(row.shape[1] for row in rows)
    return png(
        np.concatenate([np.pad(r, ((0, 0), (0, width - r.shape[1]), (0, 0)), constant_values=255) for r in rows])
    )


def top_activations_page(found: TopActivations) -> Html:
    """Return the whole page."""
    about = found.about
    title = f"What filters answer to: encoder '{about['encoder']}', stride {about['level']}"
    budget = MediaBudget(MEDIA_LIMIT)
    audio = about["modality"] == "audio"
    parts = []
    for channel, hits in found.filters.items():
        figures = [_figure(hit, channel, budget, audio) for hit in hits]
        parts.append(element("h3", f"Filter {channel}"))
        parts.append(element("div", *figures, class_="nine wide" if audio else "nine"))
    return whole_page(
        title,
        element(
            "header",
            element("h1", title),
            element(
                "p",
                f"{len(found.filters)} of {about['of_channels']} filters, weights {about['weights']}, over "
                f"{about['clips']} clips of {about['shards']}",
                class_="lead",
            ),
        ),
        element(
            "main",
            section("how", "How to read this", *(element("p", text) for text in _how(found))),
            section("filters", "Filters", join(parts)),
        ),
        footer(budget),
        css=CSS,
    )


def _how(found: TopActivations) -> list[str]:
    sides = " x ".join(map(str, found.about["receptive_field"]))
    axes = {"image": "height x width in pixels", "video": "frames x height x width", "audio": "mel bands x 10 ms steps"}
    said = [
        "For each filter (channel) the clips in which it answers most, highest first, one a source. Filters were taken "
        "at even steps or by number, not for their looks.",
        f"The outline is what the winning cell can see: its receptive field, {sides} at most "
        f"({axes[found.about['modality']]}), cut at the borders. Through normalisation every cell also sees the "
        "statistics of the whole input; that is not outlined.",
        "The highest values are a filter's extreme, not its use: that nine clips look alike says nothing of what the "
        "filter does in all others. Random weights give such sheets too: draw them with --random-init and compare.",
    ]
    left_out = found.about["left_out"]
    if left_out:
        key, cause = next(iter(left_out.items()))
        said.append(f"{len(left_out)} clips left out, for instance '{key}': {cause}.")
    return said


def _figure(hit: Hit, channel: int, budget: MediaBudget, audio: bool) -> Html:
    said = f"{hit.key}, {hit.label or 'no label'}: filter {channel} answers {number_text(hit.value)}"
    when = "" if audio else f" · {hit.seconds:.2f} s"
    return element(
        "figure",
        image(budget, jpeg(marked(hit)), said),
        element(
            "figcaption",
            element("bdi", hit.label or "no label"),
            element("div", f"{number_text(hit.value)}{when}"),
            element("div", hit.key, class_="key"),
        ),
    )
