"""The bundle of encoders that all tasks share, how it is built, saved and loaded.

Saved as ``encoders/{config.json, model.safetensors, tokenizer.json, heads/<task>.safetensors + .json}``: the
classes by their dotted names with the arguments that build them, the weights in safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors.torch import save_file
from torch import nn

from mmssl.errors import UserError, nearest
from mmssl.nn.build import Build, read_builds
from mmssl.nn.features import Features
from mmssl.nn.matcher import Matcher
from mmssl.nn.tokenizer import Tokenizer
from mmssl.nn.weights import load_tensors, read_tensors

__all__ = ["Build", "Encoders", "Head", "encoders_folder", "evaluation_folder"]


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
        # What is saved builds the same without the files that the first weights came from.
        self.builds = {name: build.without_weights() for name, build in builds.items()}
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
        """Load a bundle from an ``encoders/`` folder, a run folder that holds one, or a file of builds.

        Args:
            folder: the folder, or a YAML or JSON file with `read_builds`'s contents.
            random_init: keep the architecture and draw new weights (the baseline of every probe).
            seed: seed of the new weights.

        Raises:
            UserError: no encoders there, or weights of another architecture.
        """
        folder = encoders_folder(folder)
        weights: dict[str, Path] = {}
        tokenizer = None
        if folder.is_file():
            builds, weights = read_builds(folder)
        else:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            builds = {n: Build(b["class_path"], b["init_args"]) for n, b in config["encoders"].items()}
            tokenizer_file = folder / "tokenizer.json"
            tokenizer = Tokenizer.from_json(tokenizer_file.read_text()) if tokenizer_file.is_file() else None
        if random_init or folder.is_dir():
            builds = {name: build.without_weights() for name, build in builds.items()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            bundle = cls(builds, tokenizer)
        if not random_init and folder.is_dir():
            load_tensors(bundle, read_tensors(folder / "model.safetensors"), str(folder / "model.safetensors"))
        for name, path in weights.items() if not random_init else ():
            load_part(bundle[name], name, path)
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
        file = heads / f"{task}.safetensors"
        load_tensors(head, read_tensors(file), str(file))
        return head.eval()


def encoders_folder(folder: Path | str) -> Path:
    """The folder with config.json: the given one, or its subfolder ``encoders``; a file of builds stays as it is."""
    folder = Path(folder)
    if folder.is_file():
        return folder
    for candidate in (folder, folder / "encoders"):
        if (candidate / "config.json").is_file() and (candidate / "model.safetensors").is_file():
            return candidate
    raise UserError(
        f"no encoders in {folder} (config.json and model.safetensors); give a run folder of `mmssl pretrain` or its "
        "`encoders` folder, or a YAML file that names classes of encoders"
    )


def evaluation_folder(encoders: Path | str) -> Path:
    """Where evaluations of the encoders go unless told otherwise: beside them, or beside the file of builds."""
    found = encoders_folder(encoders)
    beside = found.parent / "evaluation"
    return beside / found.stem if found.is_file() else beside


def load_part(part: Any, name: str, path: Path) -> None:
    """Load one encoder's weights: from a run or its ``encoders`` folder, which has an encoder of this name, or a file.

    A file holds the encoder's own weights, those of its library, or a bundle (``model.safetensors``).

    Raises:
        UserError: they cannot be read, or are of another architecture.
    """
    if path.is_dir():
        folder = encoders_folder(path)
        saved_build(folder, name)
        path = folder / "model.safetensors"
    elif hasattr(part, "load_weights"):
        part.load_weights(path)
        return
    tensors = read_tensors(path)
    within = {n.removeprefix(f"parts.{name}."): t for n, t in tensors.items() if n.startswith(f"parts.{name}.")}
    load_tensors(part, within or tensors, str(path))


def saved_build(folder: Path, name: str) -> Build:
    """How an encoder of a run, or of an ``encoders`` folder, was made.

    Raises:
        UserError: there is none of this name.
    """
    about = encoders_folder(folder) / "config.json"
    known = json.loads(about.read_text(encoding="utf-8"))["encoders"]
    if name not in known:
        raise UserError(f"no encoder '{name}' in {about} (there: {', '.join(sorted(known))}){nearest(name, known)}")
    return Build(known[name]["class_path"], known[name]["init_args"]).without_weights()


def _write(path: Path, data: bytes) -> None:
    aside = path.with_name(path.name + ".partial")
    aside.write_bytes(data)
    aside.replace(path)


def _save_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    aside = path.with_name(path.name + ".partial")
    save_file({n: t.detach().cpu().contiguous().clone() for n, t in tensors.items()}, aside)
    aside.replace(path)
