"""Tables that a phone and a keyboard can scroll, and the sentence in place of what was not measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mmssl.report.markup import Html, element


def missing(what: str) -> Html:
    """Return the sentence that stands where something was not measured."""
    return element("p", what, class_="missing")


def table(
    caption: str, heads: Sequence[str], rows: Iterable[tuple[Sequence[object], str]], numbers: Iterable[int]
) -> Html:
    """Return a table that scrolls sideways on a phone and by keyboard.

    Args:
        caption: What the table shows.
        heads: Column heads.
        rows: (cells, class of the row); the first cell is the row's head.
        numbers: Columns set to the right.
    """
    right = set(numbers)
    head = [element("th", h, scope="col", class_="n" if i in right else None) for i, h in enumerate(heads)]
    body = []
    for cells, class_ in rows:
        first = element("th", cells[0], scope="row")
        rest = [element("td", c, class_="n" if i in right else None) for i, c in enumerate(cells[1:], 1)]
        body.append(element("tr", first, *rest, class_=class_ or None))
    inside = element(
        "table", element("caption", caption), element("thead", element("tr", *head)), element("tbody", *body)
    )
    return element("div", inside, class_="scroll", tabindex=0, role="region", aria_label=caption)
