"""The picture encoder of a bundle, checked for what an evaluation wants of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmssl.errors import UserError
from mmssl.nn.encoders import Encoders


def picture_encoder(bundle: Encoders, name: str, strides: Sequence[int] | None = ()) -> Any:
    """An encoder that takes pictures.

    Args:
        bundle: that holds it.
        name: of the encoder.
        strides: maps that it must have; None for any at all.

    Raises:
        UserError: there is none of that name, it takes something else, or it lacks a map.
    """
    part = bundle[name]
    if part.modality != "image":
        raise UserError(f"encoder '{name}' takes {part.modality}, not pictures; give another --encoder")
    if not part.strides and strides != ():
        raise UserError(f"encoder '{name}' gives vectors and no maps; `mmssl evaluate image` can use it")
    if unknown := sorted(set(strides or ()) - set(part.strides)):
        known = ", ".join(map(str, part.strides))
        raise UserError(f"no maps of stride {', '.join(map(str, unknown))}: encoder '{name}' has strides {known}")
    return part
