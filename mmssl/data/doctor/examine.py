"""The examination: all probes, the machine, and the line that mends each thing that is missing."""

from __future__ import annotations

import os
import platform
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mmssl.data.doctor.child import Outcome, run_probe
from mmssl.data.doctor.finding import Finding, State
from mmssl.data.doctor.machine import examine_machine
from mmssl.errors import UserError

INSTALL_FFMPEG = "apt-get install ffmpeg   (or: conda install -c conda-forge ffmpeg)"
DECODERS = {  # probe -> (name, package that pip installs)
    "pyav": ("pyav", "av"),
    "torchcodec": ("torchcodec", "torchcodec"),
    "decord": ("decord", "decord"),
    "nvdec": ("nvdec (PyAV)", "av"),
    "torchcodec_cuda": ("nvdec (torchcodec)", "torchcodec"),
}
REMOTE = {"s3": "s3fs", "gs": "gcsfs"}


@dataclass(frozen=True)
class Report:
    """All findings.

    Args:
        findings: in the order in which they are shown.
    """

    findings: tuple[Finding, ...]

    @property
    def works(self) -> bool:
        """Whether the default path works: nothing that it needs is missing or broken."""
        return all(finding.state == "ok" for finding in self.findings if finding.needed)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"works": self.works, "findings": [asdict(finding) for finding in self.findings]}


def examine(timeout: float = 60.0) -> Report:
    """Try everything; no probe takes longer than `timeout` seconds.

    Raises:
        UserError: `timeout` is no positive number.
    """
    if not timeout > 0:
        raise UserError(f"timeout must be positive seconds, got {timeout}")
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
        clip = str(Path(folder) / "clip.mp4")
        beside = {name: pool.submit(run_probe, name, timeout=timeout) for name in ("torch", "driver", "ffmpeg")}
        outcomes = {"pyav": run_probe("pyav", clip, timeout=timeout)}  # makes the clip that the others decode
        if Path(clip).exists():
            trials = {name: pool.submit(run_probe, name, clip, timeout=timeout) for name in DECODERS if name != "pyav"}
            outcomes |= {name: trial.result() for name, trial in trials.items()}
        outcomes |= {name: probe.result() for name, probe in beside.items()}
    libraries = _versions(outcomes["torch"], outcomes["driver"], outcomes["ffmpeg"])
    return Report(tuple([*_decoders(outcomes), *libraries, *_remote(), *examine_machine()]))


def _decoders(outcomes: dict[str, Outcome]) -> list[Finding]:
    findings = []
    for probe, (name, package) in DECODERS.items():
        outcome = outcomes.get(probe)
        needed = probe == "pyav"
        if outcome is None:
            message = "not tried: the clip to decode is made by PyAV, which does not work"
            findings.append(Finding("decoders", name, "broken", message, "mend pyav first"))
            continue
        answer = outcome.answer
        if outcome.state == "answered":
            sound = f" and {answer['samples']} samples" if "samples" in answer else ""
            label = f"{answer['version']}: " if "version" in answer else ""
            found = f"{label}{answer['frames']} frames{sound} decoded"
            findings.append(Finding("decoders", name, "ok", found, needed=needed, facts=answer))
            continue
        lacks_gpu = any(words in outcome.message for words in ("no NVIDIA driver", "no GPU"))
        state: State = "missing" if outcome.state == "missing" or lacks_gpu else "broken"
        mend = _mend_decoder(probe, package, outcome, lacks_gpu)
        findings.append(Finding("decoders", name, state, _short(outcome.message), mend, needed, answer))
    return findings


def _mend_decoder(probe: str, package: str, outcome: Outcome, lacks_gpu: bool) -> str:
    if lacks_gpu:
        return "needs an NVIDIA GPU with its driver; everything else works without"
    if outcome.state == "missing":
        return f"pip install {package}"
    if outcome.state == "silent":
        return "the machine may be slow: mmssl doctor --timeout 300"
    if "libnvcuvid" in outcome.message:
        return "the driver lacks its video part: in containers set NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"
    if outcome.answer.get("module"):
        return f"pip install {outcome.answer['module']}"
    if probe.startswith("torchcodec") and "libtorchcodec" in outcome.message:
        accepts = outcome.answer.get("accepts", [])
        wanted = f"FFmpeg's shared libraries{_majors(accepts)}, and a torch that it was built for"
        return f"it needs {wanted}: {INSTALL_FFMPEG}"
    return f"pip install --force-reinstall --no-cache-dir {package}"


def _short(message: str, limit: int = 300) -> str:
    return message if len(message) <= limit else message[: limit - 3] + "..."


def _majors(accepts: list[int]) -> str:
    return f", major version {accepts[0]} to {accepts[-1]}" if accepts else ""


def _versions(torch: Outcome, driver: Outcome, ffmpeg: Outcome) -> list[Finding]:
    findings = [Finding("libraries", "python", "ok", platform.python_version())]
    for name in ("torch", "torchvision", "torchaudio"):
        found, needed = torch.answer.get(name), name == "torch"
        if found:
            findings.append(Finding("libraries", name, "ok", found, needed=needed))
        elif (installed := _installed(name)) is None:
            findings.append(Finding("libraries", name, "missing", "not installed", f"pip install {name}", needed))
        else:
            message = f"{installed} is installed and cannot be imported: {_short(torch.message)}"
            mend = "versions must fit: pip install --force-reinstall torch torchvision torchaudio"
            findings.append(Finding("libraries", name, "broken", message, mend, needed))
    findings += [_cuda(torch, driver), _nvdec_library(driver), *_ffmpegs(ffmpeg)]
    for name in ("webdataset", "fsspec"):
        installed = _installed(name)
        state: State = "missing" if installed is None else "ok"
        mend = f"pip install {name}" if installed is None else ""
        findings.append(Finding("libraries", name, state, installed or "not installed", mend))
    return findings


def _cuda(torch: Outcome, driver: Outcome) -> Finding:
    built, has = torch.answer.get("built_for"), driver.answer.get("cuda")
    gpus = torch.answer.get("gpus") or []
    found = f"torch is built for {built or 'the CPU alone'}; the driver offers {has or 'none'}; " + (
        f"{len(gpus)} GPU: {gpus[0]}" if gpus else "no GPU"
    )
    facts = {"built_for": built, "driver": has, "gpus": gpus}
    if gpus:
        return Finding("libraries", "CUDA", "ok", found, facts=facts)
    if driver.answer.get("devices"):
        mend = "there is a GPU that torch does not use: install a torch built for the driver's CUDA (pytorch.org)"
        return Finding("libraries", "CUDA", "broken", found, mend, facts=facts)
    return Finding("libraries", "CUDA", "missing", found, "needs an NVIDIA GPU with its driver", facts=facts)


def _nvdec_library(driver: Outcome) -> Finding:
    if driver.answer.get("nvcuvid"):
        return Finding("libraries", "NVDEC", "ok", "libnvcuvid.so.1 is there")
    if driver.answer.get("cuda"):
        mend = "in containers set NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"
        return Finding("libraries", "NVDEC", "broken", "the driver is there, libnvcuvid.so.1 is not", mend)
    mend = "needs an NVIDIA GPU with its driver"
    return Finding("libraries", "NVDEC", "missing", _short(driver.message), mend)


def _ffmpegs(ffmpeg: Outcome) -> list[Finding]:
    """The shared libraries that torchcodec needs; PyAV brings its own, which its line under decoders names."""
    found = {int(major): text for major, text in (ffmpeg.answer.get("found") or {}).items()}
    accepts = ffmpeg.answer.get("accepts", [])
    text = ", ".join(f"{major} ({name})" for major, name in sorted(found.items())) or "none"
    facts = {"found": found, "accepted": accepts}
    if not accepts:
        said = f"found: {text}; torchcodec, which needs them, is not there"
        return [Finding("libraries", "FFmpeg shared", "ok", said, facts=facts)]
    said = f"found: {text}; torchcodec takes {accepts[0]} to {accepts[-1]}"
    if set(found) & set(accepts):
        return [Finding("libraries", "FFmpeg shared", "ok", said, facts=facts)]
    return [Finding("libraries", "FFmpeg shared", "missing", said, INSTALL_FFMPEG, facts=facts)]


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _remote() -> list[Finding]:
    findings = []
    findings.append(Finding("remote", "http(s)", "ok", "read by mmssl itself"))
    for scheme, package in REMOTE.items():
        installed = _installed(package)
        if installed is None:
            findings.append(Finding("remote", scheme, "missing", f"{package} is not there", f"pip install {package}"))
        else:
            findings.append(Finding("remote", scheme, "ok", f"{package} {installed}"))
    return findings
