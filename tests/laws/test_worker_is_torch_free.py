"""What decode workers import is small: numpy and av, never torch (2 s and 286 MB a process)."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# Each as its own process would import it.
TORCH_FREE = (
    "mmssl",
    "mmssl.clip",
    "mmssl.randomness",
    "mmssl.errors",
    "mmssl.data",
    "mmssl.data.worker",
    "mmssl.data.pool",
)
HEAVY = ("torch", "torchvision", "torchaudio", "transformers", "sklearn", "matplotlib", "tensorboard", "pandas", "cv2")


@pytest.mark.parametrize("module", TORCH_FREE)
def test_importing_it_imports_no_torch(module):
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    modules = json.loads(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    )
    assert module in modules
    assert not {name.split(".")[0] for name in modules} & set(HEAVY)
