"""Checkpoints: whole or absent, the newest kept, and what cannot be resumed says why."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from mmssl.errors import UserError
from mmssl.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mmssl.training.files import remove_folder, write_folder


def checkpoint(step: int, **changes: Any) -> Checkpoint:
    content: dict[str, Any] = {
        "step": step,
        "seed": 3,
        "model": {"weight": torch.full((2,), float(step))},
        "optimizer": {"state": {}, "param_groups": []},
        "scaler": {},
        "stream": {"position": 8 * step},
    }
    return Checkpoint(**(content | changes))


def test_saved_and_loaded(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, checkpoint(12), keep=2)
    assert folder == tmp_path / "checkpoints" / "step-0000012"
    loaded = load_checkpoint(tmp_path)
    assert (loaded.step, loaded.seed, loaded.stream) == (12, 3, {"position": 96})
    assert loaded.model["weight"].tolist() == [12.0, 12.0]


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        save_checkpoint(tmp_path, checkpoint(step), keep=2)
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == ["last", "step-0000003", "step-0000010"]


def test_killed_while_saving_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, checkpoint(1), keep=2)
    write = torch.save

    def dies(content: Any, path: Path) -> None:
        if path.name == "optimizer.pt":
            raise KeyboardInterrupt
        write(content, path)

    monkeypatch.setattr(torch, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, checkpoint(2), keep=2)
    monkeypatch.undo()
    assert load_checkpoint(tmp_path).step == 1
    save_checkpoint(tmp_path, checkpoint(2), keep=2)
    assert load_checkpoint(tmp_path).step == 2
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_no_run_no_checkpoint_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist, there is nothing to resume"):
        load_checkpoint(tmp_path / "run")
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match="has no checkpoint yet"):
        load_checkpoint(tmp_path / "run")
    save_checkpoint(tmp_path, checkpoint(1), keep=3)
    save_checkpoint(tmp_path, checkpoint(2), keep=3)
    remove_folder(tmp_path / "checkpoints" / "step-0000002")
    with pytest.raises(UserError, match=r"names the checkpoint 'step-0000002', which is not there.*\(step-0000001\)"):
        load_checkpoint(tmp_path)


def test_a_missing_data_position_is_an_error(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(4, stream={}), keep=1)
    with pytest.raises(UserError, match="holds no data position"):
        load_checkpoint(tmp_path)


def test_damage_and_other_formats_are_named(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, checkpoint(4), keep=1)
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(state | {"format": "mmssl-checkpoint-9"}))
    with pytest.raises(UserError, match="is of the format 'mmssl-checkpoint-9'"):
        load_checkpoint(tmp_path)
    (folder / "model.pt").write_bytes((folder / "model.pt").read_bytes()[:100])
    with pytest.raises(UserError, match="step-0000004 cannot be read"):
        load_checkpoint(tmp_path)
    (folder / "optimizer.pt").unlink()
    with pytest.raises(UserError, match=r"lacks optimizer\.pt; there is no other checkpoint"):
        load_checkpoint(tmp_path)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemError('ran')",))


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, checkpoint(4), keep=1)
    (folder / "model.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match="cannot be read"):
        load_checkpoint(tmp_path)


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "encoders"
    write_folder(target, lambda folder: (folder / "old").write_text("1") and None)
    write_folder(target, lambda folder: (folder / "new").write_text("2") and None)
    assert [p.name for p in target.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["encoders"]
