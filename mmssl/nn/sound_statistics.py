"""Sound described without a network: mean and spread of each log-mel band over time, and loudness.

What an audio encoder has to beat: the mean spectrum alone tells many sounds apart (for ESC-50 that has been known since
the first baselines of Piczak, "ESC: dataset for environmental sound classification", ACM MM 2015).
"""

from __future__ import annotations

import torch
from torch import nn

from mmssl.nn.audio import LogMel
from mmssl.nn.features import Features
from mmssl.ops.loudness import loudness


class SoundStatistics(nn.Module):
    """Waveform [B, S] -> `Features` pooled [B, 2 * mels + 1]; nothing is learned.

    The columns are the mean of every band (`mels`), its standard deviation over time (`mels`), and the loudness in
    decibels of full scale (1). It stands in a bundle as an audio encoder does; its front end hands the waveform on.

    Args:
        rate: samples a second of the waveform.
        mels: mel bands.
    """

    modality = "audio"
    strides: tuple[int, ...] = ()

    def __init__(self, rate: int = 16000, mels: int = 64) -> None:
        super().__init__()
        self.level_widths: dict[int, int] = {}
        self.rate = rate
        self.mels = mels
        self.width = 2 * mels + 1
        self.frontend = nn.Identity()
        self.log_mel = LogMel(rate, mels)

    def forward(self, x: torch.Tensor) -> Features:
        """Describe waveforms."""
        bands = self.log_mel(x)[:, 0]
        columns = [bands.mean(dim=2), bands.std(dim=2, correction=0), loudness(x)[:, None]]
        return Features(pooled=torch.cat(columns, dim=1))
