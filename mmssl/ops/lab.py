"""CIE L*a*b*: lightness apart from colour, of sRGB pictures under the white D65 (IEC 61966-2-1, ISO/CIE 11664-4)."""

from __future__ import annotations

import torch

# Linear sRGB to CIE XYZ, D65.
_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_EDGE = 6 / 29


def rgb_to_lab(rgb: torch.Tensor) -> torch.Tensor:
    """Float [..., 3, H, W]: L in [0, 100], a and b in about [-110, 110], of sRGB in [0, 1] of the same shape.

    Grey pixels have a = b = 0 but for rounding: each of X, Y, Z is taken relative to that of white.
    """
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4)
    matrix = torch.tensor(_XYZ, dtype=rgb.dtype, device=rgb.device)
    xyz = torch.einsum("kc,...chw->...khw", matrix / matrix.sum(dim=1, keepdim=True), linear)
    # The cube root where it is steep is replaced by its tangent, so that the gradient at black is finite.
    root = torch.where(xyz > _EDGE**3, xyz.clamp(min=_EDGE**3) ** (1 / 3), xyz / (3 * _EDGE**2) + 4 / 29)
    x, y, z = root.unbind(dim=-3)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-3)


def lightness_picture(lab: torch.Tensor) -> torch.Tensor:
    """Float [..., 3, H, W] in [0, 1]: lightness in three equal channels, of Lab [..., 3, H, W]; a, b are not read."""
    return (lab[..., :1, :, :] / 100).clamp(0, 1).expand(lab.shape)
