"""How an encoder is made: a class by its dotted name with its arguments, from a config or from a file of builds."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from mmssl.errors import UserError, nearest

SETTINGS = ("class_path", "init_args", "weights")


@dataclass(frozen=True)
class Build:
    """A class by its dotted name and the arguments that build it."""

    class_path: str
    init_args: Mapping[str, Any] = field(default_factory=dict)

    def kind(self) -> type[nn.Module]:
        """The class; it must be a `torch.nn.Module`."""
        module_name, _, class_name = self.class_path.rpartition(".")
        try:
            module = importlib.import_module(module_name)
        except (ImportError, ValueError) as error:
            raise UserError(f"class_path '{self.class_path}': {error}; give the full dotted name of a class") from error
        found = getattr(module, class_name, None)
        if not (isinstance(found, type) and issubclass(found, nn.Module)):
            hint = nearest(class_name, [name for name in vars(module) if name[:1].isupper()])
            raise UserError(f"class_path '{self.class_path}' is not a torch module class{hint}")
        return found

    def make(self) -> Any:
        """Build the object."""
        return self.kind()(**self.init_args)

    def without_weights(self) -> Build:
        """The same architecture, with arguments that name no file of weights.

        A class whose arguments can name one has a class method `architecture`, which takes the arguments and gives
        those that build the same with random weights.
        """
        architecture = getattr(self.kind(), "architecture", None)
        return self if architecture is None else Build(self.class_path, architecture(**self.init_args))


def read_builds(path: Path) -> tuple[dict[str, Build], dict[str, Path]]:
    """Builds of encoders by name, and the weights of those that name a file, from a YAML or JSON file.

    The file holds ``video: {class_path: ..., init_args: {...}, weights: FILE}`` and so on; a relative path of
    weights is beside the file.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))  # JSON is YAML
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"encoders '{path}' cannot be read as YAML or JSON ({' '.join(str(error).split())})") from error
    example = "name: {class_path: mmssl.nn.given.torchvision.TorchvisionEncoder, init_args: {name: resnet18}}"
    if not isinstance(given, Mapping) or not given:
        raise UserError(f"encoders '{path}' must hold encoders by name, such as {example}")
    builds, weights = {}, {}
    for name, about in given.items():
        if not isinstance(about, Mapping) or not isinstance(about.get("class_path"), str):
            raise UserError(f"encoders '{path}': '{name}' must be {{class_path: ..., init_args: ...}}, got {about!r}")
        for key in about:
            if key not in SETTINGS:
                raise UserError(f"encoders '{path}': unknown setting '{name}.{key}'{nearest(str(key), SETTINGS)}")
        arguments = about.get("init_args") or {}
        if not isinstance(arguments, Mapping):
            raise UserError(f"encoders '{path}': '{name}.init_args' must be names and values, got {arguments!r}")
        builds[str(name)] = Build(about["class_path"], json.loads(json.dumps(dict(arguments))))
        if about.get("weights") is not None:
            weights[str(name)] = path.parent / str(about["weights"])
    return builds, weights
