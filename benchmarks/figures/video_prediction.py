"""What a trained video_prediction makes of clips in which much moves, as strips: a picture.

python benchmarks/figures/video_prediction.py RUN 'shards/test-*.tar' docs/figures/video_prediction.png

Figures: benchmarks/future_frames.py.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import matplotlib
import torch
import yaml

from mmssl.batch import Batch
from mmssl.data import Source, Stream
from mmssl.nn.encoders import Encoders, encoders_folder
from mmssl.tasks.base import Moment, MultiTask
from mmssl.tasks.generation.video_prediction import VideoPrediction
from mmssl.training.checkpoint import last_checkpoint

matplotlib.use("agg")
import matplotlib.pyplot as plt

NAME, BATCH = "video_prediction", 32
LATE = Moment(1, 1, 0, 1.0)
SHOWN = (0, 3, 6, 9)  # steps of the strips


def load(run: Path) -> MultiTask:
    """The task and its encoders as the run's last checkpoint has them."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    settings = config["tasks"][NAME]["init_args"]
    task = VideoPrediction(**settings | {"size": tuple(settings["size"])})  # YAML has lists
    multitask = MultiTask(Encoders.from_pretrained(encoders_folder(run)), {NAME: task})
    model = torch.load(last_checkpoint(run) / "model.pt", map_location="cpu", weights_only=True)
    multitask.load_state_dict(model)
    return multitask.eval()


def held_out(shards: str, multitask: MultiTask, clips: int) -> list[Batch]:
    """The first clips of the shards, in order, about their middle."""
    stream = Stream([Source("data", shards)], multitask.window, min(BATCH, clips), workers=0, shuffle=False,
                    repeat=False, anchor="centre", decoder="pyav")  # fmt: skip
    batches: list[Batch] = []
    with contextlib.closing(stream):
        for batch, _ in stream:
            batches.append(batch)
            if sum(map(len, batches)) >= clips:
                break
    return batches


@torch.inference_mode()
def draw(multitask: MultiTask, batch: Batch, out: str, clips: int = 2) -> None:
    """Strips of the clips in which most moves: what is seen, what comes, what is predicted, how wrong a copy is."""
    task: Any = multitask.tasks[NAME]
    example = task.pretext(batch, batch.draws(NAME), LATE)
    made = task.predict(example.past, multitask.encoders, LATE)
    multitask.encoders.forget()
    last = example.past[:, :, -1]
    moved = (example.future[:, -1] - last).abs().mean(dim=(1, 2, 3)) * example.weight
    rows = []
    for clip in moved.argsort(descending=True)[:clips].tolist():
        past = example.past[clip].transpose(0, 1)
        shown = [s for s in SHOWN if s < task.steps]
        seen = past[torch.linspace(0, task.frames - 1, len(shown)).round().long()]
        true, predicted = example.future[clip, shown], made[clip, shown]
        wrong, copied = (
            3 * (x - true).abs().mean(dim=1, keepdim=True).expand_as(true) for x in (predicted, last[clip])
        )
        rows.append([torch.cat(list(part), dim=2) for part in (seen, true, predicted, wrong, copied)])
    titles = ("seen", "what comes", "predicted", "3 x error", "3 x error of a copy")
    figure, axes = plt.subplots(len(rows), len(titles), figsize=(15, 0.8 * len(rows) + 0.3), layout="constrained")
    for number, (line, parts) in enumerate(zip(axes.reshape(len(rows), -1), rows, strict=True)):
        for axis, part, title in zip(line, parts, titles, strict=True):
            axis.imshow(part.clamp(0, 1).permute(1, 2, 0), interpolation="nearest")
            axis.set_axis_off()
            if number == 0:
                axis.set_title(title, fontsize=10)
    figure.savefig(out, dpi=100)


def main(run: str, shards: str, out: str) -> None:
    """Draw the strips."""
    torch.set_num_threads(1)
    multitask = load(Path(run))
    draw(multitask, held_out(shards, multitask, BATCH)[0], out)


if __name__ == "__main__":
    main(*sys.argv[1:])
