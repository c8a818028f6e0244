"""Who a row is: a number for each sample, or each video, that is the same in every epoch.

`Batch.seeds` change from epoch to epoch, as draws must; what a queue holds has to be known again in the next one.
"""

from __future__ import annotations

import re

import torch

from mmssl.batch import Batch
from mmssl.randomness import hash_name


def sample_ids(batch: Batch, clip_number: str = "") -> torch.Tensor:
    """Int64 [B]: alike for the same sample of the same source, whatever the epoch.

    Args:
        batch: the batch.
        clip_number: regular expression of the part of a key that numbers the clips of a video; clips of one video
            then have one id. In shards built by `mmssl shards build` that is ``-[0-9]{4}$``. Empty for a
            sample's own key.
    """

    def make() -> torch.Tensor:
        videos = (re.sub(clip_number, "", key) if clip_number else key for key in batch.keys)
        found = [hash_name(f"{source}\x1f{video}") for source, video in zip(batch.sources, videos, strict=True)]
        return torch.tensor(found, dtype=torch.int64, device=batch.device)

    return batch.once(("sample_ids", clip_number), make)
