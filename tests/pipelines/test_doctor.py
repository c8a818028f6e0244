"""`mmssl doctor` through the console script: a library that raises, crashes or hangs is one line of the table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mmssl.data.doctor.child import run_probe
from tests import requirements

SCRIPT = Path(sys.executable).with_name("mmssl")


def doctor(*arguments: str, before: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The program, with a folder put before all others on the path of Python."""
    paths = [str(before)] if before else []
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(
        [SCRIPT, "doctor", *arguments], capture_output=True, text=True, env=environment, timeout=200, check=False
    )


def shadow(folder: Path, **modules: str) -> Path:
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    return folder


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    report = json.loads(done.stdout)
    assert report["works"] is (done.returncode == 0)
    return {row["name"]: row for row in report["findings"]}


def test_a_whole_machine() -> None:
    done = doctor("--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = findings(done)
    assert found["pyav"]["state"] == "ok"
    assert found["pyav"]["facts"]["frames"] == 12
    assert found["pyav"]["facts"]["samples"] == 16000
    assert found["pyav"]["facts"]["ffmpeg"]
    import torch

    assert found["torch"]["found"] == torch.__version__
    assert found["CUDA"]["facts"]["built_for"] == torch.version.cuda
    assert {
        "cores",
        "memory",
        "shared memory",
        "open files",
        "cache folder",
        "webdataset",
        "s3",
        "nvdec (PyAV)",
    } <= set(found)
    assert all(row["mend"] for row in found.values() if row["state"] != "ok"), "something is missing without a way out"
    if not torch.cuda.is_available():
        assert found["nvdec (PyAV)"]["state"] == "missing"
        assert "no NVIDIA driver" in found["nvdec (PyAV)"]["found"] or "no GPU" in found["nvdec (PyAV)"]["found"]


def test_broken_decoders_are_lines_and_not_the_end(tmp_path: Path) -> None:
    crash = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"
    shadow(tmp_path, decord="raise OSError('libavformat.so.58: cannot open shared object file')", torchcodec=crash)
    done = doctor(before=tmp_path)
    assert done.returncode == 0, "PyAV works"
    lines = {line.split()[1]: line for line in done.stdout.splitlines() if line.startswith("  ")}
    assert lines["decord"].split()[0] == "broken"
    assert "libavformat.so.58" in lines["decord"]
    assert "pip install" in lines["decord"]
    assert lines["torchcodec"].split()[0] == "broken"
    assert "SIGSEGV" in lines["torchcodec"]
    assert lines["pyav"].split()[0] == "ok"
    assert "\x1b[" not in done.stdout, "colours where no terminal is"


def test_without_pyav_the_exit_code_is_1(tmp_path: Path) -> None:
    done = doctor("--json", before=shadow(tmp_path, av="raise ImportError('libavcodec is gone')"))
    assert done.returncode == 1
    found = findings(done)
    assert found["pyav"]["state"] == "broken"
    assert "libavcodec is gone" in found["pyav"]["found"]
    assert "pip install" in found["pyav"]["mend"]
    assert found["decord"]["state"] == "broken"
    assert "mend pyav first" in found["decord"]["mend"]


@pytest.mark.parametrize(
    ("source", "state", "said"),
    [
        ("raise RuntimeError('wrong libraries')", "raised", "RuntimeError: wrong libraries"),
        ("import os\nos._exit(139)", "died", "SIGSEGV (exit code 139)"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGBUS)", "died", "SIGBUS"),
        ("import os\nos._exit(3)", "died", "exit code 3"),
        ("import os\nprint('bye')\nos._exit(0)", "died", "exit code 0"),
        ("import time\ntime.sleep(60)", "silent", "no answer within 3 s"),
        ("raise ModuleNotFoundError('No module named decord', name='decord')", "missing", "decord is not installed"),
        ("import nothing_of_this_name", "raised", "nothing_of_this_name is not installed"),
    ],
)
def test_every_end_of_a_probe_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, state: str, said: str
) -> None:
    shadow(tmp_path, decord=source)
    monkeypatch.syspath_prepend(str(tmp_path))
    begin = time.monotonic()
    outcome = run_probe("decord", "clip.mp4", timeout=3 if state == "silent" else 60)
    assert outcome.state == state
    assert said in outcome.message
    assert time.monotonic() - begin < 30


def test_a_decoder_that_gives_a_wrong_picture_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
import numpy as np
__version__ = "0"
class Array(np.ndarray):
    def asnumpy(self): return np.asarray(self)
class VideoReader:
    def __init__(self, path, num_threads): pass
    def __len__(self): return 12
    def get_batch(self, rows): return np.zeros((12, 64, 96, 3), np.uint8).view(Array)
class AudioReader:
    def __init__(self, path, sample_rate, mono): pass
    def __getitem__(self, rows): return np.zeros((1, 16000), np.float32).view(Array)
"""
    shadow(tmp_path, decord=source)
    monkeypatch.syspath_prepend(str(tmp_path))
    outcome = run_probe("decord", "clip.mp4")
    assert outcome.state == "raised"
    assert "the frames are not those of the clip" in outcome.message


def test_torchcodec_is_told_which_ffmpeg_it_takes(tmp_path: Path) -> None:
    requirements.torchcodec()
    outcome = run_probe("ffmpeg")
    assert outcome.state == "answered"
    assert set(outcome.answer["found"]) & {str(major) for major in outcome.answer["accepts"]}


def test_a_wrong_time_limit_is_refused() -> None:
    done = doctor("--timeout", "-1")
    assert done.returncode == 2
    assert "timeout must be positive" in done.stderr
