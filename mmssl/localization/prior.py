"""The object-guided map of EZ-VSL (Mo and Morgado, arXiv 2203.09324): an option of the evaluation, never of the model.

At test time the published method adds, with a weight of 0.6, a map of where the picture has an object at all: the mean
over the channels of an image encoder's features, which hears nothing. With an encoder trained on ImageNet that is a
detector learned from labels. Here it is a row of its own, beside the row of the prior alone, and the model's own row
is always without it.
"""

from __future__ import annotations

import numpy as np
import torch

from mmssl.errors import UserError
from mmssl.metrics.localization import normalise_map, resize_map
from mmssl.nn.encoders import Encoders

SHARE = 0.6
ROWS = ("object_prior", "model_with_object_prior")
CHUNK = 64  # frames encoded at a time


def check_prior(encoders: Encoders, name: str = "image") -> None:
    """Raise a UserError unless the bundle has an encoder of that name that sees pictures."""
    encoder = encoders[name]
    if encoder.modality != "image":
        raise UserError(f"the object prior needs an image encoder, '{name}' is of modality '{encoder.modality}'")


@torch.inference_mode()
def object_prior(encoders: Encoders, frames: torch.Tensor, name: str = "image") -> np.ndarray:
    """Float64 [N, h, w]: mean absolute feature at each place of the encoder's deepest level; no sound is heard.

    Args:
        encoders: bundle whose image encoder gives the prior.
        frames: uint8 [N, 3, H, W].
        name: of the image encoder in the bundle.

    Raises:
        UserError: that encoder sees no pictures.
    """
    check_prior(encoders, name)
    encoder = encoders[name]
    made = []
    for begin in range(0, len(frames), CHUNK):
        levels = encoder(frames[begin : begin + CHUNK].float() / 255.0).levels
        made.append(levels[max(levels)].float().abs().mean(dim=1))
    return np.asarray(torch.cat(made).cpu().numpy(), dtype=np.float64)


def with_prior(maps: np.ndarray, prior: np.ndarray, share: float = SHARE) -> np.ndarray:
    """Float64 [N, 224, 224]: both maps resized and scaled to 0..1, then mixed.

    Args:
        maps: [N, h, w] of the model.
        prior: [N, h', w'].
        share: of the prior.
    """
    model, objects = (normalise_map(resize_map(m)) for m in (maps, prior))
    return np.asarray((1 - share) * model + share * objects)
