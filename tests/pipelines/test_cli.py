"""The installed console script: help, unknown verbs, exit codes, one clear line for what a user did wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(sys.executable).with_name("mmssl")


def mmssl(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, cwd=cwd, timeout=120, check=False)


def test_help_lists_every_verb() -> None:
    done = mmssl("--help")
    assert done.returncode == 0
    for verb in ("shards build", "pretrain", "evaluate action", "localize", "demo", "soundstage"):
        assert f"mmssl {verb}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("pretrian",), "did you mean 'pretrain'"),
        (("shards", "biuld", "a", "b"), "did you mean 'shards build'"),
        (("soundstage", "OUT", "--preset", "demmo"), "did you mean 'demo'"),
        (("soundstage", "OUT", "--clips", "many"), "clips"),
        (("shards", "info", "nowhere-{000000..000001}.tar"), "nowhere-000000.tar"),
        (("shards", "build", "nowhere", "out"), "nowhere"),
    ],
)
def test_mistakes_give_one_clear_error_and_exit_code_2(tmp_path: Path, arguments: tuple[str, ...], text: str) -> None:
    done = mmssl(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir()), "something half-written stayed behind"


def test_without_a_verb_it_says_what_there_is() -> None:
    done = mmssl()
    assert done.returncode == 2
    assert "mmssl pretrain" in done.stdout


def test_tasks_lists_the_table() -> None:
    done = mmssl("tasks")
    assert done.returncode == 0
    assert "av_sync" in done.stdout
