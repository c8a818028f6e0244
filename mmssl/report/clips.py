"""Clips on the page: an overlay that plays with its sound, and a few frames with key and label."""

from __future__ import annotations

from mmssl.report.content import Overlay, Strip
from mmssl.report.markup import Html, element
from mmssl.report.media import MediaBudget, image, picture_size, strip


def overlay_figure(overlay: Overlay, budget: MediaBudget) -> Html:
    """Return an overlay as a figure: the clip if the budget has room, else its poster; hit or miss, scores, key."""
    what = ", ".join(x for x in (overlay.material, overlay.action) if x) or "clip"
    state = "" if overlay.hit is None else ("hit" if overlay.hit else "miss")
    alt = f"Map of the sound over {what} ({overlay.key})"
    uri = None if overlay.clip is None else budget.uri(overlay.clip, "video/mp4")
    shown: Html
    if uri is None:
        shown = image(budget, overlay.poster, alt)
    else:
        poster = budget.picture(overlay.poster, alt)
        height, width = picture_size(overlay.poster)
        # room below the picture for the controls, which would else lie over its lower part
        room = f"aspect-ratio:{width}/{height + 0.3 * width:g}"
        shown = element(
            "video", src=uri, poster=poster, controls=True, playsinline=True, loop=True, preload="metadata",
            aria_label=alt, style=room,
        )  # fmt: skip
    scores = " · ".join(f"{name} {value:.2f}" for name, value in overlay.scores.items())
    mark = element("span", state, class_=f"mark {'good' if overlay.hit else 'bad'}") if state else None
    caption = element(
        "figcaption",
        element("bdi", what),
        " " if mark else None,
        mark,
        element("div", scores) if scores else None,
        element("div", overlay.key, class_="key"),
    )
    return element("figure", shown, caption, class_=state or None)


def strip_figure(clip: Strip, state: str, mark: str, budget: MediaBudget) -> Html:
    """Return a clip's frames as a figure.

    Args:
        clip: Frames, key, label, similarity.
        state: Class of the figure ("right", "wrong", "query" or none).
        mark: Word beside the label.
        budget: What pictures may still take.
    """
    label = clip.label or "no label"
    picture = image(
        budget,
        strip(clip.frames, columns=-(-len(clip.frames) // 2) if len(clip.frames) > 3 else None),
        f"{len(clip.frames)} frames of {clip.key}, {label}",
    )
    near = f"{clip.similarity:.2f}" if clip.similarity is not None else ""
    class_ = {"right": "mark good", "wrong": "mark bad"}.get(mark, "mark")
    caption = element(
        "figcaption",
        element("bdi", label),
        " ",
        element("span", mark, class_=class_) if mark else None,
        element("small", f" {near}") if near else None,
        element("div", clip.key, class_="key"),
    )
    return element("figure", picture, caption, class_=state or None)
