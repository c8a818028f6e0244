"""The bundle of encoders that all tasks share, how it is built, saved and loaded.

Saved as ``encoders/{config.json, model.safetensors, tokenizer.json, heads/<task>.safetensors + .json}``: the
classes by their dotted names with the arguments that build them, the weights in safetensors.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mmssl.errors import UserError, nearest
from mmssl.nn.features import Features
from mmssl.nn.matcher import Matcher
from mmssl.nn.tokenizer import Tokenizer


@dataclass(frozen=True)
class Build:
    """A class by its dotted name and the arguments that build it."""

    class_path: str
    init_args: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> Any:
        """Build the object; the class must be a `torch.nn.Module`."""
        module_name, _, class_name = self.class_path.rpartition(".")
        try:
            module = importlib.import_module(module_name)
        except (ImportError, ValueError) as error:
            raise UserError(f"class_path '{self.class_path}': {error}; give the full dotted name of a class") from error
        made = getattr(module, class_name, None)
        if not (isinstance(made, type) and issubclass(made, nn.Module)):
            hint = nearest(class_name, [name for name in vars(module) if name[:1].isupper()])
            raise UserError(f"class_path '{self.class_path}' is not a torch module class{hint}")
        return made(**self.init_args)


class Head(Protocol):
    """A module that a task exports: built again of its class and `init_args`, which JSON can hold."""

    init_args: dict[str, Any]

    def state_dict(self) -> dict[str, Any]:
        """Its tensors by name."""
        ...


HeadT = TypeVar("HeadT", bound=nn.Module)


class Encoders(nn.Module):
    """A bundle of encoders by name, shared by all tasks.

    Within a step `encode` runs an encoder once for the *same tensor object*: tasks that take the same view from the
    batch (`Batch.once`) share the forward. `forget()` ends the step.

    Args:
        builds: how each encoder is made, by name.
        tokenizer: the tokenizer of the text encoder, or None.
    """

    def __init__(self, builds: Mapping[str, Build], tokenizer: Tokenizer | None = None) -> None:
        super().__init__()
        self.builds = dict(builds)
        self.tokenizer = tokenizer
        self.parts = nn.ModuleDict({name: build.make() for name, build in builds.items()})
        self._shared: dict[tuple[str, int], tuple[torch.Tensor, Features]] = {}
        self.calls: dict[str, int] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self.parts:
            raise UserError(
                f"no encoder '{name}' in this bundle ({', '.join(self.parts)}){nearest(name, self.parts)}; "
                "add it under `encoders:`"
            )
        return self.parts[name]

    def __contains__(self, name: str) -> bool:
        return name in self.parts

    def names(self) -> Iterator[str]:
        """Names of the encoders."""
        return iter(self.parts.keys())

    def encode(self, name: str, x: torch.Tensor, *more: torch.Tensor) -> Features:
        """Features of `x` by the encoder `name`, computed once a step for the same tensor object."""
        key = (name, id(x))
        if key not in self._shared:
            self.calls[name] = self.calls.get(name, 0) + 1
            # The tensor is kept beside its features, so that its id cannot be given to another within the step.
            self._shared[key] = (x, self[name](x, *more))
        return self._shared[key][1]

    def forget(self) -> None:
        """Drop what was shared within the step."""
        self._shared.clear()

    def save(self, folder: Path, heads: Mapping[str, Head] | None = None) -> None:
        """Write the bundle and the tasks' exported heads; each file is written aside and renamed."""
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "format": "mmssl-encoders-1",
            "encoders": {
                n: {"class_path": b.class_path, "init_args": dict(b.init_args)} for n, b in self.builds.items()
            },
        }
        _write(folder / "config.json", json.dumps(config, indent=2).encode())
        _save_tensors(folder / "model.safetensors", self.state_dict())
        if self.tokenizer is not None:
            _write(folder / "tokenizer.json", self.tokenizer.to_json().encode())
        for task, head in (heads or {}).items():
            (folder / "heads").mkdir(exist_ok=True)
            _save_tensors(folder / "heads" / f"{task}.safetensors", head.state_dict())
            about = {"class_path": f"{type(head).__module__}.{type(head).__qualname__}", "init_args": head.init_args}
            _write(folder / "heads" / f"{task}.json", json.dumps(about, indent=2).encode())

    @classmethod
    def from_pretrained(cls, folder: Path | str, random_init: bool = False, seed: int = 0) -> Encoders:
        """Load a bundle from an ``encoders/`` folder, or from a run folder that holds one.

        Args:
            folder: the folder.
            random_init: keep the architecture and draw new weights (the baseline of every probe).
            seed: seed of the new weights.
        """
        folder = encoders_folder(folder)
        config = json.loads((folder / "config.json").read_text())
        builds = {n: Build(b["class_path"], b["init_args"]) for n, b in config["encoders"].items()}
        tokenizer_file = folder / "tokenizer.json"
        tokenizer = Tokenizer.from_json(tokenizer_file.read_text()) if tokenizer_file.is_file() else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            bundle = cls(builds, tokenizer)
        if not random_init:
            bundle.load_state_dict(load_file(folder / "model.safetensors"))
        return bundle.eval()

    @staticmethod
    def load_head(folder: Path | str, task: str) -> Matcher:
        """Load a head that a task exported to compare modalities; see `load_exported`."""
        return Encoders.load_exported(folder, task, Matcher)  # type: ignore[type-abstract]  # a kind of it is loaded

    @staticmethod
    def load_exported(folder: Path | str, task: str, kind: type[HeadT]) -> HeadT:
        """Load a head of any kind that a task exported (`heads/<task>.safetensors`).

        Raises:
            UserError: the task exported none, or one that is no `kind`.
        """
        heads = encoders_folder(folder) / "heads"
        about = heads / f"{task}.json"
        if not about.is_file():
            known = sorted(p.stem for p in heads.glob("*.json"))
            raise UserError(
                f"no exported head '{task}' in {heads} (there: {', '.join(known) or 'none'}){nearest(task, known)}"
            )
        build = Build(**json.loads(about.read_text()))
        head = build.make()
        if not isinstance(head, kind):
            raise UserError(f"{about}: {build.class_path} is no {kind.__name__}")
        head.load_state_dict(load_file(heads / f"{task}.safetensors"))
        return head.eval()


def encoders_folder(folder: Path | str) -> Path:
    """The folder with config.json: the given one, or its subfolder ``encoders``."""
    folder = Path(folder)
    for candidate in (folder, folder / "encoders"):
        if (candidate / "config.json").is_file() and (candidate / "model.safetensors").is_file():
            return candidate
    raise UserError(
        f"no encoders in {folder} (config.json and model.safetensors); give a run folder of `mmssl pretrain` or its "
        "`encoders` folder"
    )


def _write(path: Path, data: bytes) -> None:
    aside = path.with_name(path.name + ".partial")
    aside.write_bytes(data)
    aside.replace(path)


def _save_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    aside = path.with_name(path.name + ".partial")
    save_file({n: t.detach().cpu().contiguous().clone() for n, t in tensors.items()}, aside)
    aside.replace(path)
