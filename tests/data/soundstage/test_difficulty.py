"""Slow: the action cannot be told from one frame, and can from the video.

Two small supervised networks, trained with the labels on 1,000 clips and scored on 300 of another split.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmssl.data.soundstage import ACTIONS, PRESETS, render_clip

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]
DEMO = PRESETS["demo"]
CHANCE = 1 / len(ACTIONS)


def _clip(name: tuple[str, int]) -> tuple[np.ndarray, int]:
    clip = render_clip("demo", 4, *name)
    return clip.frames, ACTIONS.index(clip.truth["action"])


@pytest.fixture(scope="module")
def parts() -> dict[str, tuple[np.ndarray, torch.Tensor]]:
    """Frames uint8 [N, 38, 96, 96, 3] and actions [N] of both splits."""
    found = {}
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for split, count in (("train", 1000), ("test", 300)):
            clips = list(pool.map(_clip, [(split, index) for index in range(count)], chunksize=20))
            found[split] = (np.stack([frames for frames, _ in clips]), torch.tensor([action for _, action in clips]))
    return found


class FrameNet(nn.Sequential):
    """RGB [B, 3, 96, 96] to scores of the actions."""

    def __init__(self, width: int = 48) -> None:
        super().__init__(
            *_block(nn.Conv2d(3, width, 4, 4)),
            *_block(nn.Conv2d(width, width, 3, 1, 1)),
            *_block(nn.Conv2d(width, 2 * width, 3, 2, 1)),
            *_block(nn.Conv2d(2 * width, 2 * width, 3, 1, 1)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(2 * width, len(ACTIONS)),
        )


class VideoNet(nn.Module):
    """Grey video [B, 16, 96, 96] at 8 frames a second to scores of the actions."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_block(nn.Conv3d(1, width, (3, 4, 4), (1, 4, 4), (1, 0, 0))),
            *_block(nn.Conv3d(width, width, 3, 1, 1)),
            *_block(nn.Conv3d(width, 2 * width, 3, 1, 1)),
            *_block(nn.Conv3d(2 * width, 2 * width, 3, 2, 1)),
            *_block(nn.Conv3d(2 * width, 2 * width, 3, (2, 1, 1), 1)),
        )
        self.head = nn.Linear(4 * width, len(ACTIONS))

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        features = self.body(F.avg_pool2d(video, 2)[:, None]).mean(dim=2)
        return self.head(torch.cat([features.amax(dim=(2, 3)), features.mean(dim=(2, 3))], dim=1))


def _block(convolution: nn.Module) -> tuple[nn.Module, ...]:
    norm = nn.BatchNorm3d if isinstance(convolution, nn.Conv3d) else nn.BatchNorm2d
    return convolution, norm(convolution.out_channels), nn.ReLU()


def _frame(clips: np.ndarray, start: np.ndarray) -> torch.Tensor:
    pictures = clips[np.arange(len(clips)), (start * 37).astype(int)]
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255 - 0.5


def _video(clips: np.ndarray, start: np.ndarray) -> torch.Tensor:
    times = start[:, None] + np.arange(16) / 8  # two of the three seconds
    at = np.clip(np.round(times * float(DEMO.rate)).astype(int), 0, DEMO.frames - 1)
    grey = clips[np.arange(len(clips))[:, None], at].mean(axis=-1, dtype=np.float32)
    return torch.from_numpy(grey) / 255 - 0.5


def _accuracy(net: nn.Module, view, parts, epochs: int, repeats: int) -> float:  # type: ignore[no-untyped-def]
    """Train on random views of the train part; accuracy on the test part, three views averaged."""
    random = np.random.default_rng(0)
    clips, labels = parts["train"]
    order = np.concatenate([random.permutation(np.repeat(np.arange(len(labels)), repeats)) for _ in range(epochs)])
    batches = order[: len(order) // 32 * 32].reshape(-1, 32)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, len(batches))
    for ids in batches:
        inputs = view(clips[ids], random.random(32))
        loss = F.cross_entropy(net(inputs.flip(-1) if random.random() < 0.5 else inputs), labels[ids])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    net.eval()
    clips, labels = parts["test"]
    with torch.no_grad():
        views = [view(clips, np.full(len(clips), start)) for start in (0.0, 0.5, 1.0)]
        scores = sum(torch.cat([net(part) for part in inputs.split(50)]).softmax(dim=1) for inputs in views)
    return float((scores.argmax(dim=1) == labels).float().mean())


def test_one_frame_tells_the_action_hardly_better_than_chance(parts) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    assert _accuracy(FrameNet(), _frame, parts, epochs=8, repeats=4) < CHANCE + 0.10


def test_video_tells_the_action(parts) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    assert _accuracy(VideoNet(), _video, parts, epochs=25, repeats=1) > 0.90
