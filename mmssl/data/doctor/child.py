"""Runs a probe in a fresh Python and tells how it ended, whatever it does: answer, exception, signal, silence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any, Literal

MARK = "mmssl-probe:"  # before the answer: libraries may print too


@dataclass(frozen=True)
class Outcome:
    """How a probe ended.

    Args:
        state: "answered"; "missing" (the library is not installed); "raised"; "died" (by a signal or an exit code);
            "silent" (no answer within the time limit).
        message: what went wrong, in one line; empty when it answered.
        answer: what the probe found; also what it had found before it failed.
    """

    state: Literal["answered", "missing", "raised", "died", "silent"]
    message: str = ""
    answer: dict[str, Any] = field(default_factory=dict)


def run_probe(name: str, *arguments: str, timeout: float = 60.0) -> Outcome:
    """Run a function of `mmssl.data.doctor.probes` in a fresh Python with this one's search path.

    Args:
        name: the function.
        arguments: its arguments.
        timeout: seconds after which the process is stopped.
    """
    code = f"import sys; sys.path[:] = {sys.path!r}; from mmssl.data.doctor.probes import main; main()"
    try:
        process = subprocess.run(
            [sys.executable, "-c", code, name, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "AV_LOG_FORCE_NOCOLOR": "1"},
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return Outcome("silent", f"no answer within {timeout:g} s; it was stopped", _answers(error.stdout or b""))
    answer = _answers(process.stdout)
    if process.returncode == 0 and answer.get("done"):
        return Outcome("answered", "", answer)
    if "error" in answer:
        state: Literal["missing", "raised"] = "missing" if answer.get("missing") else "raised"
        return Outcome(state, str(answer["error"]), answer)
    said = process.stderr.decode(errors="replace").strip().splitlines()
    return Outcome("died", _obituary(process.returncode) + (f" ({said[-1][:200]})" if said else ""), answer)


def _answers(output: bytes) -> dict[str, Any]:
    """All that a probe has said so far, later words over earlier ones."""
    found: dict[str, Any] = {}
    for line in output.decode(errors="replace").splitlines():
        if line.startswith(MARK):
            found.update(json.loads(line[len(MARK) :]))
    return found


def _obituary(code: int) -> str:
    """How a process ended that left no answer; shells count signals from 128."""
    number = -code if code < 0 else code - 128
    try:
        return f"the process was ended by {signal.Signals(number).name}" + ("" if code < 0 else f" (exit code {code})")
    except ValueError:
        return f"the process ended with exit code {code} and no answer"
