"""A stream and a task small enough to train in milliseconds: what the loop's own tests run on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn

from mmssl import distributed
from mmssl.batch import Batch, Truth
from mmssl.clip import Span, Window
from mmssl.nn.encoders import Build, Encoders
from mmssl.nn.features import Features
from mmssl.randomness import Draws, mix, sample_seed
from mmssl.tasks.base import Moment, MultiTask, Outcome, PretextTask, Score, rate, valid_rows

SIZE = (8, 8)
SPAN = Span(0.3, 10)  # three frames


class TinyEncoder(nn.Module):
    """Pictures [B, 3, H, W] -> a vector; dropout, so that the global generators matter."""

    modality = "image"
    strides: tuple[int, ...] = ()

    def __init__(self, width: int = 8, dropout: float = 0.1, modality: str = "image") -> None:
        super().__init__()
        self.width = width
        self.modality = modality
        self.level_widths: dict[int, int] = {}
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(3 * SIZE[0] * SIZE[1], 32), nn.LayerNorm(32), nn.ReLU(), nn.Dropout(dropout)
        )
        self.project = nn.Linear(32, width)

    def forward(self, x: torch.Tensor) -> Features:
        return Features(pooled=self.project(self.layers(x)))


class Turn(NamedTuple):
    frames: torch.Tensor
    label: torch.Tensor
    weight: torch.Tensor


class UpOrDown(PretextTask[Batch, Turn]):
    """Is the picture upside down? Frames are brighter above, so the answer lies in the picture."""

    uses: ClassVar = {"image": "image"}
    needs = ("picture",)
    score = Score(metric="accuracy", floor=0.5, ceiling=1.0)
    ablated_input = "picture"

    def __init__(self, poison_at: int | None = None) -> None:
        super().__init__()
        self.window = Window(picture=SPAN, size=SIZE)
        self.poison_at = poison_at
        self.register_buffer("steps_made", torch.zeros((), dtype=torch.int64))

    def setup(self, encoders: Encoders) -> None:
        self.head = nn.Linear(encoders["image"].width, 2)

    def pretext(self, batch: Batch, draws: Draws, moment: Moment) -> Turn:
        frames = batch.frames_of(SPAN)[:, 1].float() / 255
        label = draws.integers("turn", 2)
        turned = torch.where(label[:, None, None, None] == 1, frames.flip(2), frames)
        return Turn(turned, label, valid_rows(self, batch))

    def forward(self, example: Turn, encoders: Encoders, moment: Moment) -> Outcome:
        logits = self.head(encoders.encode("image", example.frames).pooled).float()
        losses = nn.functional.cross_entropy(logits, example.label, reduction="none")
        if self.training and self.poison_at == moment.step:
            losses = losses * float("nan")
        return Outcome(
            losses={"cross_entropy": distributed.global_mean(losses, example.weight)},
            metrics={"accuracy": rate(logits.argmax(dim=1) == example.label, example.weight)},
            carry={"rows": example.weight},
        )

    def after_step(self, encoders: Encoders, carries: Any, moment: Moment) -> None:
        self.steps_made += 1


class Pairs(UpOrDown):
    """The same with a declared comparison of rows."""

    negatives = True


class TinyStream:
    """Endless (or one pass of) clips made from their number; the position is all its state."""

    def __init__(
        self,
        clips: int = 40,
        batch_size: int = 8,
        seed: int = 0,
        repeat: bool = True,
        name: str = "tiny",
        sleep: float = 0.0,
    ) -> None:
        self.clips, self.batch_size, self.seed, self.repeat, self.name = clips, batch_size, seed, repeat, name
        self.sleep = sleep
        self.position = 0
        self.closed = 0
        self.counters: dict[str, int] = {"samples": 0}

    @property
    def epoch(self) -> int:
        return self.position // self.clips

    def __iter__(self) -> Iterator[tuple[Batch, Truth]]:
        while self.repeat or self.position < self.clips:
            numbers = np.arange(self.position, self.position + self.batch_size)
            self.position += self.batch_size
            share = self.batch_size // distributed.world_size()
            mine = numbers[distributed.rank() * share : (distributed.rank() + 1) * share]
            self.counters["samples"] += len(mine)
            yield self.batch(mine), Truth((), (), ())

    def batch(self, numbers: np.ndarray) -> Batch:
        if self.sleep:
            import time

            time.sleep(self.sleep)
        rows = len(numbers)
        keys = [f"clip{n % self.clips:03d}" for n in numbers]
        seeds = np.array(
            [sample_seed(self.seed, int(n) // self.clips, self.name, k) for n, k in zip(numbers, keys, strict=True)]
        )
        content = mix(torch.tensor([int(k[4:]) for k in keys]))[:, None] + torch.arange(3 * 3 * 64)
        frames = (mix(content) & 127).reshape(rows, 1, 3, 3, *SIZE)
        frames[..., : SIZE[0] // 2, :] += 128
        times = torch.from_numpy(np.stack([SPAN.times(0.5, 1.0)] * rows))[:, None]
        weight = torch.ones(rows)
        weight[[row for row, key in enumerate(keys) if key == "clip007"]] = 0.0  # one clip is a hole
        return Batch(
            keys=tuple(keys),
            sources=(self.name,) * rows,
            seeds=torch.from_numpy(seeds),
            weight=weight,
            pixels=frames.to(torch.uint8),
            wanted_times=times,
            frame_times=times,
            audio=torch.zeros(rows, 1, 0),
            audio_start=torch.zeros(rows, 1, dtype=torch.float64),
            audio_rate=0,
            has_picture=torch.ones(rows, dtype=torch.bool),
            has_audio=torch.zeros(rows, dtype=torch.bool),
            has_text=torch.zeros(rows, dtype=torch.bool),
            duration=torch.ones(rows, dtype=torch.float64),
            anchors=torch.full((rows, 1), 0.5, dtype=torch.float64),
            geometry=torch.eye(2, 3, dtype=torch.float64).expand(rows, 2, 3),
            sentences=((),) * rows,
            sentence_mask=torch.zeros(rows, 0, dtype=torch.bool),
            sentence_times=torch.zeros(rows, 0, 2, dtype=torch.float64),
            token_ids=torch.zeros(rows, 0, 0, dtype=torch.int64),
            token_mask=torch.zeros(rows, 0, 0, dtype=torch.bool),
            counters={"decoder_calls": rows, "decoded_pictures": 3 * rows},
        )

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.position = int(state["position"])

    def close(self) -> None:
        self.closed += 1


def tiny_multitask(seed: int = 0, dropout: float = 0.1, **tasks: PretextTask[Any, Any]) -> MultiTask:
    """One image encoder and the given tasks (one `UpOrDown` by default) with weights from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoders = Encoders({"image": Build(f"{__name__}.TinyEncoder", {"dropout": dropout})})
        return MultiTask(encoders, tasks or {"turn": UpOrDown()})
