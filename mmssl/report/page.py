"""The report of a run as one self-contained `index.html`: the verdict first, every number beside its baselines."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

from mmssl.report.content import Card, ReportContent
from mmssl.report.markup import Html, element, join
from mmssl.report.media import MediaBudget
from mmssl.report.sections import SECTIONS, Section
from mmssl.report.style import CSS, SCRIPT
from mmssl.report.verdict import summary_cards

MEDIA_LIMIT = 32 * 1024 * 1024


def write_report(folder: Path, content: ReportContent, *, media_limit: int = MEDIA_LIMIT) -> Path:
    """Write `folder/index.html` and return its path; the file appears whole or not at all.

    The page loads nothing: styles, script, pictures and clips are inside it, and its content security policy
    forbids everything else.

    Args:
        folder: Made if missing.
        content: What the page says; a part that is empty becomes a sentence that says so.
        media_limit: Bytes that pictures and clips may take in the page. What does not fit is left out in the
            order of the page, and the page tells how many.

    Raises:
        UserError: A picture given as bytes is neither PNG nor JPEG.
    """
    text = page(content, media_limit=media_limit)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "index.html"
    part = folder / f".index.html.{os.getpid()}"
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def page(content: ReportContent, *, media_limit: int = MEDIA_LIMIT) -> Html:
    """Return the whole page as markup."""
    budget = MediaBudget(media_limit)
    sections = [(section, section.body(content, budget)) for section in SECTIONS]
    # a script or style element holds raw text, so these two go in as they are; both are constants of the package
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode("ascii")
    policy = (
        "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", content.title),
        element("style", Html(CSS)),
    )
    body = element(
        "body",
        element("a", "Skip to the results", href="#summary", class_="skip"),
        _header(content),
        element("nav", element("ul", *(_link(s) for s, _ in sections)), aria_label="Sections"),
        element("main", *(_section(s, inside) for s, inside in sections)),
        _footer(budget),
        element("script", Html(SCRIPT)),
    )
    return Html("<!doctype html>\n" + element("html", head, body, lang="en") + "\n")


def _header(content: ReportContent) -> Html:
    cards = summary_cards(content)
    judged = [card for card in cards if card.holds is not None]
    failed = [card.title for card in judged if not card.holds]
    verdict = None
    if judged:
        said = f"{len(judged) - len(failed)} of {len(judged)} checks hold"
        if failed:
            said += f" · not held: {', '.join(failed)}"
        verdict = element("p", said, class_=f"verdict {'bad' if failed else 'good'}")
    notes = [element("p", note, class_="note") for note in content.notes]
    listed: Html = element("ul", *(_card(card) for card in cards), class_="cards")
    if not cards:
        listed = element("p", "No scores were measured in this run.", class_="missing")
    return element(
        "header",
        element("h1", content.title),
        element("p", content.subtitle, class_="lead") if content.subtitle else None,
        element("div", verdict, listed, *notes, id="summary"),
    )


def _card(card: Card) -> Html:
    mark, class_ = None, "card"
    if card.holds is not None:
        mark = element(
            "span", "holds" if card.holds else "does not hold", class_="mark good" if card.holds else "mark bad"
        )
        class_ += " holds" if card.holds else " fails"
    return element(
        "li",
        element("div", element("span", card.title), mark, class_="top"),
        element("div", card.value, class_="value"),
        element("p", card.evidence),
        class_=class_,
    )


def _link(section: Section) -> Html:
    return element("li", element("a", section.short, href=f"#{section.name}"))


def _section(section: Section, inside: Html) -> Html:
    heading = element("h2", section.title, id=f"{section.name}-title")
    return element("section", heading, inside, id=section.name, aria_labelledby=f"{section.name}-title")


def _footer(budget: MediaBudget) -> Html:
    left_out = None
    if budget.left_out:
        what = "1 picture or clip was" if budget.left_out == 1 else f"{budget.left_out} pictures and clips were"
        left_out = element("p", f"{what} left out to keep the page small.")
    return element(
        "footer",
        left_out,
        element("p", join(["Written by ", element("code", "mmssl"), ". One file, nothing loaded from outside."])),
    )
