"""From what other programs leave behind (rows of `metrics.jsonl`, `spectrum.json`, `results.json`) to content."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmssl.errors import UserError
from mmssl.report.content import ActionProbe, PretextRow, ProbeScore, Spectrum
from mmssl.report.history import Row, number, tasks


def pretext_rows(rows: Sequence[Row], asks: Mapping[str, str] | None = None) -> tuple[PretextRow, ...]:
    """Return each task's last held-out score; tasks that were never scored against a floor are left out.

    Args:
        rows: Of `metrics.jsonl`.
        asks: For a task, what it asks of the model, in words.
    """
    found = []
    for task in tasks(rows):
        scored = [r for r in rows if r.get("event") == "heldout" and r.get("task") == task]
        last: Row = scored[-1] if scored else {}
        score, floor, ceiling = (number(last.get(key)) for key in ("score", "floor", "ceiling"))
        if score is None or floor is None or ceiling is None:
            continue
        count = number(last.get("count"))
        truth = last.get("truth") or []
        named = ", ".join(map(str, truth)) if isinstance(truth, list) else ""
        found.append(
            PretextRow(
                task=task,
                score_name=str(last.get("score_name", "score"))
                + (f" (trained with the truth: {named})" if named else ""),
                score=score,
                floor=floor,
                ceiling=ceiling,
                ablated=number(last.get("ablated")),
                ablated_floor=number(last.get("ablated_floor")),
                samples=None if count is None else round(count),
                higher_is_better=ceiling > floor,
                asks=(asks or {}).get(task, ""),
            )
        )
    return tuple(found)


def read_spectra(path: Path, random_init: Mapping[str, np.ndarray] | None = None) -> tuple[Spectrum, ...]:
    """Return the spectra in a run's `spectrum.json`.

    Args:
        path: The file.
        random_init: For an encoder, singular values of the same architecture untrained.

    Raises:
        UserError: The file is missing or is not what training writes.
    """
    try:
        encoders = json.loads(path.read_text(encoding="utf-8"))["encoders"]
        return tuple(
            Spectrum(
                encoder=name,
                singular_values=np.asarray(found["singular_values"], dtype=float),
                std=float(found["std"]),
                effective_rank=float(found["effective_rank"]),
                width=int(found["width"]),
                random_init=(random_init or {}).get(name),
                samples=int(found["samples"]),
                warning=str(found.get("warning", "")),
            )
            for name, found in encoders.items()
        )
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the spectrum.json of a finished run") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: not a spectrum.json as training writes it ({error!r}); train again") from None


def action_probe(results: Mapping[str, Any]) -> ActionProbe:
    """Return the content for the `results.json` of `evaluate action` (`Scores.as_dict()`).

    Args:
        results: Keys `linear`, `knn` with `pretrained`, `random_init` (mean, std, seeds) and `difference`
            (low, high); `chance`, other baselines, `classes`, `test_clips`, `confusion`, `protocol`, `split`.
    """
    linear, knn = results["linear"], results.get("knn", {})
    others = [
        (f"{probe} probe, {model.replace('_', ' ')}", _score(found))
        for probe, models in (("linear", linear), ("kNN", knn))
        for model, found in models.items()
        if model not in ("pretrained", "random_init", "difference")
    ]
    if "majority" in results:
        others.append(("largest class", ProbeScore(float(results["majority"]), 0.0, (float(results["majority"]),))))
    protocol = results.get("protocol", "")
    if isinstance(protocol, Mapping):
        protocol = ", ".join(str(p) for p in protocol.values())
    difference = linear.get("difference")
    classes = tuple(str(c) for c in results.get("classes", ()))
    confusion = np.asarray(results.get("confusion", ()), dtype=float)
    return ActionProbe(
        pretrained=_score(linear["pretrained"]),
        random_init=_score(linear["random_init"]),
        chance=float(results["chance"]),
        knn_pretrained=_score(knn["pretrained"]) if "pretrained" in knn else None,
        knn_random_init=_score(knn["random_init"]) if "random_init" in knn else None,
        others=tuple(others),
        interval=(float(difference["low"]), float(difference["high"])) if difference else None,
        protocol="; ".join(str(p) for p in (protocol, results.get("split")) if p),
        clips=results.get("test_clips"),
        classes=classes,
        confusion=confusion if confusion.shape == (len(classes), len(classes)) and len(classes) else None,
    )


def _score(found: Mapping[str, Any]) -> ProbeScore:
    return ProbeScore(float(found["mean"]), float(found["std"]), tuple(float(s) for s in found.get("seeds", ())))
