"""Checkpoints of a run: ``checkpoints/step-0001000/{model.pt, optimizer.pt, state.json}`` and ``checkpoints/last``.

A checkpoint is written aside, flushed and renamed, then ``last`` (a text file with the folder's name) is switched;
a process killed at any moment leaves the old checkpoint or the new one. The tensors are loaded with
``weights_only=True``: a checkpoint cannot run code. There is no random state in it: draws are functions of the
sample, and the global generators are reseeded at every step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmssl.errors import UserError
from mmssl.training.files import clear_leftovers, remove_folder, write_folder, write_whole

FORMAT = "mmssl-checkpoint-1"
_FILES = ("model.pt", "optimizer.pt", "state.json")


@dataclass(frozen=True)
class Checkpoint:
    """All that a run needs to go on as if it had not been stopped.

    Args:
        step: optimizer steps made.
        seed: seed of the run.
        model: state of encoders and tasks (heads, teachers, queues).
        optimizer: state of the optimizer.
        scaler: state of the gradient scaler, empty without fp16.
        stream: position in the data, as plain numbers, strings, lists and mappings.
    """

    step: int
    seed: int
    model: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, Any]
    scaler: Mapping[str, Any]
    stream: Mapping[str, Any]


def checkpoints_folder(run: Path) -> Path:
    """Where the checkpoints of a run folder lie."""
    return run / "checkpoints"


def save_checkpoint(run: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write a checkpoint, switch ``last`` to it, and remove all but the newest `keep`; returns its folder."""
    folder = checkpoints_folder(run)
    folder.mkdir(parents=True, exist_ok=True)
    clear_leftovers(folder)
    target = folder / f"step-{checkpoint.step:07d}"
    state = {
        "format": FORMAT,
        "step": checkpoint.step,
        "seed": checkpoint.seed,
        "stream": checkpoint.stream,
    }

    def fill(aside: Path) -> None:
        torch.save(dict(checkpoint.model), aside / "model.pt")
        torch.save({"optimizer": checkpoint.optimizer, "scaler": dict(checkpoint.scaler)}, aside / "optimizer.pt")
        (aside / "state.json").write_text(json.dumps(state, indent=2))

    write_folder(target, fill)
    write_whole(folder / "last", target.name + "\n")
    for old in _complete(folder)[:-keep]:
        if old != target:
            remove_folder(old)
    return target


def load_checkpoint(run: Path) -> Checkpoint:
    """The checkpoint that ``last`` names, on the CPU.

    Raises:
        UserError: there is no checkpoint, it is damaged, or it holds no data position.
    """
    target = last_checkpoint(run)
    missing = [name for name in _FILES if not (target / name).is_file()]
    if missing:
        raise UserError(f"checkpoint {target} lacks {', '.join(missing)}; {_other(target)}")
    try:
        state = json.loads((target / "state.json").read_text())
        model = torch.load(target / "model.pt", map_location="cpu", weights_only=True)
        rest = torch.load(target / "optimizer.pt", map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises what its unpickler and its zip reader please
        raise UserError(
            f"checkpoint {target} cannot be read ({type(error).__name__}: {error}); {_other(target)}"
        ) from error
    if state.get("format") != FORMAT:
        raise UserError(f"checkpoint {target} is of the format {state.get('format')!r}, this version reads {FORMAT!r}")
    if not state.get("stream"):
        raise UserError(
            f"checkpoint {target} holds no data position (`stream` in state.json): the run would silently start its "
            "data afresh; start a new run, and give it the encoders of this one"
        )
    return Checkpoint(
        step=int(state["step"]),
        seed=int(state["seed"]),
        model=model,
        optimizer=rest["optimizer"],
        scaler=rest["scaler"],
        stream=state["stream"],
    )


def last_checkpoint(run: Path) -> Path:
    """Folder of the checkpoint that a resumed run goes on from.

    Raises:
        UserError: the run folder does not exist or has no checkpoint.
    """
    folder = checkpoints_folder(run)
    if not run.is_dir():
        raise UserError(f"run folder {run} does not exist, there is nothing to resume; start it without --resume")
    try:
        name = (folder / "last").read_text().strip()
    except FileNotFoundError:
        raise UserError(
            f"run folder {run} has no checkpoint yet (stopped before the first one?); remove the folder or name "
            "another --run, and start without --resume"
        ) from None
    if Path(name).name != name or not (folder / name).is_dir():
        raise UserError(f"{folder / 'last'} names the checkpoint {name!r}, which is not there; {_other(folder / name)}")
    return folder / name


def _complete(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def _other(target: Path) -> str:
    others = [p.name for p in _complete(target.parent) if p != target]
    if not others:
        return "there is no other checkpoint in this run"
    return f"write the name of another one ({', '.join(others)}) into {target.parent / 'last'}"
