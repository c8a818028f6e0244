"""Settings from YAML files and flags: typed by signatures (jsonargparse), all faults at once, nearest names.

Before jsonargparse builds anything, the files are walked beside the dataclasses and the signatures of the classes
that they name, and every unknown key and every value of a wrong type is collected: one run shows all that is to be
mended, before any data is touched.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from mmssl.errors import UserError, nearest

T = TypeVar("T")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read one config file; UserError when it is missing or no mapping."""
    try:
        text = path.read_text()
    except OSError as error:
        raise UserError(f"config {path}: {error.strerror}; give an existing YAML file") from error
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"config {path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise UserError(f"config {path} must hold settings as `name: value`, found {type(data).__name__}")
    return data


def _wrong_type(annotation: Any, value: Any) -> str | None:
    """What jsonargparse says of one value for one annotation, or None."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=annotation)
    try:
        parser.parse_object({"value": value})
    except (ArgumentError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()
        return reason[-1].strip() if reason else type(error).__name__
    return None


def _named_class_faults(value: Mapping[str, Any], where: str, known: Sequence[str]) -> list[str]:
    """Faults of ``{class_path: ..., init_args: {...}}``, or of what else is `known` to stand there."""
    faults = [f"unknown setting '{where}.{key}'{nearest(key, known)}" for key in value if key not in known]
    class_path = value.get("class_path")
    if class_path is None and value.get("weights") is not None and "weights" in known:
        return faults  # the class may be that of the run whose weights they are
    if not isinstance(class_path, str):
        return [*faults, f"'{where}.class_path' must name a class, for example mmssl.tasks.context.rotation.Rotation"]
    module_name, _, class_name = class_path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
        made = getattr(module, class_name)
    except (ImportError, ValueError, AttributeError) as error:
        return [*faults, f"'{where}.class_path': no class '{class_path}' ({error})"]
    arguments = value.get("init_args") or {}
    parameters = {n: p for n, p in inspect.signature(made.__init__).parameters.items() if n != "self"}
    hints = typing.get_type_hints(made.__init__)
    for key, given in arguments.items():
        if key not in parameters:
            faults.append(f"unknown setting '{where}.init_args.{key}'{nearest(key, parameters)}")
        elif key in hints and (wrong := _wrong_type(hints[key], given)):
            faults.append(f"'{where}.init_args.{key}': {given!r} is not of type {_name(hints[key])} ({wrong})")
    return faults


def _name(annotation: Any) -> str:
    return getattr(annotation, "__name__", None) or str(annotation).replace("typing.", "")


def find_faults(kind: type, data: Mapping[str, Any], where: str = "") -> list[str]:
    """All unknown keys and ill-typed values of settings meant for the dataclass `kind`."""
    faults: list[str] = []
    hints = typing.get_type_hints(kind)
    fields = {f.name for f in dataclasses.fields(kind)}
    for key, value in data.items():
        path = f"{where}{key}"
        if key not in fields:
            faults.append(f"unknown setting '{path}'{nearest(str(key), fields)}")
            continue
        annotation = hints[key]
        if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
            if isinstance(value, Mapping):
                faults += find_faults(annotation, value, path + ".")
            else:
                faults.append(f"'{path}' must hold settings as `name: value`, got {value!r}")
        elif isinstance(value, Mapping) and any(
            isinstance(v, Mapping) and {"class_path", "weights"} & v.keys() for v in value.values()
        ):
            # Classes that are built later, with weights, are plain settings until then.
            later = ("weights",) if annotation == dict[str, dict[str, Any]] else ()
            known = ("class_path", "init_args", *later)
            for name, named in value.items():
                if isinstance(named, Mapping):
                    faults += _named_class_faults(named, f"{path}.{name}", known)
                else:
                    faults.append(f"'{path}.{name}' must be {{class_path: ..., init_args: ...}}, got {named!r}")
        elif wrong := _wrong_type(annotation, value):
            faults.append(f"'{path}': {value!r} is not of type {_name(annotation)} ({wrong})")
    return faults


def _config_files(arguments: Sequence[str]) -> list[Path]:
    files = []
    for position, argument in enumerate(arguments):
        if argument == "--config" and position + 1 < len(arguments):
            files.append(Path(arguments[position + 1]))
        elif argument.startswith("--config="):
            files.append(Path(argument.partition("=")[2]))
    return files


def _parse(parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    try:
        return parser.parse_args(list(arguments))
    except ArgumentError as error:
        message = " ".join(str(error).split())
        for word in message.split("'") + message.split():
            if word.startswith("--"):
                known = [o for action in parser._actions for o in action.option_strings]
                name = word.split("=")[0].rstrip(".,:")
                if name not in known:
                    message += nearest(name, known)
                    break
        raise UserError(f"{message}. See `{parser.prog} --help`") from error


def parse_settings(
    kind: type[T], arguments: Sequence[str], prog: str, flags: Mapping[str, str] | None = None
) -> tuple[T, dict[str, bool], str]:
    """Settings of the dataclass `kind` from ``--config FILE`` (several: later wins) and dotted flags.

    Args:
        kind: the dataclass.
        arguments: the command line after the verb.
        prog: name of the command in messages.
        flags: further switches (name -> help) that are no settings.

    Returns:
        The settings, the switches, and the resolved settings as YAML.

    Raises:
        UserError: listing every fault of the files, or the first of the flags.
    """
    faults = []
    for path in _config_files(arguments):
        faults += [f"{path}: {fault}" for fault in find_faults(kind, read_yaml(path))]
    if faults:
        raise UserError(f"{len(faults)} fault{'s' * (len(faults) > 1)} in the settings:\n  " + "\n  ".join(faults))
    parser = ArgumentParser(prog=prog, exit_on_error=False, description=inspect.getdoc(kind))
    parser.add_argument("--config", action="config", help="YAML file of settings; give several to override")
    for name, text in (flags or {}).items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    parser.add_class_arguments(kind)
    namespace = _parse(parser, arguments)
    switches = {name: bool(namespace.pop(name)) for name in flags or {}}
    namespace.pop("config", None)
    resolved = yaml.safe_dump(yaml.safe_load(parser.dump(namespace, skip_validation=True)), sort_keys=False)
    built = parser.instantiate_classes(namespace)
    names = [f.name for f in dataclasses.fields(typing.cast(Any, kind))]
    try:
        return kind(**{name: built[name] for name in names}), switches, resolved
    except (ValueError, TypeError) as error:
        raise UserError(str(error)) from error


def _switches(function: Callable[..., Any], arguments: Sequence[str]) -> list[str]:
    """`--quick` for `--quick true` where a parameter is a yes or no."""
    hints = typing.get_type_hints(function)
    given = list(arguments)
    for position, argument in enumerate(given):
        following = given[position + 1].lower() if position + 1 < len(given) else ""
        is_switch = argument.startswith("--") and hints.get(argument[2:].replace("-", "_")) is bool
        if is_switch and following not in ("true", "false", "yes", "no"):
            given[position] = argument + "=true"
    return given


def _lists(function: Callable[..., Any], arguments: Sequence[str]) -> list[str]:
    """`--compare a b` as one list where a parameter is a list of paths or words, and `a b` where the first one is."""
    hints = typing.get_type_hints(function)
    kinds = (list[Path], list[Path] | None, list[str], list[str] | None)
    parameters = inspect.signature(function).parameters.values()
    lists = {p.name for p in parameters if hints.get(p.name) in kinds}
    first = next(iter(parameters), None)
    given: list[str] = []
    waiting = list(arguments)
    leading = first is not None and first.name in lists and first.default is first.empty
    if leading and waiting and not waiting[0].startswith(("-", "[")):
        given.append(json.dumps(_taken(waiting)))
    while waiting:
        argument = waiting.pop(0)
        is_list = argument.startswith("--") and argument[2:].replace("-", "_") in lists
        if is_list and waiting and not waiting[0].startswith(("--", "[")):  # else it is written as a list already
            argument = f"{argument}={json.dumps(_taken(waiting))}"
        given.append(argument)
    return given


def _taken(waiting: list[str]) -> list[str]:
    """The words before the next flag, taken off `waiting`."""
    words = []
    while waiting and not waiting[0].startswith("--"):
        words.append(waiting.pop(0))
    return words


def call(function: Callable[..., Any], arguments: Sequence[str], prog: str) -> Any:
    """Call a function with arguments parsed by its signature and docstring; required ones are positional."""
    parser = ArgumentParser(prog=prog, exit_on_error=False, description=(inspect.getdoc(function) or "").split("\n")[0])
    parser.add_function_arguments(function, as_positional=True, fail_untyped=True)
    namespace = _parse(parser, _lists(function, _switches(function, arguments)))
    built = parser.instantiate_classes(namespace)
    return function(**{name: built[name] for name in inspect.signature(function).parameters})
