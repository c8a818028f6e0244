"""Law 1, one decode, while training: five tasks on one window decode exactly as much as one of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmssl.clip import Window
from pipelines.cli import main
from tests.corpora import write_corpus
from tests.laws.runs import SPAN, rows, settings, write_settings

NAMES = ("av_localization", "av_sync", "order_prediction", "rotation", "subtitle_matching")
STEPS = 4


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_corpus(tmp_path_factory.mktemp("corpus"), [9, 9])


def counters(corpus: str, folder: Path, *names: str) -> list[tuple[int, int]]:
    """(decoder calls, decoded pictures) of each step of a run on the named tasks."""
    given = settings(corpus, steps=STEPS, monitor_every=0)
    given["tasks"] = {name: given["tasks"][name] for name in names}
    run = folder / "-".join(names)
    main(["pretrain", "--config", str(write_settings(folder / f"{run.name}.yaml", given)), "--run", str(run)])
    return [(row["decoder_calls"], row["decoded_pictures"]) for row in rows(run, "step")]


def test_five_tasks_decode_as_much_as_one(corpus: str, tmp_path: Path) -> None:
    together = counters(corpus, tmp_path, *NAMES)
    alone = {name: counters(corpus, tmp_path, name) for name in NAMES}
    assert [calls for calls, _ in together] == [8] * STEPS  # one call a clip
    # All want the same span of the picture; whoever wants sound or text too decodes no further picture for it.
    for name in NAMES:
        assert alone[name] == together, name
    separate = [sum(found[step][1] for found in alone.values()) for step in range(STEPS)]
    assert separate == [5 * pictures for _, pictures in together]


def test_the_tasks_of_this_law_share_one_window(corpus: str) -> None:
    from pipelines.config import parse_settings
    from pipelines.pretrain import PretrainConfig

    folder = Path(corpus).parent
    config = write_settings(folder / "five.yaml", settings(corpus))
    found, _, _ = parse_settings(
        PretrainConfig, ["--config", str(config), "--run", str(folder / "run")], "mmssl pretrain"
    )
    windows: list[Window] = [task.window for task in found.tasks.values()]
    assert {(w.pictures[0].seconds, w.pictures[0].rate) for w in windows} == {(SPAN["seconds"], SPAN["rate"])}
