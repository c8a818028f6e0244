"""Configurations and weights of transformers from local folders, with errors that name what does not fit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel

from mmssl.errors import UserError, nearest
from mmssl.nn.weights import FEW, load_tensors, read_tensors


def read_config(folder: str | None, config: Mapping[str, Any] | None) -> Any:
    """The configuration of a folder or of a mapping with ``model_type``; of a model of pictures and text the pictures'.

    Raises:
        UserError: neither or both are given, or there is no such configuration.
    """
    if (folder is None) == (config is None):
        raise UserError("give an encoder of transformers either `folder` or `config`")
    if folder is not None:
        if not (Path(folder) / "config.json").is_file():
            raise UserError(f"no model saved by transformers in '{folder}' (config.json is missing)")
        try:
            made = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"'{folder}/config.json' is no configuration that transformers knows ({error})") from error
    else:
        given = dict(config or {})
        kind = given.pop("model_type", None)
        known = list(transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES)
        if kind not in known:
            raise UserError(f"transformers has no model_type {kind!r}{nearest(str(kind), known)}")
        try:
            made = AutoConfig.for_model(kind, **given)
        except (TypeError, ValueError) as error:
            raise UserError(f"a configuration of '{kind}' does not take these settings ({error})") from error
    return getattr(made, "vision_config", None) or made


def read_preprocessor(folder: str | None) -> dict[str, Any]:
    """What preprocessor_config.json says, as CLIP's and others' folders have it; empty without one."""
    path = Path(folder or "") / "preprocessor_config.json"
    if folder is None or not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"'{path}' is no JSON ({error}); copy the model's folder again") from error
    return dict(found) if isinstance(found, Mapping) else {}


def make_model(config: Any) -> Any:
    """The model of a configuration, with random weights.

    Raises:
        UserError: transformers has no bare model of this kind, or the configuration is at odds with itself.
    """
    try:
        return AutoModel.from_config(config, trust_remote_code=False)
    except (ValueError, TypeError, ImportError) as error:
        kind = config.model_type
        raise UserError(f"transformers builds no model '{kind}' of this configuration ({error})") from error


def load_folder(folder: Path, config: Any, needs_pooler: bool = False) -> Any:
    """The model of a folder with its weights, as float32.

    Args:
        folder: what `save_pretrained` wrote.
        config: its configuration.
        needs_pooler: whether the pooling layer, which many folders lack, must be there.

    Raises:
        UserError: there are no weights in safetensors, or they are of another architecture.
    """
    try:
        with _quiet():
            model, report = AutoModel.from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise UserError(f"the model in '{folder}' cannot be loaded ({' '.join(str(error).split())[:300]})") from error
    missing = sorted(name for name in report["missing_keys"] if needs_pooler or not name.startswith("pooler."))
    shaped = sorted(row if isinstance(row, str) else str(row[0]) for row in report["mismatched_keys"])
    if missing or shaped:
        _refuse(str(folder), missing, shaped, sorted(report["unexpected_keys"]))
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """No report of tensors that a head has or that the bare model lacks; what matters is said as an error."""
    log = transformers.logging
    before, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(before)
        if bars:
            log.enable_progress_bar()


def load_model_weights(model: Any, path: Path) -> None:
    """Load a state dict of the bare model, or of one with a head on it, whose other tensors are not used.

    Raises:
        UserError: see `load_tensors`.
    """
    tensors = read_tensors(path)
    prefix = f"{model.base_model_prefix}."
    within = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    chosen = within or tensors
    load_tensors(model, chosen, str(path), unused=[name for name in chosen if name.startswith("pooler.")])


def _refuse(source: str, missing: Sequence[str], shaped: Sequence[str], unexpected: Sequence[str]) -> None:
    said = [
        f"{len(names)} {what}: {', '.join(names[:FEW])}{f' and {len(names) - FEW} more' if len(names) > FEW else ''}"
        for what, names in (("missing", missing), ("of another shape", shaped), ("unexpected", unexpected))
        if names
    ]
    raise UserError(
        f"the weights in '{source}' are of another architecture than its config.json ({'; '.join(said)}); "
        "copy the model's folder again"
    )
