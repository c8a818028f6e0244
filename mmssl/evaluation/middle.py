"""Where a classifier takes hold of a pretrained network: at the encoder's vector, or from a middle layer.

SimCLR-v2 (Chen et al., "Big self-supervised models are strong semi-supervised learners", arXiv 2006.10029) fine-tunes
from a middle layer of the projection head: part of the head is kept as layers of the classifier. Here that is the
exported head of the encoder up to its first non-linearity. A run without such a head has only its encoder; the middle
layer is then the last level of the encoder, averaged over places and time: what lies before its own projection.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from mmssl.errors import UserError, nearest
from mmssl.evaluation.classifier import Pooled
from mmssl.nn.encoders import Encoders, encoders_folder
from mmssl.nn.features import Features
from mmssl.nn.matcher import Matcher

_ACTIVATIONS = (nn.ReLU, nn.GELU, nn.SiLU, nn.LeakyReLU, nn.ELU, nn.Tanh)


class HeadStart(nn.Module):
    """The first layers of a projection, to the first non-linearity: `Features` -> [B, width]."""

    def __init__(self, layers: nn.Sequential, width: int) -> None:
        super().__init__()
        self.layers, self.width = layers, width

    def forward(self, features: Features) -> torch.Tensor:
        """Of the pooled vector."""
        return torch.as_tensor(self.layers(features.pooled))


class LevelMean(nn.Module):
    """The map of one stride averaged over places and time: `Features` -> [B, width]."""

    def __init__(self, stride: int, width: int) -> None:
        super().__init__()
        self.stride, self.width = stride, width

    def forward(self, features: Features) -> torch.Tensor:
        """Of the level."""
        return features.levels[self.stride].flatten(2).mean(dim=2)


@dataclass(frozen=True)
class Middle:
    """Which middle layer: "pooled", "level" or "head", and the name of the head."""

    kind: str
    head: str = ""

    def __str__(self) -> str:
        return {
            "pooled": "the encoder's vector",
            "level": "the encoder's last level, averaged over places and time",
            "head": f"the head '{self.head}' up to its first non-linearity",
        }[self.kind]

    def make(self, folder: Path | str, bundle: Encoders, encoder: str, seed: int | None = None) -> nn.Module:
        """The module from `Features` to a vector.

        Args:
            folder: run folder or `encoders` folder.
            bundle: its encoders.
            encoder: which of them.
            seed: of new weights of the head; the trained ones if None.
        """
        part = bundle[encoder]
        if self.kind == "pooled":
            return Pooled(part.width)
        if self.kind == "level":
            stride = max(part.level_widths)
            return LevelMean(stride, part.level_widths[stride])
        head = Encoders.load_head(folder, self.head)
        if seed is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                head = type(head)(**head.init_args)
        start = head_start(head, encoder, part.width)
        assert start is not None, "chosen because it has one"
        return start


def head_start(head: Matcher, encoder: str, width: int) -> HeadStart | None:
    """The first layers of the head's projection of an encoder's vector; None where it has no non-linearity there.

    Args:
        head: an exported head.
        encoder: name of the encoder.
        width: of its pooled vector.
    """
    names = [modality for modality, name in head.encoders.items() if name == encoder]
    for name in [*names, encoder] if names else []:  # a projection is called by its modality or by its encoder
        projection = getattr(head, name, None)
        if not isinstance(projection, nn.Sequential):
            continue
        layers = list(projection)
        last = next((n for n, layer in enumerate(layers) if isinstance(layer, _ACTIVATIONS)), None)
        linear = [layer for layer in layers[:last] if isinstance(layer, nn.Linear)]
        if last is not None and linear and linear[0].in_features == width:
            return HeadStart(nn.Sequential(*layers[: last + 1]), linear[-1].out_features)
    return None


def find_middle(folder: Path | str, bundle: Encoders, encoder: str, start: str = "auto") -> Middle:
    """The middle layer of a run.

    Args:
        folder: run folder or `encoders` folder.
        bundle: its encoders.
        encoder: which of them.
        start: "auto", "pooled", "level", or the name of an exported head.

    Raises:
        UserError: no such head, a head without a layer to keep, or several heads to choose from.
    """
    if start in ("pooled", "level"):
        if start == "level" and not bundle[encoder].level_widths:
            raise UserError(f"the encoder '{encoder}' has no levels; give --start pooled")
        return Middle(start)
    heads = sorted(path.stem for path in (encoders_folder(folder) / "heads").glob("*.json"))
    if start != "auto" and start not in heads:
        known = ["auto", "pooled", "level", *heads]
        raise UserError(f"no start '{start}' (there are {', '.join(known)}){nearest(start, known)}")
    usable = []
    for name in heads if start == "auto" else [start]:
        try:
            head = Encoders.load_head(folder, name)
        except UserError:  # a head of another kind
            continue
        if head_start(head, encoder, bundle[encoder].width) is not None:
            usable.append(name)
    if len(usable) > 1:
        raise UserError(f"{len(usable)} heads project '{encoder}' ({', '.join(usable)}); give one of them as --start")
    if usable:
        return Middle("head", usable[0])
    if start != "auto":
        raise UserError(f"the head '{start}' has no layer behind '{encoder}' with a non-linearity; give --start level")
    return Middle("level" if bundle[encoder].level_widths else "pooled")
