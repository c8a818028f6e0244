"""What `MultiTask` sees to for every task: labels in full precision, and controls that reach a task's own encoders."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch

from mmssl.batch import Batch
from mmssl.clip import Span, Window
from mmssl.nn.encoders import Encoders
from mmssl.nn.teacher import Teacher
from mmssl.ops.kmeans import nearest_centroid
from mmssl.randomness import Draws
from mmssl.tasks.base import Moment, MultiTask, Outcome, PretextTask, Score
from tests.batches import World, small_encoders

MOMENT = Moment(0, 1, 0, 0.0)


class LookExample(NamedTuple):
    """Frames."""

    picture: torch.Tensor  # float32 [B, 3, H, W]


class Look(PretextTask[Batch, LookExample]):
    """Notes in which precision it is asked, and how far its teacher tells clips apart."""

    uses: ClassVar = {"image": "image"}
    needs: ClassVar = ("picture",)
    score = Score("seen", floor=0.0, ceiling=1.0)
    ablated_input: ClassVar = "picture"
    paired: ClassVar = ("picture",)

    def __init__(self) -> None:
        super().__init__()
        self.window = Window(picture=Span(1.0, 4.0), size=(32, 32))
        self.precise: list[bool] = []
        self.told: list[float] = []

    def setup(self, encoders: Encoders) -> None:
        self.teacher = Teacher(encoders["image"])

    def pretext(self, batch: Batch, draws: Draws, moment: Moment) -> LookExample:
        self.precise.append(not torch.is_autocast_enabled("cpu"))
        return LookExample(batch.frames_of(self.window.pictures[0])[:, 0].float() / 255)

    def forward(self, example: LookExample, encoders: Encoders, moment: Moment) -> Outcome:
        self.precise.append(not torch.is_autocast_enabled("cpu"))
        self.told.append(float(self.teacher(example.picture).pooled.std(dim=0).max()))
        return Outcome({"mean": encoders.encode("image", example.picture).pooled.float().mean()})


def test_labels_are_made_outside_autocast_and_networks_run_inside() -> None:
    task = Look()
    multitask = MultiTask(small_encoders(), {"look": task})
    with torch.autocast("cpu", torch.bfloat16):
        multitask(World(2, task.window, seed=0).batch(range(2)), MOMENT)
    assert task.precise == [True, False]


def test_blind_training_hides_the_input_from_a_teacher_too() -> None:
    task = Look()
    multitask = MultiTask(small_encoders(), {"look": task}, control="blind")
    batch = World(2, task.window, seed=0).batch(range(2))
    multitask.train()(batch, MOMENT)
    multitask.eval()(batch, MOMENT)
    blind, seeing = task.told
    assert blind == 0
    assert seeing > 0


def test_the_nearest_cluster_is_the_same_under_autocast() -> None:
    points = 100 + torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    centroids = points[:16].clone()
    wanted = torch.cdist(points.double(), centroids.double()).argmin(dim=1)
    with torch.autocast("cpu", torch.bfloat16):
        assert float((nearest_centroid(points, centroids) == wanted).float().mean()) > 0.99
