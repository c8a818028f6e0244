"""Label propagation: the first frame's labels are carried through a film by the similarity of features alone.

Each cell of a frame looks for the cells most like it in the first and the last few frames, and takes the mean of their
labels, weighted by a softmax over the k best (Wang, Jabri, Efros, arXiv 1903.07593; Jabri, Owens, Efros, "Space-time
correspondence as a contrastive random walk", arXiv 2006.14613). Nothing is trained here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from mmssl.data.flow import dis_search, grey_frames
from mmssl.errors import UserError
from mmssl.nn.encoders import Encoders
from mmssl.ops.lab import lightness_picture, rgb_to_lab

QUERIES = 1024  # cells of a frame that look for their like at once


@dataclass(frozen=True)
class Propagation:
    """How labels are carried on.

    Args:
        size: shorter side in pixels of what the encoder sees; the frame's own where None.
        strides: the encoder's levels that describe a cell; a cell has the finest one's side.
        memory: frames just before each frame that it may copy from, beside the first.
        radius: how far away a cell may copy from, in cells, rows and columns each.
        top_k: cells that a cell copies from.
        temperature: of the softmax over their cosine similarities.
        grey: show the encoder lightness alone, as one trained on colorization saw it.
    """

    size: int | None = None
    strides: tuple[int, ...] = (4, 8)
    memory: int = 7
    radius: int = 6
    top_k: int = 10
    temperature: float = 0.05
    grey: bool = True

    def __post_init__(self) -> None:
        if not self.strides or min(self.memory, self.radius) < 0 or self.top_k < 1 or self.temperature <= 0:
            raise ValueError(
                "propagation: strides must name a level, memory and radius be 0 or more, top_k 1 or more, and "
                f"temperature above 0, got {self}"
            )


def seen_size(height: int, width: int, how: Propagation) -> tuple[int, int]:
    """(height, width) in pixels of what the encoder sees of a frame, multiples of the coarsest stride."""
    scale = 1.0 if how.size is None else how.size / min(height, width)
    step = max(how.strides)
    return max(step, round(height * scale / step) * step), max(step, round(width * scale / step) * step)


@torch.no_grad()
def cell_features(
    encoders: Encoders, frames: torch.Tensor, how: Propagation, encoder: str = "image", batch: int = 16
) -> torch.Tensor:
    """Float32 [T, C, h, w]: what the encoder makes of each cell, every frame by itself, of unit length.

    Args:
        encoders: the bundle.
        frames: uint8 [T, 3, H, W].
        how: size, levels, and whether the frames are shown grey.
        encoder: a picture encoder of the bundle.
        batch: frames at a time.

    Raises:
        UserError: the encoder has no such levels.
    """
    chosen = encoders[encoder]
    missing = [stride for stride in how.strides if stride not in getattr(chosen, "strides", ())]
    if chosen.modality != "image" or missing:
        raise UserError(
            f"encoder '{encoder}' ({chosen.modality}, levels at strides {tuple(getattr(chosen, 'strides', ()))}) gives "
            f"no picture features at strides {tuple(how.strides)}; choose others"
        )
    size = seen_size(frames.shape[-2], frames.shape[-1], how)
    made = []
    for part in frames.split(batch):
        shown = part.float() / 255
        if size != shown.shape[-2:]:
            shown = functional.interpolate(shown, size, mode="bilinear", align_corners=False, antialias=True)
        if how.grey:
            shown = lightness_picture(rgb_to_lab(shown))
        levels = chosen(shown).levels
        cells = levels[min(how.strides)].shape[-2:]
        described = []
        for stride in how.strides:
            # Each level counts alike: brought to one spread over the frame, then to unit length in each cell.
            even = functional.group_norm(levels[stride].float(), 1)
            even = functional.interpolate(even, cells, mode="bilinear", align_corners=False)
            described.append(functional.normalize(even, dim=1))
        made.append(torch.cat(described, dim=1) / len(how.strides) ** 0.5)
    return torch.cat(made)


@torch.no_grad()
def propagate(features: torch.Tensor, first: torch.Tensor, how: Propagation) -> torch.Tensor:
    """Float32 [T, K, h, w]: labels of all frames, those of the first as given.

    Args:
        features: [T, C, h, w], of unit length in each cell.
        first: float [K, h, w], labels of the first frame's cells (a share of each of K labels).
        how: memory, radius, top_k and temperature.
    """
    count, _, height, width = features.shape
    labels = torch.zeros(count, *first.shape, device=features.device)
    labels[0] = first
    column = torch.arange(width, device=features.device)
    near_columns = (column[:, None] - column).abs() <= how.radius  # [w, w]
    rows_at_once = max(1, QUERIES // width)
    for frame in range(1, count):
        looked_at = [0, *range(max(1, frame - how.memory), frame)]
        for top in range(0, height, rows_at_once):
            bottom = min(height, top + rows_at_once)
            low, high = max(0, top - how.radius), min(height, bottom + how.radius)
            query = features[frame, :, top:bottom].flatten(1)  # [C, n]
            key = features[looked_at][:, :, low:high].transpose(0, 1).flatten(1)  # [C, m]
            value = labels[looked_at][:, :, low:high].transpose(0, 1).flatten(1)  # [K, m]
            row, key_row = (torch.arange(a, b, device=query.device) for a, b in ((top, bottom), (low, high)))
            near_rows = (row[:, None] - key_row).abs() <= how.radius
            near = (near_rows[:, None, :, None] & near_columns[None, :, None, :]).flatten(2).flatten(0, 1)
            similar = (query.T @ key).unflatten(1, (len(looked_at), -1))
            similar = similar.masked_fill(~near[:, None], -torch.inf).flatten(1)
            best, place = similar.topk(min(how.top_k, similar.shape[1]), dim=1)
            pointer = torch.softmax(best / how.temperature, dim=1)  # [n, k]; -inf where fewer lie near
            copied = (value[:, place] * pointer).sum(dim=2)
            labels[frame, :, top:bottom] = copied.unflatten(1, (bottom - top, width))
    return labels


def label_shares(mask: torch.Tensor, ids: list[int], size: tuple[int, int]) -> torch.Tensor:
    """Float32 [1 + len(ids), h, w]: share of each cell that is none of the ids, and each of them, of a mask [H, W]."""
    ours = torch.stack([mask == i for i in ids]).float()
    layers = torch.cat([1 - ours.amax(dim=0, keepdim=True), ours])
    return functional.adaptive_avg_pool2d(layers[None], size)[0]


def masks_of(labels: torch.Tensor, ids: list[int], size: tuple[int, int]) -> torch.Tensor:
    """Uint8 [T, H, W]: the id of the largest label at each pixel, 0 for none, of labels [T, 1 + len(ids), h, w]."""
    numbers = torch.tensor([0, *ids], dtype=torch.uint8, device=labels.device)
    made = []
    for part in labels.split(8):
        made.append(numbers[functional.interpolate(part, size, mode="bilinear", align_corners=False).argmax(dim=1)])
    return torch.cat(made)


def propagated_masks(features: torch.Tensor, mask: torch.Tensor, how: Propagation) -> torch.Tensor:
    """Uint8 [T, H, W]: masks of all frames; that of the first, uint8 [H, W], is given, 0 is the background."""
    ids = object_ids(mask)
    first = label_shares(mask.to(features.device), ids, (features.shape[-2], features.shape[-1]))
    made = masks_of(propagate(features, first, how), ids, (mask.shape[0], mask.shape[1])).cpu()
    made[0] = mask
    return made


def object_ids(mask: torch.Tensor) -> list[int]:
    """The objects of a mask, rising, without the background 0."""
    return [int(i) for i in mask.unique() if int(i) > 0]


def flow_warped_masks(frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Uint8 [T, H, W]: the first frame's mask pulled along by DIS optical flow from frame to frame.

    Args:
        frames: uint8 [T, 3, H, W].
        mask: uint8 [H, W].
    """
    search = dis_search("medium")
    grey = grey_frames(frames[None].cpu())[0].numpy()
    height, width = mask.shape
    ids = object_ids(mask)
    labels = label_shares(mask, ids, (height, width))
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    made = [labels]
    for frame in range(1, len(grey)):
        # From this frame back to the one before: where does each pixel come from?
        back = torch.from_numpy(np.asarray(search.calc(grey[frame], grey[frame - 1], None)))
        from_x, from_y = (x + back[..., 0] + 0.5) / width * 2 - 1, (y + back[..., 1] + 0.5) / height * 2 - 1
        labels = functional.grid_sample(
            labels[None], torch.stack([from_x, from_y], dim=-1)[None], padding_mode="border", align_corners=False
        )[0]
        made.append(labels)
    return masks_of(torch.stack(made), ids, (height, width))
