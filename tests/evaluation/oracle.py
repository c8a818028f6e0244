"""A world in which the right answer is planted, and encoders and a matcher that find it without learning.

Every clip shows a red and a blue square on grey, one on the left and one on the right, at a height of its own. A low
tone belongs to red, a high tone to blue: the tone tells which square sounds, nothing in the picture does. The label
is the quadrant-free fact "which square is on the left".
"""

from __future__ import annotations

import io
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from torch import nn

from mmssl.nn.encoders import Build, Encoders
from mmssl.nn.features import Features
from mmssl.nn.matcher import Matcher
from tests.corpora import write_tar

SIZE, RATE, SOUND_RATE, SECONDS = 48, 10, 16000, 2.0
TONES = {"red": 400.0, "blue": 3000.0}
SQUARE = 12


def encode(frames: np.ndarray, sound: np.ndarray | None) -> bytes:
    """An mp4 of frames uint8 [T, H, W, 3] at 10 fps and sound float32 [S] at 16 kHz."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=RATE, options={"crf": "10", "preset": "ultrafast"})
        video.height, video.width, video.pix_fmt = *frames.shape[1:3], "yuv420p"
        video.codec_context.max_b_frames = 0
        audio = container.add_stream("aac", rate=SOUND_RATE, layout="mono") if sound is not None else None
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for begin in range(0, 0 if sound is None else len(sound), 1024):
            frame = av.AudioFrame.from_ndarray(sound[None, begin : begin + 1024].copy(), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, begin, Fraction(1, SOUND_RATE)
            container.mux(audio.encode(frame))
        if audio is not None:
            container.mux(audio.encode(None))
    return file.getvalue()


def planted_clip(number: int) -> tuple[bytes, dict]:
    """The mp4 and the json member of clip `number`."""
    red_left, sounding = number % 2 == 0, ("red", "blue")[number // 2 % 2]
    tops = (4 + 5 * (number % 5), 4 + 5 * ((number + 2) % 5))
    lefts = {"red": 4 if red_left else 30, "blue": 30 if red_left else 4}
    frames = np.full((round(SECONDS * RATE), SIZE, SIZE, 3), 110, dtype=np.uint8)
    boxes = {}
    for (name, left), top in zip(lefts.items(), tops, strict=True):
        frames[:, top : top + SQUARE, left : left + SQUARE] = (230, 20, 20) if name == "red" else (20, 20, 230)
        boxes[name] = [v / SIZE for v in (left, top, left + SQUARE, top + SQUARE)]
    time = np.arange(round(SECONDS * SOUND_RATE)) / SOUND_RATE
    sound = (0.5 * np.sin(2 * np.pi * TONES[sounding] * time)).astype(np.float32)
    times = [n / RATE for n in range(len(frames))]
    meta = {
        "source": f"film{number:03d}_take{number % 4}.mp4",
        "start": 0.0,
        "duration": SECONDS,
        "width": SIZE,
        "height": SIZE,
        "label": "red left" if red_left else "blue left",
        "split": "test" if number % 3 == 0 else "train",
        "truth": {"material": sounding, "boxes": [boxes[sounding]] * len(frames), "box_times": times},
        "original": {"width": SIZE, "height": SIZE, "seconds": SECONDS, "frame_rate": RATE},
    }
    return encode(frames, sound), meta


def planted_shards(folder: Path, clips: int, **changes: object) -> str:
    """One shard of planted clips; `changes` go into every json member."""
    samples = []
    for number in range(clips):
        media, meta = planted_clip(number)
        samples.append((f"clip{number:03d}", {"mp4": media, "json": json.dumps(meta | changes).encode()}))
    folder.mkdir(parents=True, exist_ok=True)
    write_tar(folder / "clips-000000.tar", samples)
    return str(folder)


class SeesSquares(nn.Module):
    """Redness and blueness of each place; untrained (gain 0) it gives the same for every picture."""

    strides = (4,)
    width = 6

    def __init__(self, modality: str = "video") -> None:
        super().__init__()
        self.modality = modality
        self.level_widths = {4: 2}
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> Features:
        """Frames [B, 3, (T,) H, W] in [0, 1]."""
        still = x.mean(dim=2) if x.ndim == 5 else x
        colour = torch.stack([still[:, 0] - still[:, 2], still[:, 2] - still[:, 0]], dim=1).clamp(min=0) * self.gain
        level = nn.functional.avg_pool2d(colour, 4)
        half = level.shape[-1] // 2
        sides = [level[..., :half].mean(dim=(2, 3)), level[..., half:].mean(dim=(2, 3)), level.amax(dim=(2, 3))]
        return Features(pooled=torch.cat(sides, dim=1), levels={4: level})


class Frontend(nn.Module):
    """Energy of the low and of the high band, [B, 1, 2, 1]."""

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """Waveform [B, S] at 16 kHz."""
        power = torch.fft.rfft(waveform).abs().square()
        edge = power.shape[1] * 1500 // 8000
        return torch.stack([power[:, :edge].sum(1), power[:, edge:].sum(1)], 1)[:, None, :, None].log1p()


class HearsTones(nn.Module):
    """Pooled: log energy of the low and the high band."""

    modality, width, strides, rate = "audio", 2, (), SOUND_RATE

    def __init__(self) -> None:
        super().__init__()
        self.level_widths: dict[int, int] = {}
        self.frontend = Frontend()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> Features:
        """What the front end gives."""
        return Features(pooled=x[:, 0, :, 0] * self.gain)


class Planted(Matcher):
    """Points to red for a low tone, to blue for a high one, nowhere in silence."""

    encoders = {"picture": "image", "sound": "audio"}  # noqa: RUF012

    def __init__(self, sound_seconds: float = 0.5) -> None:
        super().__init__()
        self.init_args = {"sound_seconds": sound_seconds}
        self.unused = nn.Parameter(torch.zeros(1))

    def embed(self, modality: str, features: Features) -> torch.Tensor:
        """Unit vectors of the pooled features."""
        return nn.functional.normalize(features.pooled, dim=1)

    def similarity_map(self, picture: Features, sound: Features) -> torch.Tensor:
        """The redness map or the blueness map."""
        loud = (sound.pooled.amax(dim=1, keepdim=True) > 1.0).float()
        which = nn.functional.one_hot(sound.pooled.argmax(dim=1), 2).float() * loud
        return torch.einsum("bchw,bc->bhw", picture.levels[4], which)


def planted_run(folder: Path) -> Path:
    """A run folder with the encoders and the head of this world."""
    here = "tests.evaluation.oracle"
    builds = {
        "video": Build(f"{here}.SeesSquares", {"modality": "video"}),
        "image": Build(f"{here}.SeesSquares", {"modality": "image"}),
        "audio": Build(f"{here}.HearsTones"),
    }
    bundle = Encoders(builds)
    with torch.no_grad():
        for name in ("video", "image"):
            bundle[name].gain.fill_(1.0)
    bundle.save(folder / "encoders", {"av_localization": Planted(), "pairs_only": PairsOnly()})
    return folder


class PairsOnly(Matcher):
    """A head without a map."""

    encoders = {"picture": "image", "sound": "audio"}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.init_args = {}
        self.unused = nn.Parameter(torch.zeros(1))

    def embed(self, modality: str, features: Features) -> torch.Tensor:
        """Unit vectors of the pooled features."""
        return nn.functional.normalize(features.pooled, dim=1)
