"""The page of stage maps: what they are and are not, how far they follow random weights and contrast, and the clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmssl.evaluation.stages import ROLLOUT, StageMaps, likeness
from mmssl.report.markup import Html, element, join
from mmssl.report.media import MediaBudget, image
from mmssl.report.page import MEDIA_LIMIT
from mmssl.report.shell import footer, section, whole_page
from mmssl.report.tables import table

IS = (
    "Energy of a stage: the root mean square of its channels at each place, the map of attention transfer "
    "(arXiv 1612.03928). It says how strongly the stage answers there. Within a clip and stage the least value is dark "
    "and the greatest bright, over all frames, so colours of different stages and clips cannot be compared.",
    "It is not what the network decides by: a strong answer may not reach the pooled feature, and a weak one may "
    "carry it. It belongs to no class. Its borders are blurred by the drawing: one value covers a cell of the stage's "
    "stride, and each value depends on a wider region (the receptive field).",
    "Random weights have such maps too; they mostly follow contrast. Only what differs from the row below was learned.",
)
ROLLED = (
    "Attention rollout (arXiv 2005.00928): the layers' attention, averaged over heads, multiplied through with half of "
    "each token kept. It says where information may have come from, not what was used of it."
)
CSS = ".sheet{overflow-x:auto;margin:.6rem 0 1.8rem}.sheet img{max-width:none;width:auto;border-radius:0}"


def attention_page(clips: Sequence[StageMaps], pictures: Sequence[bytes], about: Mapping[str, Any]) -> Html:
    """Return the whole page.

    Args:
        clips: with their maps.
        pictures: the PNG of each.
        about: encoder, shards, and how they were shown.
    """
    title = f"Maps by stage: encoder '{about['encoder']}'"
    budget = MediaBudget(MEDIA_LIMIT)
    found = likeness(clips)
    rows: list[tuple[Sequence[object], str]] = [
        ((stage, *(_told(values[name]) for name in ("random weights", "contrast"))), "")
        for stage, values in found.items()
    ]
    heads = ("stage", "with random weights", "with contrast of the frame")
    figures = []
    for clip, picture in zip(clips, pictures, strict=True):
        said = f"Maps of {clip.key}, {clip.label or 'no label'}: a row a stage, trained above random weights"
        caption = element(
            "figcaption", element("bdi", clip.label or "no label"), element("div", clip.key, class_="key")
        )
        shown = element("div", image(budget, picture, said), class_="sheet", tabindex=0, role="region", aria_label=said)
        figures.append(element("figure", caption, shown))
    texts = [*IS, ROLLED] if ROLLOUT in found else list(IS)
    return whole_page(
        title,
        element(
            "header",
            element("h1", title),
            element("p", f"{len(clips)} clips of {about['shards']}, the first ones, not chosen", class_="lead"),
        ),
        element(
            "main",
            section("what", "What these maps are, and what not", *(element("p", text) for text in texts)),
            section(
                "likeness",
                "How far they follow what was not learned",
                table(
                    "Correlation over a clip's places, mean over clips, 95 % interval over sources", heads, rows, (1, 2)
                ),
            ),
            section("clips", "Clips", join(figures)),
        ),
        footer(budget),
        css=CSS,
    )


def _told(found: Mapping[str, float] | None) -> str:
    if found is None:
        return "constant"
    interval = f" [{found['low']:.2f}, {found['high']:.2f}]" if "low" in found else ""
    return f"{found['mean']:.2f}{interval}".replace("-", "−")
