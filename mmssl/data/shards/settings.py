"""Settings of a build: how sources are cut into clips, and how clips are encoded and stored."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from mmssl.errors import UserError

Fit = Literal["short_side", "crop", "stretch"]
Labels = Literal["folder", "none"]

_NOT_CONTENT = {"allow_missing", "processes", "limit", "retry_failed", "stall_seconds"}


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """How to cut, encode and store.

    Args:
        clip_seconds: Length of a clip; None makes one clip of a whole file (or of a manifest's segment).
        min_seconds: A shorter rest at the end of a file is left out (a whole file that is shorter is a failure).
        stride: Seconds from the start of one clip to the next; `clip_seconds` unless given.
        short_side: Short side of the picture in pixels; a smaller picture is not enlarged.
        size: (height, width) of all clips instead of `short_side`; needs `fit` "crop" or "stretch".
        fit: "short_side" keeps the aspect; "crop" fills `size` and cuts the rest, "stretch" distorts to `size`.
        frame_rate: Constant frames a second of the clips; None keeps the frames of the source at their times.
        even_rate: Give clips of a source of constant rate the whole share of that rate that is nearest to `frame_rate`,
            so that they show every frame, every second, every third ... (30 becomes 15). At exactly 12.5 they would
            show every second, second, third ..., a rhythm by which a network tells times without looking at motion.
        gop: Frames from one key frame to the next at most.
        crf: Quality of H.264 (x264's constant rate factor; lower is better and bigger).
        preset: x264's preset.
        tune: x264's tune; "fastdecode" decodes about a third faster.
        audio_rate: Samples a second of the sound (mono).
        audio_bitrate: Bits a second of the AAC sound.
        samples_per_shard: Clips in a tar.
        prefix: Name before the number of a tar, for clips whose source has no split.
        labels: "folder" takes the name of the folder that a file lies in as its label.
        dense_truth: Store the dense truth of clips (what Soundstage writes as `truth/{key}.npz` beside its manifest, or
            the file that the manifest's column `dense_truth` names) as the member `{key}.truth.npz`.
        corpus: "auto" for a folder, manifest or video, or the name of a known data set
            (`mmssl.data.corpora.listing.CORPORA`), which gives labels, official folds, groups and boxes.
        allow_missing: Whether files that the lists of a known data set name may be missing (as of those that are
            downloaded one by one); they are then listed in failures.jsonl.
        subtitle_language: Language code to choose among sidecars (`name.en.vtt`) and embedded streams.
        shuffle: Store sources in a fixed pseudo-random order, so that a shard mixes folders.
        max_pixels: Sources with larger pictures are refused.
        max_hours: Longer sources are refused.
        processes: Worker processes.
        limit: Use only so many sources (a trial; a later run without it goes on).
        retry_failed: Try the sources again that failed in an earlier run.
        stall_seconds: A source that yields nothing for so long is given up.
    """

    clip_seconds: float | None = 10.0
    min_seconds: float = 1.0
    stride: float | None = None
    short_side: int = 128
    size: tuple[int, int] | None = None
    fit: Fit = "short_side"
    frame_rate: float | None = 12.5
    even_rate: bool = True
    gop: int = 12
    crf: int = 23
    preset: str = "veryfast"
    tune: str = "fastdecode"
    audio_rate: int = 16000
    audio_bitrate: int = 48000
    samples_per_shard: int = 256
    prefix: str = "clips"
    labels: Labels = "folder"
    dense_truth: bool = False
    corpus: str = "auto"
    allow_missing: bool = False
    subtitle_language: str | None = None
    shuffle: bool = True
    max_pixels: int = 36_000_000
    max_hours: float = 8.0
    processes: int = 2
    limit: int | None = None
    retry_failed: bool = False
    stall_seconds: float = 600.0

    def __post_init__(self) -> None:
        """Refuse what cannot be built, all faults at once."""
        faults = []
        for name in ("clip_seconds", "stride", "frame_rate", "limit"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                faults.append(f"{name}={value} must be above 0 (or null)")
        for name in ("gop", "samples_per_shard", "processes", "audio_bitrate", "max_pixels", "stall_seconds"):
            if not getattr(self, name) > 0:
                faults.append(f"{name}={getattr(self, name)} must be above 0")
        if self.min_seconds < 0:
            faults.append(f"min_seconds={self.min_seconds} must not be negative")
        if self.clip_seconds is not None and self.min_seconds > self.clip_seconds:
            faults.append(f"min_seconds={self.min_seconds} must not exceed clip_seconds={self.clip_seconds}")
        if self.clip_seconds is None and self.stride is not None:
            faults.append("stride needs clip_seconds")
        if self.audio_rate not in (8000, 16000, 22050, 24000, 32000, 44100, 48000):
            faults.append(f"audio_rate={self.audio_rate} is no rate of AAC (16000 is usual)")
        if not 0 <= self.crf <= 51:
            faults.append(f"crf={self.crf} must lie in 0 to 51")
        if self.short_side < 16:
            faults.append(f"short_side={self.short_side} must be at least 16")
        if self.size is not None and (min(self.size) < 16 or any(side % 2 for side in self.size)):
            faults.append(f"size={self.size} must be even and at least 16")
        if (self.size is None) != (self.fit == "short_side"):
            faults.append(f"fit={self.fit!r} does not go with size={self.size}: size needs 'crop' or 'stretch'")
        if not re.fullmatch(r"[0-9A-Za-z_-]+", self.prefix):
            faults.append(f"prefix={self.prefix!r} may hold letters, digits, '_' and '-' only")
        if faults:
            raise UserError("settings of the build: " + "; ".join(faults))

    @property
    def rate(self) -> Fraction | None:
        """The frame rate as a fraction (12.5 is 25/2, 29.97 is 30000/1001)."""
        if self.frame_rate is None:
            return None
        ntsc = Fraction(round(self.frame_rate * 1001 / 1000) * 1000, 1001)
        if abs(float(ntsc) - self.frame_rate) < 3e-4 * self.frame_rate:
            return ntsc
        return Fraction(self.frame_rate).limit_denominator(1000)

    def rate_for(self, constant: Fraction | None) -> Fraction | None:
        """Frames a second of the clips of a source whose frames come at the rate `constant`; None if they do not.

        A source that is slower than `frame_rate` shows frames more than once at it.
        """
        wanted = self.rate
        if wanted is None or constant is None or not self.even_rate or constant < wanted:
            return wanted
        shares = [constant / every for every in range(1, math.ceil(constant / wanted) + 1)]
        return min(shares, key=lambda share: abs(share - wanted))  # of two as near the faster one, which comes first

    def content(self) -> dict[str, Any]:
        """The settings that decide what lies in the shards, as JSON values."""
        values = dataclasses.asdict(self)
        if not self.dense_truth:
            del values["dense_truth"]  # shards from before there was such a setting are the same without it
        if not self.even_rate:
            del values["even_rate"]
        if self.corpus == "auto":
            del values["corpus"]
        return {name: _json(value) for name, value in values.items() if name not in _NOT_CONTENT}


def _json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
