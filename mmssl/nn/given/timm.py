"""Image models of timm (an optional dependency) as encoders: ``pip install timm``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmssl.errors import UserError, nearest
from mmssl.nn.features import Features
from mmssl.nn.given.shared import Size, as_colour, as_size, normalised, resized
from mmssl.nn.weights import load_tensors, read_tensors


class TimmEncoder(nn.Module):
    """An image model of timm without its classifier: `resnet50`, `vit_small_patch16_224`, `convnext_tiny`, ...

    Pictures [B, 3, H, W] in [0, 1] -> `Features`; pooled is what enters the classifier, the levels are the last maps of
    each stride of the size that the model sees, for models that give them. Pictures are brought to the one size of a
    model that has one. Nothing is downloaded.

    Args:
        name: name of the model, as in `timm.list_models()`.
        weights: file of a state dict of timm's; random weights without one.
        settings: further arguments of `timm.create_model`, such as ``img_size``.
        size: side, or height and width, to which pictures are brought.
        mean, std: of the colours; those of the model's published weights unless given.

    Raises:
        UserError: timm is not installed, or has no such model, or the weights are of another one.
    """

    modality = "image"

    def __init__(
        self,
        name: str,
        weights: str | None = None,
        settings: Mapping[str, Any] | None = None,
        size: Size | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        timm = _timm()
        if not timm.is_model(name.partition(".")[0]):
            raise UserError(f"timm has no model '{name}'{nearest(name, timm.list_models())}")
        try:
            self.model: Any = timm.create_model(name, pretrained=False, **{**(settings or {}), "num_classes": 0})
        except (TypeError, RuntimeError, ValueError) as error:
            raise UserError(f"timm's '{name}' cannot be built with these settings ({error})") from error
        about: Mapping[str, Any] = self.model.pretrained_cfg
        self.width = int(getattr(self.model, "head_hidden_size", None) or self.model.num_features)
        last = {}  # the last place of each stride
        if hasattr(self.model, "forward_intermediates"):
            last = {int(row["reduction"]): (at, int(row["num_chs"])) for at, row in enumerate(self.model.feature_info)}
        self.strides = tuple(sorted(last))
        self.level_widths = {stride: last[stride][1] for stride in self.strides}
        self.places = {stride: last[stride][0] for stride in self.strides}
        self.mean = as_colour(about["mean"] if mean is None else mean, "mean")
        self.std = as_colour(about["std"] if std is None else std, "std")
        self.fixed_size = as_size(size)
        if self.fixed_size is None and about.get("fixed_input_size"):
            patches = getattr(self.model, "patch_embed", None)
            self.fixed_size = as_size(getattr(patches, "img_size", None) or list(about["input_size"][1:]))
        if weights is not None:
            self.load_weights(Path(weights))

    @classmethod
    def architecture(cls, **init_args: Any) -> dict[str, Any]:
        """Arguments that build the same with random weights."""
        return {name: value for name, value in init_args.items() if name != "weights"}

    def load_weights(self, path: Path) -> None:
        """Load a state dict of timm's; the classifier's tensors may be there and are not used."""
        tensors = read_tensors(path)
        classifier = self.model.pretrained_cfg.get("classifier") or ()
        prefixes = tuple(f"{n}." for n in ([classifier] if isinstance(classifier, str) else classifier))
        load_tensors(self.model, tensors, str(path), unused={name for name in tensors if name.startswith(prefixes)})

    def forward(self, x: torch.Tensor) -> Features:
        """Encode pictures."""
        if self.fixed_size is not None:
            x = resized(x, self.fixed_size)
        x = normalised(x, self.mean, self.std)
        if not self.strides:
            return Features(pooled=self.model(x))
        wanted = sorted(self.places.values())
        final, maps = self.model.forward_intermediates(x, indices=wanted, output_fmt="NCHW")
        by_place = dict(zip(wanted, maps, strict=True))
        levels = {stride: by_place[place] for stride, place in self.places.items()}
        return Features(pooled=self.model.forward_head(final, pre_logits=True), levels=levels)


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise UserError(f"encoders of timm need it ({error}): pip install timm") from error
    return timm
