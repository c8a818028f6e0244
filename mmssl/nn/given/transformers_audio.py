"""Audio models of transformers as encoders: the audio spectrogram transformer and the wav2vec 2.0 family.

AST: Gong et al., arXiv 2104.01778; its front end is Kaldi's log-mel filter bank with the mean and spread that were
measured on AudioSet. wav2vec 2.0: Baevski et al., arXiv 2006.11477; it takes the waveform.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchaudio
from torch import nn

from mmssl.errors import UserError
from mmssl.nn.features import Features
from mmssl.nn.given.transformers import drop_pooler
from mmssl.nn.given.transformers_files import (
    load_folder,
    load_model_weights,
    make_model,
    read_config,
    read_preprocessor,
)

SPECTROGRAM = ("audio-spectrogram-transformer",)
WAVEFORM = ("data2vec-audio", "hubert", "sew", "unispeech", "unispeech-sat", "wav2vec2", "wav2vec2-conformer", "wavlm")
AUDIOSET_MEAN, AUDIOSET_STD = -4.2677393, 4.5689974


class FilterBank(nn.Module):
    """Waveform float32 [B, S] at `rate` -> Kaldi's log-mel filter bank [B, 1, mels, frames], normalised.

    25 ms Hann windows every 10 ms, as `ASTFeatureExtractor` computes them.
    """

    def __init__(self, rate: int, mels: int, mean: float, std: float) -> None:
        super().__init__()
        self.rate, self.mels, self.mean, self.std = rate, mels, mean, std

    @torch.no_grad()
    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """Filter banks of a batch of waveforms."""
        with torch.autocast(waveform.device.type, enabled=False):
            banks = [
                torchaudio.compliance.kaldi.fbank(
                    row[None], sample_frequency=self.rate, window_type="hanning", num_mel_bins=self.mels
                )
                for row in waveform.float()
            ]
        return (torch.stack(banks).transpose(1, 2)[:, None] - self.mean) / (2 * self.std)


class Waveform(nn.Module):
    """Waveform [B, S] -> the same [B, 1, 1, S], with zero mean and unit spread where the model was trained so."""

    def __init__(self, normalise: bool) -> None:
        super().__init__()
        self.normalise = normalise

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """Waveforms of a batch."""
        if self.normalise:
            var, mean = torch.var_mean(waveform, dim=1, keepdim=True, correction=0)
            waveform = (waveform - mean) / (var + 1e-7).sqrt()
        return waveform[:, None, None]


class TransformersAudioEncoder(nn.Module):
    """An audio model of transformers; `frontend` makes what it takes of a waveform. No levels; tokens over time.

    Pooled is the model's own pooling of an AST (the mean of its two class tokens), else the mean over time.

    Args:
        folder: what `save_pretrained` wrote, whose weights are loaded.
        config: a configuration as config.json holds it, with ``model_type``, for random weights.
        rate: samples a second of the waveform; the folder's preprocessor_config.json's, or 16000.
        normalise: whether waveforms get zero mean and unit spread (the wav2vec 2.0 family); as the folder says, or yes.

    Raises:
        UserError: neither or both of folder and config are given, a model of another kind, or weights that do not fit.
    """

    modality = "audio"
    strides: tuple[int, ...] = ()

    def __init__(
        self,
        folder: str | None = None,
        config: Mapping[str, Any] | None = None,
        rate: int | None = None,
        normalise: bool | None = None,
    ) -> None:
        super().__init__()
        made = read_config(folder, config)
        kind = str(made.model_type)
        if kind not in (*SPECTROGRAM, *WAVEFORM):
            raise UserError(f"no audio encoder of '{kind}' (there are {', '.join((*SPECTROGRAM, *WAVEFORM))})")
        self.level_widths: dict[int, int] = {}
        self.width = int(made.hidden_size)
        said = read_preprocessor(folder)
        self.rate = int(rate or said.get("sampling_rate") or 16000)
        self.hears_waveform = kind in WAVEFORM
        self.frontend: nn.Module
        if self.hears_waveform:
            self.frontend = Waveform(bool(said.get("do_normalize", True)) if normalise is None else normalise)
        else:
            mean, std = float(said.get("mean", AUDIOSET_MEAN)), float(said.get("std", AUDIOSET_STD))
            self.frontend = FilterBank(self.rate, int(made.num_mel_bins), mean, std)
            self.frames = int(made.max_length)
        self.model: Any = make_model(made) if folder is None else load_folder(Path(folder), made)
        drop_pooler(self.model, "mean")

    @classmethod
    def architecture(cls, **init_args: Any) -> dict[str, Any]:
        """Arguments that build the same with random weights."""
        folder = init_args.pop("folder", None)
        if folder is None:
            return init_args
        made, said = read_config(folder, init_args.get("config")), read_preprocessor(folder)
        found = {"rate": said.get("sampling_rate"), "normalise": said.get("do_normalize")}
        given = {name: value for name, value in {**found, **init_args}.items() if value is not None}
        return {"config": json.loads(made.to_json_string(use_diff=False)), **given}

    def load_weights(self, path: Path) -> None:
        """Load a state dict of the model, or of one with a head on it."""
        load_model_weights(self.model, path)

    def forward(self, x: torch.Tensor) -> Features:
        """Encode what `frontend` gives."""
        if self.hears_waveform:
            last = self.model(x[:, 0, 0]).last_hidden_state
            pooled = last.mean(dim=1)
        else:
            x = x[:, 0].transpose(1, 2)[:, : self.frames]
            # The extractor fills up with silence of 0 before it normalises; the model's places are those of its length.
            filled = F.pad(x, (0, 0, 0, self.frames - x.shape[1]), value=self._fill())
            last = self.model(filled).last_hidden_state
            pooled = last[:, :2].mean(dim=1)
        return Features(pooled=pooled, tokens=last, token_mask=last.new_ones(last.shape[:2]).bool())

    def _fill(self) -> float:
        bank: Any = self.frontend
        return float(-bank.mean / (2 * bank.std))
