"""torchvision's Faster R-CNN (Ren et al., arXiv 1506.01497) on any picture encoder, through a feature pyramid.

The encoder's levels go into torchvision's feature pyramid (Lin et al., arXiv 1612.03144); an anchor of three shapes
lies at every cell of every level. Encoders normalise inside, so torchvision's own normalisation is switched off.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from mmssl.errors import UserError
from mmssl.evaluation.boxed_pictures import BoxedPicture
from mmssl.metrics.box_precision import MOST_FOUND, FoundBoxes

Backbone = Literal["frozen", "finetune"]


@dataclass(frozen=True)
class Detector:
    """How a detector is built and trained.

    Args:
        backbone: frozen, or trained along at a tenth of the rate.
        size: shorter side in pixels that pictures are brought to.
        steps: of the optimizer.
        batch_size: pictures a step.
        rate: learning rate of AdamW, after a rise over the first tenth, falling along a cosine.
        channels: of the pyramid.
        anchor: side of an anchor in cells of its level.
        proposals: regions of a picture that are looked at.
    """

    backbone: Backbone = "frozen"
    size: int = 96
    steps: int = 300
    batch_size: int = 4
    rate: float = 1e-3
    channels: int = 64
    anchor: float = 4.0
    proposals: int = 100

    def __post_init__(self) -> None:
        for name, least in (("size", 16), ("steps", 1), ("batch_size", 1), ("channels", 1), ("proposals", 1)):
            if getattr(self, name) < least:
                raise UserError(f"{name}={getattr(self, name)}: at least {least} is needed")
        for name in ("rate", "anchor"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise UserError(f"{name}={getattr(self, name)}: it must be above 0")


class EncoderBackbone(nn.Module):
    """An encoder's levels behind a feature pyramid: pictures [B, 3, H, W] -> maps [B, channels, h, w] by stride.

    Args:
        part: a picture encoder; never in train mode, so that statistics of a norm stay as they are.
        channels: of the maps.
        frozen: no gradient reaches the encoder.

    Raises:
        UserError: strides that are no powers of 2, which torchvision's pooling of regions cannot place.
    """

    def __init__(self, part: Any, channels: int, frozen: bool) -> None:
        super().__init__()
        from torchvision.ops import FeaturePyramidNetwork

        if odd := [stride for stride in part.strides if stride & (stride - 1)]:
            raise UserError(f"the encoder has maps of strides {odd}; detection needs powers of 2")
        self.part, self.frozen, self.out_channels = part, frozen, channels
        self.strides = tuple(sorted(part.strides))
        self.part.requires_grad_(not frozen)
        self.pyramid = FeaturePyramidNetwork([part.level_widths[stride] for stride in self.strides], channels)

    def train(self, mode: bool = True) -> EncoderBackbone:
        """Set the mode of the pyramid; the encoder stays in eval mode."""
        super().train(mode)
        self.part.eval()
        return self

    def forward(self, x: torch.Tensor) -> OrderedDict[str, torch.Tensor]:
        """Maps by stride, finest first."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            levels = self.part(x).levels
        found: OrderedDict[str, torch.Tensor] = self.pyramid(OrderedDict((str(s), levels[s]) for s in self.strides))
        return found


def build(part: Any, classes: int, how: Detector) -> nn.Module:
    """A Faster R-CNN of `classes` classes (without the background) on an encoder."""
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.models.detection.rpn import AnchorGenerator
    from torchvision.ops import MultiScaleRoIAlign

    backbone = EncoderBackbone(part, how.channels, how.backbone == "frozen")
    strides = backbone.strides
    width = 4 * how.channels
    model: nn.Module = FasterRCNN(
        backbone,
        min_size=how.size,
        max_size=4 * how.size,
        image_mean=[0.0, 0.0, 0.0],
        image_std=[1.0, 1.0, 1.0],
        size_divisible=math.lcm(*strides),
        rpn_anchor_generator=AnchorGenerator(
            tuple((how.anchor * s,) for s in strides), ((0.5, 1.0, 2.0),) * len(strides)
        ),
        rpn_pre_nms_top_n_train=10 * how.proposals,
        rpn_pre_nms_top_n_test=10 * how.proposals,
        rpn_post_nms_top_n_train=how.proposals,
        rpn_post_nms_top_n_test=how.proposals,
        rpn_batch_size_per_image=64,
        box_roi_pool=MultiScaleRoIAlign([str(s) for s in strides], output_size=7, sampling_ratio=2),
        box_head=TwoMLPHead(how.channels * 49, width),
        box_predictor=FastRCNNPredictor(width, classes + 1),
        box_batch_size_per_image=64,
        box_score_thresh=0.01,
        box_detections_per_img=MOST_FOUND,
    )
    return model


def train_detector(
    part: Any,
    pictures: Sequence[BoxedPicture],
    classes: int,
    how: Detector,
    seed: int,
    device: torch.device | str = "cpu",
    progress: Callable[[], None] = lambda: None,
) -> nn.Module:
    """A detector trained on pictures; crowds are left out, half of the pictures are mirrored.

    torchvision draws its samples of anchors and regions from the global generator: it is seeded here and put back.

    Args:
        part: a picture encoder; it is trained in place where it is fine-tuned.
        pictures: to train on.
        classes: their number.
        how: settings.
        seed: of the new weights, the order, the mirroring and torchvision's samples.
        device: where it is trained.
        progress: is called after each step.
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        model = build(part, classes, how).to(device).train()
        encoder = list(part.parameters())
        known = {id(p) for p in encoder}
        rest = [p for p in model.parameters() if id(p) not in known]
        groups = [{"params": rest, "lr": how.rate}]
        if how.backbone == "finetune":
            groups.append({"params": encoder, "lr": 0.1 * how.rate})
        optimizer = torch.optim.AdamW(groups, weight_decay=1e-4)
        rise = max(1, how.steps // 10)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / rise, 0.5 + 0.5 * math.cos(math.pi * step / how.steps))
        )
        generator = torch.Generator().manual_seed(seed)
        order: list[int] = []
        for _ in range(how.steps):
            while len(order) < how.batch_size:
                order += torch.randperm(len(pictures), generator=generator).tolist()
            batch, order = order[: how.batch_size], order[how.batch_size :]
            mirrored = (torch.rand(len(batch), generator=generator) < 0.5).tolist()
            both = [_example(pictures[i], flip, device) for i, flip in zip(batch, mirrored, strict=True)]
            losses = model([x for x, _ in both], [target for _, target in both])
            loss = sum(losses.values())
            if not torch.isfinite(loss):
                raise UserError(f"the detector's loss is not finite with rate={how.rate}; give a lower --rate")
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 10.0)
            optimizer.step()
            schedule.step()
            progress()
    return model.eval()


def _example(
    picture: BoxedPicture, mirrored: bool, device: torch.device | str
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    x = picture.load().to(device).float() / 255.0
    plain = ~picture.truth.crowd
    boxes = torch.as_tensor(picture.truth.boxes[plain], dtype=torch.float32, device=device)
    if mirrored:
        x = x.flip(-1)
        left, top, right, bottom = boxes.unbind(1)
        boxes = torch.stack([x.shape[-1] - right, top, x.shape[-1] - left, bottom], dim=1)
    labels = torch.as_tensor(picture.truth.labels[plain] + 1, dtype=torch.int64, device=device)
    return x, {"boxes": boxes, "labels": labels}


@torch.inference_mode()
def found_boxes(model: nn.Module, pictures: Sequence[BoxedPicture], device: torch.device | str) -> list[FoundBoxes]:
    """What a trained detector finds in each picture, at the picture's own size."""
    made = []
    for picture in pictures:
        (found,) = model([picture.load().to(device).float() / 255.0])
        boxes, labels, scores = (found[name].cpu().numpy() for name in ("boxes", "labels", "scores"))
        made.append(FoundBoxes(boxes.astype(np.float64), labels.astype(np.int64) - 1, scores.astype(np.float64)))
    return made
