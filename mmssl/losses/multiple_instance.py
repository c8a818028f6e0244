"""The loss of EZ-VSL (Mo and Morgado, "Localizing visual sounds the easy way", arXiv 2203.09324).

Multiple-instance learning: at least one place of a picture goes with its sound, and no place with another's.
"""

from __future__ import annotations

import torch

from mmssl.losses.info_nce import symmetric_info_nce
from mmssl.losses.precision import in_float32
from mmssl.losses.similarity import pool_places


@in_float32
def multiple_instance_nce(similarity: torch.Tensor, weight: torch.Tensor, temperature: float = 0.03) -> torch.Tensor:
    """Cross-entropy of the best places, pictures against sounds and sounds against pictures, averaged.

    Args:
        similarity: [N, N, P], cosines of picture i's places with sound j.
        weight: [N], 0 for rows that are no anchors and no candidates.
        temperature: divides the cosines.

    Returns:
        Scalar, half of the published sum of the two directions; 0 without a valid row.
    """
    return symmetric_info_nce(pool_places(similarity) / temperature, weight)
