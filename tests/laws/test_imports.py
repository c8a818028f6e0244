"""The law of imports: who may know whom inside the library, read from the syntax trees.

Every import counts, also one inside a function. One under ``if TYPE_CHECKING`` counts too, but may name torch
anywhere: no process runs it. A new package folder fails until it has its line in `LAYERS`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: part of the library -> parts it may import besides itself
BASE = {"errors", "clip", "batch", "randomness", "distributed"}
LAYERS: dict[str, set[str]] = {
    "": set(),  # mmssl/__init__.py imports nothing
    "errors": set(),
    "clip": {"errors", "randomness"},
    "batch": {"errors", "clip", "randomness"},
    "randomness": {"errors"},
    "distributed": {"errors"},
    "ops": BASE,
    "losses": BASE | {"ops"},
    "metrics": BASE | {"ops"},
    "nn": BASE | {"ops", "losses", "metrics"},
    # The data sees tokenizers only by their type, handed in from above.
    "data": BASE | {"ops"},
    "tasks": BASE | {"ops", "losses", "metrics", "nn", "data"},
    "evaluation": BASE | {"ops", "losses", "metrics", "nn", "data"},
    "localization": BASE | {"ops", "losses", "metrics", "nn", "data"},
    "training": BASE | {"ops", "losses", "metrics", "nn", "data", "tasks", "evaluation", "localization"},
    "report": BASE | {"ops", "losses", "metrics", "nn", "data", "tasks", "evaluation", "localization"},
}

#: a part sees these of another part by their type alone: under TYPE_CHECKING, never at run time
TYPES_ONLY: dict[str, set[str]] = {"data": {"mmssl.nn.tokenizer"}}

#: families under mmssl/tasks: files of one never import another
FAMILIES = {"context", "cross_modal", "generation", "free_labels", "contrastive", "text", "graph"}

#: files that worker processes and slim programs load; neither they nor what they import may load torch
TORCH_FREE = (
    "mmssl/__init__.py",
    "mmssl/clip.py",
    "mmssl/batch.py",
    "mmssl/randomness.py",
    "mmssl/errors.py",
    "mmssl/data/worker.py",
)
SLOW_TO_LOAD = {"torch", "torchvision", "torchaudio", "transformers"}


@dataclass(frozen=True)
class Import:
    """One imported name.

    Args:
        line: where.
        name: dotted module, with the imported name where it is taken from a module.
        typing_only: under ``if TYPE_CHECKING``.
        at_load: runs when the file is imported (not inside a function).
    """

    line: int
    name: str
    typing_only: bool
    at_load: bool


def imports_of(source: str, module: str, is_package: bool = False) -> Iterator[Import]:
    """All imports of a file; relative ones are resolved against `module`."""

    def visit(node: ast.AST, typing_only: bool, at_load: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name, typing_only, at_load)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".") if is_package else module.split(".")[:-1]
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                yield Import(node.lineno, f"{base}.{alias.name}", typing_only, at_load)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                yield from visit(child, True, at_load)
            for child in node.orelse:
                yield from visit(child, typing_only, at_load)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from visit(child, typing_only, at_load and not inside)

    yield from visit(ast.parse(source), False, True)


def part_of(name: str) -> str:
    """Part of the library that a dotted name belongs to: "ops" for mmssl.ops.crops.crop_at, "" for mmssl itself."""
    pieces = name.split(".")
    return pieces[1] if len(pieces) > 1 else ""


def broken(source: str, module: str, is_package: bool = False) -> list[str]:
    """What a file of the library imports against the law, as sentences."""
    found: list[str] = []
    part = part_of(module) if module != "mmssl" else ""
    if part not in LAYERS:
        return [f"{module}: '{part}' is in no layer; give it a line in LAYERS"]
    family = module.split(".")[2] if part == "tasks" and len(module.split(".")) > 3 else ""
    for item in imports_of(source, module, is_package):
        where = f"{module}:{item.line}"
        top = item.name.split(".")[0]
        if top in ("pipelines", "tests", "benchmarks"):
            found.append(f"{where} imports {item.name}: library code never imports {top}")
        if top != "mmssl":
            if part in ("ops", "losses") and not item.typing_only and not _allowed_outside(top):
                found.append(f"{where} imports {item.name}: {part} knows torch (and torchaudio) alone")
            continue
        other = part_of(item.name)
        if other == "__version__" or other == part:
            pass
        elif other not in LAYERS:
            found.append(f"{where} imports {item.name}: '{other}' is in no layer; give it a line in LAYERS")
        elif other not in LAYERS[part]:
            typed = item.typing_only and any(item.name.startswith(t) for t in TYPES_ONLY.get(part, ()))
            if not typed:
                found.append(f"{where} imports {item.name}: {part or 'mmssl'} may not know {other}")
        if family and part == other == "tasks":
            aside = item.name.split(".")[2]
            if aside in FAMILIES and aside != family:
                found.append(f"{where} imports {item.name}: no sideways imports between families of tasks")
    return found


def _allowed_outside(top: str) -> bool:
    import sys

    return top in sys.stdlib_module_names or top in {"torch", "torchaudio", "numpy", "__future__"}


def module_name(path: Path, root: Path = ROOT) -> str:
    """Dotted name of a file."""
    pieces = path.relative_to(root).with_suffix("").parts
    return ".".join(pieces[:-1] if pieces[-1] == "__init__" else pieces)


LIBRARY = sorted((ROOT / "mmssl").rglob("*.py"))


def test_no_file_breaks_the_law() -> None:
    found = [
        line for path in LIBRARY for line in broken(path.read_text(), module_name(path), path.name == "__init__.py")
    ]
    assert len(LIBRARY) > 50
    assert not found, "\n".join(found)


def test_every_part_of_the_library_has_its_layer() -> None:
    parts = {path.relative_to(ROOT / "mmssl").parts[0].removesuffix(".py") for path in LIBRARY}
    assert parts - {"__init__"} <= LAYERS.keys()
    assert {"ops", "losses", "metrics", "nn", "data", "tasks", "training"} <= parts


def test_every_family_of_tasks_is_known() -> None:
    folders = {path.parent.name for path in (ROOT / "mmssl" / "tasks").rglob("*.py") if path.parent.name != "tasks"}
    assert folders <= FAMILIES


def test_layers_have_no_circle() -> None:
    known: set[str] = {""}
    while known != LAYERS.keys():
        ready = {part for part, below in LAYERS.items() if below <= known} - known
        assert ready, f"a circle among {sorted(LAYERS.keys() - known)}"
        known |= ready


def loaded_by(path: Path, root: Path) -> dict[Path, str]:
    """The library's files that importing `path` loads, each with the file that asks for it."""
    packages = [folder / "__init__.py" for folder in path.parents if root in folder.parents]
    reached: dict[Path, str] = {file: "itself" for file in (path, *packages) if file.is_file()}
    waiting = list(reached)
    while waiting:
        current = waiting.pop()
        module = module_name(current, root)
        for item in imports_of(current.read_text(), module, current.name == "__init__.py"):
            if item.typing_only or not item.at_load or not item.name.startswith("mmssl"):
                continue
            pieces = item.name.split(".")
            for length in range(1, len(pieces) + 1):
                place = root.joinpath(*pieces[:length])
                for file in (place.with_suffix(".py"), place / "__init__.py"):
                    if file.is_file() and file not in reached:
                        reached[file] = module
                        waiting.append(file)
    return reached


def slow_imports(path: Path, root: Path) -> list[str]:
    """Imports of torch and its like that importing `path` would run."""
    return [
        f"{module_name(file, root)}:{item.line} imports {item.name} (loaded by {asker})"
        for file, asker in loaded_by(path, root).items()
        for item in imports_of(file.read_text(), module_name(file, root))
        if item.at_load and not item.typing_only and item.name.split(".")[0] in SLOW_TO_LOAD
    ]


@pytest.mark.parametrize("file", TORCH_FREE)
def test_workers_load_no_torch(file: str) -> None:
    found = slow_imports(ROOT / file, ROOT)
    assert not found, "\n".join(found)


# --------------------------------------------------------------------------------------------- the checker is checked


@pytest.mark.parametrize(
    ("module", "source", "said"),
    [
        ("mmssl.ops.crops", "from mmssl.losses import info_nce", "ops may not know losses"),
        ("mmssl.ops.crops", "def f():\n    import mmssl.nn.encoders", "ops may not know nn"),
        ("mmssl.ops.crops", "from ..data import stream", "ops may not know data"),
        ("mmssl.ops.crops", "import cv2", "ops knows torch"),
        ("mmssl.nn.image", "import pipelines.cli", "library code never imports pipelines"),
        ("mmssl.nn.image", "from tests import batches", "library code never imports tests"),
        ("mmssl.evaluation.knn", "from mmssl.tasks import TASKS", "evaluation may not know tasks"),
        ("mmssl.localization.maps", "import mmssl.tasks.base as base", "localization may not know tasks"),
        ("mmssl.tasks.context.rotation", "from mmssl.training import trainer", "tasks may not know training"),
        (
            "mmssl.tasks.context.rotation",
            "from mmssl.tasks.cross_modal.av_sync import AVSync",
            "no sideways imports between families",
        ),
        (
            "mmssl.tasks.context.rotation",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mmssl.training.trainer import Trainer",
            "tasks may not know training",
        ),
        ("mmssl.data.stream", "from mmssl.nn.tokenizer import Tokenizer", "data may not know nn"),
        ("mmssl.clip", "from mmssl.ops.crops import crop_at", "clip may not know ops"),
        ("mmssl.gadgets.thing", "import os", "'gadgets' is in no layer"),
        ("mmssl.nn.image", "from mmssl import gadgets", "'gadgets' is in no layer"),
    ],
)
def test_a_planted_violation_is_found(module: str, source: str, said: str) -> None:
    found = broken(source, module)
    assert len(found) == 1
    assert said in found[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("mmssl.tasks.context.rotation", "from mmssl.tasks.base import Moment\nfrom mmssl.ops.crops import crop_at"),
        ("mmssl.tasks.context.rotation", "from mmssl.tasks.context.order_prediction import OrderPrediction"),
        (
            "mmssl.data.stream",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mmssl.nn.tokenizer import Tokenizer",
        ),
        ("mmssl.training.trainer", "from mmssl.evaluation import knn\nfrom mmssl import distributed"),
    ],
)
def test_what_is_allowed_passes(module: str, source: str) -> None:
    assert broken(source, module) == []


def test_torch_is_found_behind_another_file(tmp_path: Path) -> None:
    package = tmp_path / "mmssl"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "data" / "__init__.py").write_text("")
    (package / "data" / "behind.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import torch\n"
        "def later():\n    import torch\n"
        "class At:\n    import torchaudio\n"
    )
    worker = package / "data" / "worker.py"
    worker.write_text("import numpy\n")
    assert slow_imports(worker, tmp_path) == []
    worker.write_text("from mmssl.data.behind import At\n")
    assert slow_imports(worker, tmp_path) == ["mmssl.data.behind:7 imports torchaudio (loaded by mmssl.data.worker)"]
    worker.write_text("import numpy\n")
    (package / "data" / "__init__.py").write_text("from mmssl.data import behind\n")  # runs before the worker does
    assert slow_imports(worker, tmp_path) == ["mmssl.data.behind:7 imports torchaudio (loaded by mmssl.data)"]
