"""Tables that programs write into pages: between two marks, everything else of the page stays."""

from __future__ import annotations

from pathlib import Path


def write_between(page: Path, name: str, text: str) -> None:
    """Put `text` between the marks ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` of a page.

    Raises:
        SystemExit: the page has no such marks.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    whole = page.read_text(encoding="utf-8")
    if begin not in whole or end not in whole:
        raise SystemExit(f"{page} lacks the marks {begin} and {end}; add them where the table belongs")
    before, _, rest = whole.partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
