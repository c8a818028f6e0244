"""The report of a run as one self-contained `index.html`: the verdict first, every number beside its baselines."""

from __future__ import annotations

from pathlib import Path

from mmssl.report.content import Card, ReportContent
from mmssl.report.markup import Html, element
from mmssl.report.media import MediaBudget
from mmssl.report.sections import SECTIONS, Section
from mmssl.report.shell import footer, section, whole_page, write_page
from mmssl.report.style import SCRIPT
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
    return write_page(folder / "index.html", page(content, media_limit=media_limit))


def page(content: ReportContent, *, media_limit: int = MEDIA_LIMIT) -> Html:
    """Return the whole page as markup."""
    budget = MediaBudget(media_limit)
    sections = [(part, part.body(content, budget)) for part in SECTIONS]
    return whole_page(
        content.title,
        element("a", "Skip to the results", href="#summary", class_="skip"),
        _header(content),
        element("nav", element("ul", *(_link(part) for part, _ in sections)), aria_label="Sections"),
        element("main", *(section(part.name, part.title, inside) for part, inside in sections)),
        footer(budget),
        script=SCRIPT,
    )


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


def _link(part: Section) -> Html:
    return element("li", element("a", part.short, href=f"#{part.name}"))
