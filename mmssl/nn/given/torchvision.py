"""Image and video classifiers of torchvision as encoders: what enters the classifier, and maps by stride.

Feature extraction: `torchvision.models.feature_extraction`. Which nodes of the graph give the vector and the maps is
found from their shapes, by a run without memory (device "meta").
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from mmssl.errors import UserError, nearest
from mmssl.nn.features import Features
from mmssl.nn.given.shared import Size, as_colour, as_size, normalised, resized, tokens_to_maps, with_frames
from mmssl.nn.weights import load_tensors, read_tensors

STRIDES = (2, 4, 8, 16, 32)
FIXED = ("vit_", "maxvit_", "mvit_")  # take pictures of one size alone
FIXED_FRAMES = ("mvit_",)
# Blocks that are not looked into: tracing a transformer operation by operation takes many times longer.
BLOCKS = ("EncoderBlock", "MaxVitBlock", "MultiscaleBlock", "SwinTransformerBlock", "SwinTransformerBlockV2")
PROBE_ROWS, PROBE_FRAMES = 7, 16


@dataclass(frozen=True)
class Level:
    """A feature map within the graph.

    Args:
        node: name of its node.
        layout: "channels first", "channels last", or "tokens".
        channels: its channels.
        prefix: tokens before those of places.
    """

    node: str
    layout: str
    channels: int
    prefix: int = 0


@dataclass(frozen=True)
class Anatomy:
    """What a model of torchvision is made of.

    Args:
        modality: image or video.
        pooled: node that enters the classifier.
        width: its channels.
        levels: maps by stride.
        names: names of all tensors, with those of the classifier.
        size: least size of pictures, or the one size.
        frames: least number of frames, or the one number; 0 for pictures.
        mean, std: of the colours.
    """

    modality: str
    pooled: str
    width: int
    levels: Mapping[int, Level]
    names: frozenset[str]
    size: tuple[int, int]
    frames: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class TorchvisionEncoder(nn.Module):
    """A classifier of torchvision without its last layer: `resnet50`, `vit_b_16`, `r3d_18`, `swin3d_t`, ...

    Pictures [B, 3, H, W] or clips [B, 3, T, H, W] in [0, 1] -> `Features`; pooled is what enters the last layer, the
    levels are the last maps of each stride (of the size that the model sees). Pictures smaller than the model takes are
    enlarged, and brought to the one size of a model that has one.

    Args:
        name: name of the model, as in `torchvision.models.list_models()`.
        weights: file of a state dict of the whole model, or without its classifier; random weights without one.
        settings: arguments of the model's builder, such as ``num_classes`` of a file with another classifier.
        size: side, or height and width, to which pictures are brought.
        frames: frames that are taken evenly of each clip, for video models.
        mean, std: of the colours; those of the model's published weights unless given.

    Raises:
        UserError: no such model, or weights of another one.
    """

    def __init__(
        self,
        name: str,
        weights: str | None = None,
        settings: Mapping[str, Any] | None = None,
        size: Size | None = None,
        frames: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        found = anatomy(name, json.dumps(dict(settings or {}), sort_keys=True))
        self.anatomy = found
        self.modality = found.modality
        self.width = found.width
        self.strides = tuple(found.levels)
        self.level_widths = {stride: level.channels for stride, level in found.levels.items()}
        self.fixed_size = as_size(size) or (found.size if name.startswith(FIXED) else None)
        self.fixed_frames = frames or (found.frames if name.startswith(FIXED_FRAMES) else None)
        self.mean = found.mean if mean is None else as_colour(mean, "mean")
        self.std = found.std if std is None else as_colour(std, "std")
        nodes = {found.pooled: "pooled"}
        for stride, level in found.levels.items():
            if level.node not in nodes:
                nodes[level.node] = str(stride)
        self.nodes = {node: key for node, key in nodes.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # graphs of training and evaluation differ by drop-out
            model = _make(name, settings or {})
            self.model = create_feature_extractor(model, dict(nodes), tracer_kwargs=_leaves(model))
        if weights is not None:
            self.load_weights(Path(weights))

    @classmethod
    def architecture(cls, **init_args: Any) -> dict[str, Any]:
        """Arguments that build the same with random weights."""
        return {name: value for name, value in init_args.items() if name != "weights"}

    def load_weights(self, path: Path) -> None:
        """Load a state dict of torchvision's; the classifier's tensors may be there, of any shape, and are not used."""
        load_tensors(self.model, read_tensors(path), str(path), unused=self.anatomy.names)

    def forward(self, x: torch.Tensor) -> Features:
        """Encode pictures or clips."""
        least = self.anatomy.size
        if self.fixed_size is not None:
            x = resized(x, self.fixed_size)
        elif x.shape[-2] < least[0] or x.shape[-1] < least[1]:
            x = resized(x, (max(x.shape[-2], least[0]), max(x.shape[-1], least[1])))
        if self.modality == "video":
            x = with_frames(x, self.fixed_frames or max(x.shape[2], self.anatomy.frames))
        shown = x.shape[-2:]
        found = self.model(normalised(x, self.mean, self.std))
        pooled = found["pooled"]
        if pooled.ndim > 2:
            pooled = pooled.flatten(2).mean(dim=2)
        levels = {
            stride: _as_map(found[self.nodes[level.node]], level, stride, shown, x.ndim)
            for stride, level in self.anatomy.levels.items()
        }
        return Features(pooled=pooled, levels=levels)


def _as_map(found: torch.Tensor, level: Level, stride: int, shown: torch.Size, dimensions: int) -> torch.Tensor:
    if level.layout == "channels first":
        return found
    if level.layout == "channels last":
        return found.movedim(-1, 1)
    height, width = shown[0] // stride, shown[1] // stride
    times = (found.shape[1] - level.prefix) // (height * width)
    grid = (height, width) if dimensions == 4 else (times, height, width)
    return tokens_to_maps(found, level.prefix, grid)


@lru_cache(maxsize=32)
def anatomy(name: str, settings: str) -> Anatomy:
    """What a model is made of.

    Args:
        name: its name.
        settings: the builder's arguments as JSON.

    Raises:
        UserError: there is no such classifier.
    """
    known = [*models.list_models(module=models), *models.list_models(module=models.video)]
    if name not in known:
        raise UserError(f"torchvision has no classifier '{name}'{nearest(name, known)}")
    modality = "video" if name in models.list_models(module=models.video) else "image"
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = _without_memory(name, json.loads(settings)).eval()
        leaves = _leaves(model)
        in_train, in_eval = get_graph_node_names(model, tracer_kwargs=leaves, suppress_diff_warning=True)
        said = models.get_model_weights(name).DEFAULT
        crop, mean, std = _published(said)
        side = getattr(model, "image_size", None)
        least = (side, side) if isinstance(side, int) else as_size(said.meta.get("min_size", 1)) or (1, 1)
        probed = (side, side) if isinstance(side, int) else crop
        frames = int(said.meta.get("min_temporal_size", 1)) if modality == "video" else 0
        shape = (PROBE_ROWS, 3, *((PROBE_FRAMES,) if frames else ()), *probed)
        wanted = {node: node for node in in_eval[1:]}
        probe = create_feature_extractor(
            model,
            train_return_nodes={in_train[-1]: in_train[-1]},
            eval_return_nodes=wanted,
            tracer_kwargs=leaves,
        ).eval()
        outputs = {n: o for n, o in probe(torch.zeros(shape)).items() if isinstance(o, torch.Tensor)}
    pooled, width, before = _entering_classifier(model, list(in_eval), outputs, name)
    levels: dict[int, Level] = {}
    pools = {n for n, part in model.named_modules() if type(part).__name__.startswith("Adaptive")}  # of one grid always
    for node in in_eval[1 : before + 1]:
        if node in outputs and node not in pools and node in in_train and outputs[node].shape[0] == PROBE_ROWS:
            for stride, level in _level(node, outputs[node].shape, probed, frames > 0):
                levels[stride] = level
    return Anatomy(
        modality, pooled, width, dict(sorted(levels.items())), frozenset(model.state_dict()), least, frames, mean, std
    )


def _published(weights: Any) -> tuple[tuple[int, int], tuple[float, float, float], tuple[float, float, float]]:
    """Size, mean and spread that the model's published weights were trained with; nothing is downloaded."""
    how = weights.transforms()
    crop = as_size([how.crop_size[0], how.crop_size[-1]]) or (224, 224)
    return crop, as_colour(how.mean, "mean"), as_colour(how.std, "std")


def _entering_classifier(
    model: nn.Module, names: list[str], outputs: Mapping[str, torch.Tensor], name: str
) -> tuple[str, int, int]:
    """Node that enters the last layer (before drop-out), its channels, and its place among the nodes."""
    parts = dict(model.named_modules())
    layers = [n for n in names if isinstance(parts.get(n), nn.Linear | nn.Conv2d | nn.Conv3d)]
    last: Any = parts[layers[-1]]
    width = int(last.in_features if isinstance(last, nn.Linear) else last.in_channels)
    at = names.index(layers[-1]) - 1
    while at > 0 and (isinstance(parts.get(names[at]), nn.Dropout) or names[at] not in outputs):
        at -= 1
    shape = outputs[names[at]].shape
    if shape[-1 if isinstance(last, nn.Linear) else 1] != width:
        raise UserError(f"torchvision's '{name}' is built in a way that its features are not found in")
    return names[at], width, at


def _level(node: str, shape: torch.Size, size: tuple[int, int], video: bool) -> list[tuple[int, Level]]:
    """The stride of a node's output and what it is, if it is a map."""
    rank = 5 if video else 4
    if len(shape) == rank:
        for layout, grid, channels in (
            ("channels first", shape[-2:], shape[1]),
            ("channels last", shape[-3:-1], shape[-1]),
        ):
            if stride := _stride(grid, size):
                return [(stride, Level(node, layout, channels))]
    if len(shape) == 3:
        for stride in STRIDES:
            cells = (size[0] // stride) * (size[1] // stride)
            for prefix in (0, 1):
                times = (shape[1] - prefix) // cells
                fits = times in (PROBE_FRAMES, PROBE_FRAMES // 2) if video else times == 1
                if times * cells + prefix == shape[1] and fits:
                    return [(stride, Level(node, "tokens", shape[2], prefix))]
    return []


def _stride(grid: Sequence[int], size: tuple[int, int]) -> int | None:
    """The power of two nearest to pixels a cell, where both sides agree on it and are near it."""
    if min(grid) < 2:
        return None
    ratios = [side / cells for side, cells in zip(size, grid, strict=True)]
    strides = {2 ** round(math.log2(ratio)) for ratio in ratios if ratio >= 1}
    if len(strides) != 1 or min(ratios) < 1:
        return None
    stride = int(strides.pop())
    return stride if stride in STRIDES and all(abs(r / stride - 1) < 0.2 for r in ratios) else None


def _make(name: str, settings: Mapping[str, Any]) -> nn.Module:
    try:
        made: nn.Module = models.get_model(name, weights=None, **settings)
    except TypeError as error:
        raise UserError(f"torchvision's '{name}' does not take these settings ({error})") from error
    return made


def _without_memory(name: str, settings: Mapping[str, Any]) -> nn.Module:
    try:
        return _make(name, settings)
    except NotImplementedError:  # a builder that computes with tensors, of regnets for instance
        with torch.device("cpu"):
            return _make(name, settings).to("meta")


def _leaves(model: nn.Module) -> dict[str, Any]:
    kinds = {type(part) for part in model.modules() if type(part).__name__ in BLOCKS}
    return {"leaf_modules": sorted(kinds, key=lambda kind: kind.__qualname__)}
