"""Clips of one shade each, with a tone and a word that belong to the shade, and a head that knows which.

Encoders turn shade, tone and word into an angle; with random weights (gain 0) all angles are alike and everything ties.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mmssl.nn.encoders import Build, Encoders
from mmssl.nn.features import Features
from mmssl.nn.matcher import Matcher
from mmssl.nn.tokenizer import Tokenizer
from tests.corpora import write_tar
from tests.evaluation.oracle import RATE, SECONDS, SOUND_RATE, encode

SHADES = 20
WORDS = (
    "apple bread chair drum eagle flute grape horse igloo jacket kettle lemon mirror needle onion piano quilt river "
    "stone table"
).split()
HERE = "tests.evaluation.shades"


def shade_clip(number: int, sound: bool = True) -> tuple[bytes, dict]:
    """The mp4 and the description of a clip of shade `number`."""
    frames = np.full((round(SECONDS * RATE), 32, 32, 3), 20 + 10 * number, dtype=np.uint8)
    time = np.arange(round(SECONDS * SOUND_RATE)) / SOUND_RATE
    wave = (0.5 * np.sin(2 * np.pi * (400 + 200 * number) * time)).astype(np.float32) if sound else None
    meta = {
        "source": f"film{number:02d}.mp4",
        "duration": SECONDS,
        "label": f"class{number % 4}",
        "split": "test" if number % 8 >= 4 else "train",
        "truth": {"dark": number < SHADES // 2, "near": [WORDS[number], WORDS[(number + 1) % SHADES]]},
    }
    return encode(frames, wave), meta


def vtt(*cues: tuple[float, float, str]) -> bytes:
    """A WebVTT file."""
    text = "".join(f"00:00:{start:06.3f} --> 00:00:{end:06.3f}\n{said}\n\n" for start, end, said in cues)
    return f"WEBVTT\n\n{text}".encode()


def shade_shards(folder: Path, silent: tuple[int, ...] = (), wordless: tuple[int, ...] = (), **said: str) -> str:
    """A shard of all shades; `said` (shade3="...") changes what is said in the middle of one."""
    samples = []
    for number in range(SHADES):
        media, meta = shade_clip(number, number not in silent)
        members = {"mp4": media, "json": json.dumps(meta).encode()}
        if number not in wordless:
            word = said.get(f"shade{number}", WORDS[number])
            members["vtt"] = vtt((0.0, 0.6, "nothing much"), (0.8, 1.2, word), (1.5, 1.9, "never mind"))
        samples.append((f"clip{number:02d}", members))
    folder.mkdir(parents=True, exist_ok=True)
    write_tar(folder / "clips-000000.tar", samples)
    return str(folder)


class Angle(nn.Module):
    """Pooled: [cos, sin] of an angle that `what` gives, times a gain that is 0 at random weights."""

    strides, width = (), 2

    def __init__(self) -> None:
        super().__init__()
        self.level_widths: dict[int, int] = {}
        self.gain = nn.Parameter(torch.zeros(()))

    def angle(self, number: torch.Tensor) -> Features:
        """Of shades, float [B]."""
        angle = number * self.gain * math.pi / SHADES
        return Features(torch.stack([angle.cos(), angle.sin()], dim=1))


class SeesShade(Angle):
    """The shade of frames."""

    def __init__(self, modality: str = "image") -> None:
        super().__init__()
        self.modality = modality

    def forward(self, x: torch.Tensor) -> Features:
        """Frames [B, 3, (T,) H, W] in [0, 1]."""
        return self.angle((x.flatten(1).mean(dim=1) * 255 - 20) / 10)


class HearsShade(Angle):
    """The shade that the loudest frequency belongs to."""

    modality, rate = "audio", SOUND_RATE

    def __init__(self) -> None:
        super().__init__()
        self.frontend = nn.Identity()

    def forward(self, x: torch.Tensor) -> Features:
        """Waveform [B, S]."""
        power = torch.fft.rfft(x).abs()
        return self.angle((power.argmax(dim=1) * SOUND_RATE / x.shape[1] - 400) / 200)


class ReadsShade(Angle):
    """The shade that the first known word belongs to; a sentence without one is of a shade far from all."""

    modality = "text"

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.register_buffer("shades", torch.full((vocabulary,), -1.0))
        self.shades: torch.Tensor

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> Features:
        """Token ids [B, L]."""
        found = torch.where(mask, self.shades[ids], -1.0).amax(dim=1)
        return self.angle(torch.where(found < 0, 1.5 * SHADES, found))


class Shades(Matcher):
    """The angles as they are."""

    def __init__(self, picture: str = "image", other: str = "sound") -> None:
        super().__init__()
        self.init_args = {"picture": picture, "other": other}
        self.encoders = {"picture": picture, other: "audio" if other == "sound" else "text"}
        if other == "sound":
            self.sound_seconds = 0.5
        self.unused = nn.Parameter(torch.zeros(1))

    def embed(self, modality: str, features: Features) -> torch.Tensor:
        """Unit vectors [B, 2]."""
        return features.pooled


class PlacedShades(Shades):
    """The same in several places, of which all but one are noise that never matches."""

    def parts(self, modality: str, features: Features) -> torch.Tensor:
        """[B, 3, 2] of a picture, [B, 1, 2] of a sound."""
        own = features.pooled[:, None]
        return own if modality != "picture" else torch.cat([-own, own, 0 * own], dim=1)


def shade_run(folder: Path) -> Path:
    """A run folder with encoders and heads that know."""
    tokenizer = Tokenizer.train(["nothing much", "never mind", *WORDS], vocabulary=400, length=6)
    builds = {
        "image": Build(f"{HERE}.SeesShade"),
        "video": Build(f"{HERE}.SeesShade", {"modality": "video"}),
        "audio": Build(f"{HERE}.HearsShade"),
        "text": Build(f"{HERE}.ReadsShade", {"vocabulary": tokenizer.size}),
    }
    bundle = Encoders(builds, tokenizer)
    with torch.no_grad():
        for name in builds:
            bundle[name].gain.fill_(1.0)
        for number, word in enumerate(WORDS):
            bundle["text"].shades[int(tokenizer.encode([word])[0, 1])] = number
    heads = {"sounds": Shades(), "placed": PlacedShades(), "words": Shades("video", "text")}
    bundle.save(folder / "encoders", heads)
    return folder
