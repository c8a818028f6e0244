"""Image and video models of transformers as encoders, from a local folder or with random weights of a configuration.

A folder is what `save_pretrained` writes: config.json, model.safetensors, and preprocessor_config.json for the colours.
Nothing is downloaded, and no code of a folder is run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from mmssl.errors import UserError
from mmssl.nn.features import Features
from mmssl.nn.given.shared import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Size,
    as_colour,
    as_size,
    normalised,
    resized,
    tokens_to_maps,
    with_frames,
)
from mmssl.nn.given.transformers_files import (
    load_folder,
    load_model_weights,
    make_model,
    read_config,
    read_preprocessor,
)

VIDEO = ("videomae", "timesformer", "vivit", "vjepa2")
TIME_FASTEST = ("timesformer",)  # tokens of one place lie side by side
PREFIXES = (0, 1, 2, 5)  # tokens before those of places: none, a class token, two, one with four registers
Pool = Literal["auto", "class", "mean", "pooler"]


@dataclass(frozen=True)
class Anatomy:
    """What a model gives, seen on one input without memory.

    Args:
        width: channels of the last hidden state.
        prefix: tokens before those of places, or None where the last hidden state is a map.
        grid: (h, w), or (t, h, w), of the tokens of places; empty where they are on no grid.
        maps: stride -> (name of an output, place in it or None, channels) of maps [B, C, h, w].
    """

    width: int
    prefix: int | None
    grid: tuple[int, ...]
    maps: Mapping[int, tuple[str, int | None, int]]


class TransformersEncoder(nn.Module):
    """An image or video model of transformers: ViT, DINOv2, CLIP's picture side, ResNet, Swin, VideoMAE, V-JEPA 2, ...

    Pictures [B, 3, H, W] or clips [B, 3, T, H, W] in [0, 1] -> `Features` with maps by stride of the size that the
    model sees (for video [B, C, t, h, w]) and the tokens. Pictures are brought to the configuration's size and clips to
    its number of frames.

    Args:
        folder: what `save_pretrained` wrote, whose weights are loaded.
        config: a configuration as config.json holds it, with ``model_type``, for random weights.
        size: side, or height and width, to which pictures are brought.
        frames: frames that are taken evenly of each clip.
        pool: what the vector is: the class token, the mean over places, or the model's own pooling; "auto" is the
            class token of a model that has one, else the mean.
        mean, std: of the colours; of the folder's preprocessor_config.json or ImageNet's unless given.

    Raises:
        UserError: neither or both of folder and config are given, a model of another kind, or weights that do not fit.
    """

    def __init__(
        self,
        folder: str | None = None,
        config: Mapping[str, Any] | None = None,
        size: Size | None = None,
        frames: int | None = None,
        pool: Pool = "auto",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if pool not in ("auto", "class", "mean", "pooler"):
            raise UserError(f"pool must be auto, class, mean or pooler, got {pool!r}")
        made = read_config(folder, config)
        kind = str(made.model_type)
        self.modality = "video" if kind in VIDEO else "image"
        self.time_fastest = kind in TIME_FASTEST
        self.pool = pool
        colours = read_preprocessor(folder)
        self.mean = as_colour(mean or colours.get("image_mean") or IMAGENET_MEAN, "mean")
        self.std = as_colour(std or colours.get("image_std") or IMAGENET_STD, "std")
        own = getattr(made, "image_size", None) or getattr(made, "crop_size", None)
        self.size = as_size(size) or as_size(own)
        default = getattr(made, "num_frames", None) or getattr(made, "frames_per_clip", None)
        self.frames = (frames or default or 16) if self.modality == "video" else 0
        self.anatomy = anatomy(made.to_json_string(use_diff=False), self.size or (224, 224), self.frames, pool)
        self.width = self.anatomy.width
        self.cell = self._cell()
        self.level_widths = {stride: channels for stride, (_, _, channels) in self.anatomy.maps.items()}
        if self.cell:
            self.level_widths[self.cell] = self.width
        self.strides = tuple(sorted(self.level_widths))
        self.model: Any = make_model(made) if folder is None else load_folder(Path(folder), made, pool == "pooler")
        drop_pooler(self.model, pool)

    @classmethod
    def architecture(cls, **init_args: Any) -> dict[str, Any]:
        """Arguments that build the same with random weights, the folder's configuration and colours among them."""
        folder = init_args.pop("folder", None)
        if folder is None:
            return init_args
        made = read_config(folder, init_args.get("config"))
        colours = read_preprocessor(folder)
        given = {name: value for name, value in init_args.items() if value is not None}
        found = {"mean": colours.get("image_mean"), "std": colours.get("image_std")}
        kept = {name: list(value) for name, value in found.items() if value is not None}
        return {"config": json.loads(made.to_json_string(use_diff=False)), **kept, **given}

    def load_weights(self, path: Path) -> None:
        """Load a state dict of the model, or of one with a head on it."""
        load_model_weights(self.model, path)

    def forward(self, x: torch.Tensor) -> Features:
        """Encode pictures or clips."""
        if self.size is not None:
            x = resized(x, self.size)
        if self.modality == "video":
            x = with_frames(x, self.frames)
        out = run_model(self.model, normalised(x, self.mean, self.std), bool(self.anatomy.maps))
        last, prefix = out.last_hidden_state, self.anatomy.prefix
        levels = {}
        for stride, (name, place, _) in self.anatomy.maps.items():
            levels[stride] = getattr(out, name) if place is None else getattr(out, name)[place]
        if self.cell and prefix is not None:
            levels[self.cell] = tokens_to_maps(last, prefix, self.anatomy.grid, self.time_fastest)
        if prefix is None:
            own = getattr(out, "pooler_output", None) if self.pool == "pooler" else None
            return Features(last.mean(dim=(2, 3)) if own is None else own.flatten(1), levels)
        if self.pool == "pooler":
            pooled = out.pooler_output
        elif self.pool == "class" or (self.pool == "auto" and prefix > 0):
            pooled = last[:, 0]
        else:
            pooled = last[:, prefix:].mean(dim=1)
        return Features(pooled=pooled, levels=levels, tokens=last, token_mask=last.new_ones(last.shape[:2]).bool())

    def _cell(self) -> int:
        """Pixels to a side of a token's place; 0 where tokens are on no grid."""
        if self.anatomy.prefix is None or not self.anatomy.grid or self.size is None:
            return 0
        return round(self.size[0] / self.anatomy.grid[-2])


def run_model(model: Any, x: torch.Tensor, hidden: bool) -> Any:
    """The model's outputs for normalised pictures [B, 3, H, W] or clips [B, 3, T, H, W]."""
    more: dict[str, Any] = {"output_hidden_states": True} if hidden else {}
    if model.config.model_type == "vjepa2":
        return model(pixel_values_videos=x.transpose(1, 2), skip_predictor=True, **more)
    return model(pixel_values=x.transpose(1, 2) if x.ndim == 5 else x, **more)


def drop_pooler(model: Any, pool: str) -> None:
    """Take away a pooling layer with weights that nothing reads: it would never learn."""
    pooler = getattr(model, "pooler", None)
    if pool != "pooler" and pooler is not None and any(True for _ in pooler.parameters()):
        model.pooler = None


@lru_cache(maxsize=32)
def anatomy(config: str, size: tuple[int, int], frames: int, pool: str) -> Anatomy:
    """What the model of a configuration (JSON) gives for one input.

    Raises:
        UserError: it takes no picture, or gives no hidden state that is a row of tokens or a map.
    """
    made = read_config(None, json.loads(config))
    with torch.device("meta"):
        model = make_model(made).eval()
        drop_pooler(model, pool)
        x = torch.zeros((1, 3, *((frames,) if frames else ()), *size))
        try:
            out = run_model(model, x, True)
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            wrong = " ".join(str(error).split())[:200]
            raise UserError(
                f"the model '{made.model_type}' of transformers cannot encode pictures of {size[0]}x{size[1]} alone "
                f"({wrong}); give another size or frames, or a model for pictures or video"
            ) from error
    last = getattr(out, "last_hidden_state", None)
    if last is None or last.ndim not in (3, 4):
        raise UserError(f"the model '{made.model_type}' of transformers gives no last hidden state to take features of")
    maps: dict[int, tuple[str, int | None, int]] = {}
    for name in ("reshaped_hidden_states", "hidden_states"):
        for place, found in enumerate(() if maps else getattr(out, name, None) or ()):
            if found.ndim == 4 and not frames and (stride := _stride(found.shape, size)):
                maps[stride] = (name, place, int(found.shape[1]))
    if last.ndim == 4:
        if stride := _stride(last.shape, size):
            maps[stride] = ("last_hidden_state", None, int(last.shape[1]))
        return Anatomy(int(last.shape[1]), None, (), maps)
    prefix, grid = _grid(int(last.shape[1]), made, size, frames)
    return Anatomy(int(last.shape[2]), prefix, () if maps else grid, maps)


def _stride(shape: torch.Size, size: tuple[int, int]) -> int | None:
    """Pixels a cell as a power of two, where both sides agree."""
    if min(shape[-2:]) < 2:
        return None
    found = {2 ** round(math.log2(side / cells)) for side, cells in zip(size, shape[-2:], strict=True)}
    stride = int(found.pop()) if len(found) == 1 else 0
    return stride if stride >= 1 else None


def _grid(tokens: int, config: Any, size: tuple[int, int], frames: int) -> tuple[int, tuple[int, ...]]:
    """Tokens before those of places, and the grid of the others; (0, ()) where they lie on none that is known."""
    patch = getattr(config, "patch_size", None)
    tubelet = getattr(config, "tubelet_size", 1)
    if isinstance(tubelet, Sequence):  # (time, height, width)
        patch, tubelet = tubelet[1], tubelet[0]
    if isinstance(patch, Sequence):
        patch = patch[0]
    times = (frames // tubelet,) if frames else ()
    for step in (1, 2, 4, 8):  # models that merge patches
        if patch and size[0] // (patch * step) and size[1] // (patch * step):
            grid = (*times, size[0] // (patch * step), size[1] // (patch * step))
            if tokens - math.prod(grid) in PREFIXES:
                return tokens - math.prod(grid), grid
    return 0, ()
