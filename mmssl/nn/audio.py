"""A small sound encoder: log-mel front end and residual stages over the spectrogram."""

from __future__ import annotations

import torch
import torchaudio
from torch import nn

from mmssl.nn.blocks import Conv2d, ResidualBlock, group_norm
from mmssl.nn.features import Features


class LogMel(nn.Module):
    """Waveform float32 [B, S] in [-1, 1] -> log-mel spectrogram [B, 1, mels, frames], about zero mean and unit spread.

    25 ms Hann windows every 10 ms. Computed in float32 (called outside autocast: a spectrogram in bfloat16 loses
    the quiet bands).
    """

    def __init__(self, rate: int = 16000, mels: int = 64) -> None:
        super().__init__()
        self.rate = rate
        self.mel = torchaudio.transforms.MelSpectrogram(
            sample_rate=rate,
            n_fft=1 << (rate // 40).bit_length(),
            win_length=rate // 40,
            hop_length=rate // 100,
            f_min=40.0,
            f_max=rate / 2,
            n_mels=mels,
            power=2.0,
        )

    @torch.no_grad()
    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """Spectrogram of a batch of waveforms."""
        with torch.autocast(waveform.device.type, enabled=False):
            mel = self.mel(waveform.float())
            # -40 dB of power is the floor of what a 16-bit recording holds in one band; the constants put ordinary
            # sound between -2 and 2.
            return torch.as_tensor((torch.log(mel + 1e-4) + 3.0)[:, None] / 4.0)


class SmallAudioEncoder(nn.Module):
    """Log-mel [B, 1, M, F] -> `Features` with levels at strides 4, 8, 16.

    Args:
        width: D of the pooled vector.
        channels: channels at strides 4, 8, 16.
        depth: residual blocks a stage.
        rate: samples a second of the waveform that `frontend` takes.
        mels: mel bands.
    """

    modality = "audio"
    strides = (4, 8, 16)

    def __init__(
        self,
        width: int = 256,
        channels: tuple[int, int, int] = (32, 64, 128),
        depth: int = 1,
        rate: int = 16000,
        mels: int = 64,
    ) -> None:
        super().__init__()
        self.width = width
        self.rate = rate
        widths = [int(c) for c in channels]
        self.level_widths = dict(zip(self.strides, widths, strict=True))
        self.frontend = LogMel(rate, mels)
        self.stem = Conv2d(1, widths[0], 7, 4, 3)
        self.stages = nn.ModuleList()
        previous = widths[0]
        kernels = ((3, 3), (3, 3))
        for number, current in enumerate(widths):
            first = ResidualBlock(previous, current, kernels, (1, 1) if number == 0 else (2, 2))
            rest = [ResidualBlock(current, current, kernels, (1, 1)) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(first, *rest))
            previous = current
        self.norm = group_norm(previous)
        # Mean and maximum over time: the mean says what sounds, the maximum keeps short events.
        self.project = nn.Linear(2 * previous * (mels // 16), width)

    def forward(self, x: torch.Tensor) -> Features:
        """Encode spectrograms."""
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        levels = {}
        for stride, stage in zip(self.strides, self.stages, strict=True):
            x = stage(x)
            levels[stride] = x
        x = torch.relu(self.norm(x)).flatten(1, 2)  # frequency keeps its place: pitch is not shift-invariant
        pooled = self.project(torch.cat([x.mean(dim=2), x.amax(dim=2)], dim=1))
        return Features(pooled=pooled, levels=levels)
