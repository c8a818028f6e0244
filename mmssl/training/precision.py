"""Number formats of the forward pass: autocast, and loss scaling for fp16.

Mixed precision: Micikevicius et al., arXiv 1710.03740. Losses and spectrograms step out of autocast by themselves.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from mmssl.errors import UserError

Name = Literal["auto", "bf16", "fp16", "fp32"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Autocast and gradient scaling for one device.

    Args:
        name: "bf16", "fp16", "fp32", or "auto": bf16 on a GPU that has it, fp16 on an older GPU, fp32 on the CPU.
        device: where the model is.

    Raises:
        UserError: fp16 on the CPU.
    """

    def __init__(self, name: Name, device: torch.device) -> None:
        if name == "auto":
            if device.type != "cuda":
                name = "fp32"
            else:
                name = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
        if name == "fp16" and device.type != "cuda":
            raise UserError("train.precision 'fp16' needs a GPU; use 'bf16' or 'fp32' on this machine")
        self.name = name
        self.device = device
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def autocast(self) -> AbstractContextManager[object]:
        """Context of the forward pass."""
        if self.name == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, _DTYPES[self.name])
