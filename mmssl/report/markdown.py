"""The results as Markdown tables, for a terminal, a README or a pull request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mmssl.report.axes import number_text
from mmssl.report.content import ReportContent
from mmssl.report.markup import clean
from mmssl.report.verdict import points, summary_cards

SPECIAL = "\\`*_[]<>|#~&"


def results_markdown(content: ReportContent) -> str:
    """Return what was measured as Markdown: the checks, then action, localization and pretext tables.

    Parts that were not measured are left out; names are escaped, so that they cannot become markup.
    """
    parts = [f"## {_text(content.title)}"]
    cards = summary_cards(content)
    if cards:
        said = {True: "yes", False: "**no**", None: ""}
        rows = [(_text(c.title), _text(c.value), said[c.holds], _text(c.evidence)) for c in cards]
        parts.append(_table(("what", "measured", "holds", "beside"), rows))
    probe = content.action
    if probe is not None:
        scores = [
            ("linear probe, pretrained", probe.pretrained),
            ("linear probe, random init", probe.random_init),
            ("nearest neighbours, pretrained", probe.knn_pretrained),
            ("nearest neighbours, random init", probe.knn_random_init),
            *probe.others,
        ]
        rows3 = [
            (
                _text(name),
                number_text(s.mean, True),
                f"{100 * s.std:.1f}" if len(s.seeds) != 1 else "—",
                str(len(s.seeds)),
            )
            for name, s in scores
            if s is not None
        ]
        rows3.append(("chance", number_text(probe.chance, True), "—", "—"))
        parts.append(_table(("action", "accuracy", "std", "seeds"), rows3))
        if probe.interval is not None:
            low, high = probe.interval
            parts.append(f"Pretrained minus random init, 95 % interval: {points(low)} to {points(high)}.")
    if content.localization is not None and content.localization.rows:
        found = [
            (_text(r.name), _share(r.peak_in_box), _share(r.ciou), _share(r.auc)) for r in content.localization.rows
        ]
        parts.append(_table(("localization", "peak in box", "cIoU@0.5", "AUC"), found))
    if content.pretext:
        tasks = [
            (
                _text(r.task), _text(r.score_name), number_text(r.score, r.is_share), number_text(r.floor, r.is_share),
                number_text(r.ceiling, r.is_share), "—" if r.ablated is None else number_text(r.ablated, r.is_share),
            )
            for r in content.pretext
        ]  # fmt: skip
        parts.append(_table(("task", "score", "held out", "floor", "ceiling", "input zeroed"), tasks))
    return "\n\n".join(parts) + "\n"


def _share(value: float | None) -> str:
    return "—" if value is None else number_text(value, True)


def _text(text: str) -> str:
    line = " ".join(clean(text).split())
    return "".join("\\" + c if c in SPECIAL else c for c in line)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)
