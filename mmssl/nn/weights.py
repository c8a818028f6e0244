"""Weights from files: read as tensors alone, and loaded into the architecture that they belong to or refused."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from mmssl.errors import UserError

WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "module")
FEW = 4  # keys of a kind that an error names


def read_tensors(path: Path | str) -> dict[str, torch.Tensor]:
    """Tensors by name of a ``.safetensors`` file, or of one by `torch.save` (read without running any code).

    A state dict under a name such as "state_dict" is found, and the prefix "module." of data-parallel training is
    taken off.

    Raises:
        UserError: the file is missing, damaged, or holds something else.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise UserError(f"weights '{path}' cannot be read ({_line(error)})") from error
    except (pickle.UnpicklingError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise UserError(f"weights '{path}' hold more than tensors, or are damaged ({_line(error)})") from error
    for name in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping):
        raise UserError(f"weights '{path}' hold no state dict but a {type(found).__name__}")
    tensors = {str(name): value for name, value in found.items() if isinstance(value, torch.Tensor)}
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def load_tensors(
    module: nn.Module, tensors: Mapping[str, torch.Tensor], source: str, unused: Collection[str] = ()
) -> None:
    """Load a state dict that fits exactly.

    Args:
        module: what gets the weights.
        tensors: by name.
        source: where they come from, for the error.
        unused: names that may be there and are not needed, such as those of a classifier.

    Raises:
        UserError: names are missing, unexpected or of another shape; the first of each are named.
    """
    wanted = module.state_dict()
    faults = []
    missing = [name for name in wanted if name not in tensors]
    unexpected = [name for name in tensors if name not in wanted and name not in unused]
    shaped = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    for said, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shaped)):
        if names:
            more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
            faults.append(f"{len(names)} {said}: {', '.join(names[:FEW])}{more}")
    if faults:
        raise UserError(
            f"the weights in '{source}' are of another architecture than {type(module).__name__} as it is built here "
            f"({'; '.join(faults)}); give the class and arguments that they were trained with"
        )
    module.load_state_dict({name: tensors[name] for name in wanted})


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
