"""HTML and SVG elements that escape by construction.

Text becomes markup in one place only, `element`: a child that is not already `Html` is escaped, and so is every
attribute. Keys, sentences and labels come from files of strangers, so no other function of the report may join
strings into tags.
"""

from __future__ import annotations

import html
from collections.abc import Iterable

VOID = frozenset({"meta", "img", "br", "line", "rect", "circle", "path", "polyline", "source"})


class Html(str):
    """Markup that is already safe; made by `element` and `join` only."""

    __slots__ = ()


def clean(text: str) -> str:
    """Return `text` without what no page may hold: control characters and lone surrogates become U+FFFD."""
    return "".join(
        "\ufffd" if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 else c
        for c in text
    )


def escape(text: object) -> Html:
    """Return `text` as markup that shows it: `&`, `<`, `>` and both quotes are written as entities."""
    if isinstance(text, Html):
        return text
    return Html(html.escape(clean(str(text)), quote=True))


def join(parts: Iterable[object]) -> Html:
    """Join parts, escaping those that are plain text."""
    return Html("".join(escape(part) for part in parts))


def element(tag: str, *children: object, **attributes: object) -> Html:
    """Return `<tag ...>children</tag>`.

    Args:
        tag: Name of the element.
        children: `Html`, or anything else as text; None is left out.
        attributes: Values are escaped. None and False leave the attribute out, True writes it bare. A trailing
            underscore is dropped and other underscores become hyphens (`class_`, `aria_label`), so names of SVG
            with capitals (`viewBox`) pass as they are.
    """
    written = []
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = name.rstrip("_").replace("_", "-")
        written.append(f" {name}" if value is True else f' {name}="{escape(value)}"')
    head = f"<{tag}{''.join(written)}"
    if tag in VOID and not children:
        return Html(f"{head}/>")
    return Html(f"{head}>{join(c for c in children if c is not None)}</{tag}>")
