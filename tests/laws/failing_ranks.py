"""What one rank does in `test_no_loss_in_silence.py`: ``python -m tests.laws.failing_ranks RANK WORLD FOLDER SHARDS``.

It trains on a real stream until the budget of failing samples stops it, and writes down where and why.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from mmssl import distributed
from mmssl.data import Stream
from mmssl.data.budget import TooManyFailures
from mmssl.training.optim import OptimizerSettings
from mmssl.training.settings import TrainSettings
from mmssl.training.trainer import Trainer
from tests.training.stand_ins import tiny_multitask


def main(rank: int, world: int, folder: Path, shards: str) -> None:
    torch.set_num_threads(1)
    if world > 1:
        store = f"file://{folder / 'meet'}"
        torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
    run = folder / f"run{world}"
    run.mkdir(exist_ok=True)
    multitask = tiny_multitask()
    stream = Stream(shards, multitask.window, 4, workers=0, shuffle=False)
    settings = TrainSettings(
        steps=200,
        checkpoint_every=200,
        log_every=10,
        monitor_every=0,
        heldout_every=0,
        gradients_every=0,
        tensorboard=False,
    )
    trainer = Trainer(multitask, stream, settings, OptimizerSettings(), run=run)
    try:
        trainer.train()
        found = {"error": None}
    except TooManyFailures as error:
        found = {"error": str(error), "causes": error.causes, "mine": stream.counters["samples"]}
    finally:
        stream.close()
    found["step"] = trainer.step
    (folder / f"rank{rank}of{world}.json").write_text(json.dumps(found))
    distributed.barrier()
    distributed.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
