"""The table for a person of an evaluation that trains."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from mmssl.evaluation.scores import Scores


def print_scores(console: Console, title: str, scores: Scores) -> None:
    """Rows in per cent, how the clips were split and viewed, and what may be said."""
    about = scores.about
    table = Table(title=f"{title} '{about['encoder']}': {' and '.join(about['protocol'].values())}")
    table.add_column("accuracy in %", no_wrap=True)
    for name in ("video", "std of seeds", "clip", "mean of classes"):
        table.add_column(name, justify="right", no_wrap=True)
    for probe, models in scores.models.items():
        for model, found in models.items():
            numbers = (f"{100 * found[k]:.1f}" for k in ("mean", "std", "clip_accuracy", "mean_class_accuracy"))
            table.add_row(f"{probe}: {model.replace('_', ' ')}", *numbers)
    for name, value in scores.baselines.items():
        table.add_row(name.replace("_", " "), f"{100 * value:.1f}")
    console.print(table)
    told = [
        f"{about['clips']} clips, {len(about['classes'])} classes, {about['test_clips']} tested in {about['folds']} "
        f"fold(s) ({about['split']}), {about['views']} view(s) of {about['seconds']} s at {about['rate']}/s x "
        f"{about['crops']} crop(s), {about['seeds']} seeds, {about['precision']}",
        *scores.sentences(),
    ]
    if about["left_out"]:
        key, cause = next(iter(about["left_out"].items()))
        told.append(f"{len(about['left_out'])} clips left out, for instance '{key}': {cause}")
    for line in told:
        console.print(line, markup=False, highlight=False)
