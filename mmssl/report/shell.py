"""The frame of every page: one HTML file with its styles, script and pictures inside; it may load nothing."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

from mmssl.report.markup import Html, element, join
from mmssl.report.media import MediaBudget
from mmssl.report.style import CSS


def whole_page(title: str, *body: object, script: str = "", css: str = "") -> Html:
    """Return a page whose content security policy lets its own script run and nothing be fetched.

    Args:
        title: Of the window.
        body: What it shows.
        script: JavaScript, a constant of the package: it goes in as it is and is allowed by its digest.
        css: Rules besides those of every page, likewise.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = (
        "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        # a style or script element holds raw text, so these go in as they are
        element("style", Html(CSS + css)),
    )
    inside = element("body", *body, element("script", Html(script)) if script else None)
    return Html("<!doctype html>\n" + element("html", head, inside, lang="en") + "\n")


def section(name: str, title: str, *inside: object) -> Html:
    """Return a section with its heading and anchor."""
    heading = element("h2", title, id=f"{name}-title")
    return element("section", heading, *inside, id=name, aria_labelledby=f"{name}-title")


def footer(budget: MediaBudget | None = None) -> Html:
    """Return the last lines of a page: how many pictures were left out, and that nothing is loaded."""
    left_out = None
    if budget is not None and budget.left_out:
        what = "1 picture or clip was" if budget.left_out == 1 else f"{budget.left_out} pictures and clips were"
        left_out = element("p", f"{what} left out to keep the page small.")
    return element(
        "footer",
        left_out,
        element("p", join(["Written by ", element("code", "mmssl"), ". One file, nothing loaded from outside."])),
    )


def write_page(path: Path, text: Html) -> Path:
    """Write a page so that it is there whole or not at all; its folder is made if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.parent / f".{path.name}.{os.getpid()}"
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
