"""Frames of a Soundstage corpus with dense truth, and what each of the bodies in them is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from mmssl.errors import UserError
from mmssl.evaluation.masked_clips import masked_clips

Kind = Literal["shapes", "materials", "objects"]


@dataclass(frozen=True)
class BodyClip:
    """A few frames of a clip.

    Args:
        key: its name.
        frames: uint8 [T, 3, H, W].
        instances: uint8 [T, H, W], 0 for the scene, 1 + number of a body.
        kinds: what each body is.
    """

    key: str
    frames: torch.Tensor
    instances: torch.Tensor
    kinds: tuple[str, ...]


def body_clips(corpus: Path, split: str, kind: Kind, frames: int, limit: int | None) -> Iterator[BodyClip]:
    """Frames evenly spread over each clip of a split.

    Args:
        corpus: folder of `mmssl soundstage` with dense truth.
        split: train or test.
        kind: tell bodies by shape, by material, or as objects alone.
        frames: of each clip.
        limit: clips at most.

    Raises:
        UserError: the corpus has no dense truth, or does not say what its bodies are.
    """
    if frames < 1:
        raise UserError(f"frames={frames}: at least 1 frame of each clip is needed")
    for clip in masked_clips(corpus, split, limit):
        truth = clip.about.get("truth")
        names = truth.get("shapes" if kind == "objects" else kind) if isinstance(truth, dict) else None
        most = int(clip.masks.max())
        if not isinstance(names, list) or len(names) < most:
            raise UserError(
                f"clip '{clip.key}' of '{corpus}' shows {most} bodies and its truth does not name their {kind}: render "
                "the corpus anew"
            )
        chosen = ((np.arange(frames) + 0.5) / frames * len(clip.frames)).astype(np.int64)
        kinds = tuple("object" if kind == "objects" else str(name) for name in names)
        yield BodyClip(clip.key, clip.frames[chosen], clip.masks[chosen], kinds)
