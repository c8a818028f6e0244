"""What a run writes down: metrics.jsonl (one JSON object a step or event), TensorBoard, and a line on the terminal.

Rows: ``{"event": "step", "step", "loss", "<task>/loss", "<task>/<metric>", "clips_per_second", "data_wait", "lr",
"keys", ...}``; ``"heldout"``, ``"monitor"``, ``"warning"``, ``"checkpoint"``, ``"start"``, ``"resume"``, ``"end"``.
`step` counts finished optimizer steps, so a checkpoint of step n keeps the rows up to n. Rank 0 alone writes.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmssl import distributed
from mmssl.training.files import write_whole

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def plain(value: Any) -> Any:
    """A value as JSON can hold it: numbers that are not finite become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value


def cut_back(path: Path, step: int) -> int:
    """Leave only the rows up to `step` (and no half line of a killed run); returns how many were cut off."""
    if not path.exists():
        return 0
    kept, cut = [], 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            within = json.loads(line)["step"] <= step
        except (ValueError, KeyError, TypeError):
            within = False
        if within:
            kept.append(line + "\n")
        else:
            cut += 1
    write_whole(path, "".join(kept))
    return cut


class RunLog:
    """Writes the rows of one run, on rank 0.

    Args:
        run: the run folder.
        step: steps already made; what the files hold beyond it is cut off.
        tensorboard: whether to write ``tensorboard/`` too.
    """

    def __init__(self, run: Path, step: int = 0, tensorboard: bool = True) -> None:
        self.path = run / "metrics.jsonl"
        self._file = None
        self._board: SummaryWriter | None = None
        if not distributed.is_main():
            return
        cut_back(self.path, step)
        self._file = open(self.path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 - closed by close()
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1 if step else None)

    def event(self, name: str, step: int, **fields: Any) -> None:
        """Write one row; `fields` may have any names, slashes too."""
        if self._file is None:
            return
        row = {"event": name, "step": step} | {key: plain(value) for key, value in fields.items()}
        self._file.write(json.dumps(row, allow_nan=False, ensure_ascii=False) + "\n")
        if self._board is not None:
            prefix = "" if name == "step" else f"{name}/" + (f"{fields['task']}/" if "task" in fields else "")
            for key, value in fields.items():
                if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                    self._board.add_scalar(prefix + key, value, step)

    def flush(self) -> None:
        """Bring all rows to the disk (before a checkpoint that counts on them)."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._board is not None:
            self._board.close()
            self._board = None
