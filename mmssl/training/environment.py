"""What a run ran on: versions, machine and threads, saved as environment.json."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import torch

from mmssl import __version__, distributed

LIBRARIES = ("torch", "torchvision", "torchaudio", "transformers", "tokenizers", "numpy", "av", "safetensors")


def versions() -> dict[str, str]:
    """Versions of Python, mmssl and the libraries that move results; what is not installed is left out."""
    found = {"python": platform.python_version(), "mmssl": __version__}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """The processor's name as the system gives it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()


def environment(device: torch.device, precision: str) -> dict[str, Any]:
    """Versions, machine, device and threads of this run."""
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "ranks": distributed.world_size(),
        "precision": precision,
    }
