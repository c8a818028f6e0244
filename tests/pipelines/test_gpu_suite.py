"""`benchmarks/gpu_suite.sh` goes on when a part fails, stops one that hangs, and says by its exit code how it went."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_suite.sh"


def suite(tmp_path: Path, python: str) -> tuple[int, list[str], Path]:
    """The suite with a Python that is a script of ours; returns exit code, summary and the folder of its output."""
    stand_in = tmp_path / "python"
    stand_in.write_text(f"#!/usr/bin/env bash\n{python}\n")
    stand_in.chmod(0o755)
    out = tmp_path / "out"
    environment = os.environ | {"PYTHON": str(stand_in), "WHEELS": str(tmp_path / "none"), "OUT": str(out)}
    done = subprocess.run([SCRIPT], env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, (out / "summary.txt").read_text().splitlines(), out


def test_all_parts_pass(tmp_path: Path) -> None:
    code, summary, out = suite(tmp_path, 'echo "called with $*"')
    assert code == 0
    assert [line.split()[:2] for line in summary] == [
        ["passed", name] for name in ("install", "libraries", "doctor", "gpu_tests", "gpu_decode")
    ]
    log = (out / "suite.log").read_text()
    assert "-m pytest -m gpu" in log
    assert "tests/contract/test_tasks.py" in log


@pytest.mark.parametrize(("ending", "word"), [("exit 3", "FAILED"), ("kill -SEGV $$", "FAILED")])
def test_a_part_that_fails_is_not_the_end(tmp_path: Path, ending: str, word: str) -> None:
    code, summary, _ = suite(tmp_path, f'case "$1 $2" in "-m pytest") {ending};; esac')
    assert code == 1
    assert [line.split()[0] for line in summary] == ["passed", "passed", "passed", word, "passed"]


def test_the_plain_names_of_pyavs_libraries(tmp_path: Path) -> None:
    libraries = tmp_path / "av.libs"
    libraries.mkdir()
    for name in ("libavcodec-5e6b81c2.so.62.28.102", "libswscale-88e9f973.so.9.5.102", "libx264-d6533a8d.so.165"):
        (libraries / name).touch()
    python = f'if [ "$1" = - ]; then echo {libraries}; else ls "${{LD_LIBRARY_PATH%%:*}}"; fi'
    code, _, out = suite(tmp_path, python)
    assert code == 0
    seen = (out / "suite.log").read_text().split("==== doctor")[1].split("====")[0].split()
    assert {"libavcodec.so.62", "libswscale.so.9", "libavcodec-5e6b81c2.so.62.28.102"} <= set(seen)
    assert "libx264.so.165" not in seen
