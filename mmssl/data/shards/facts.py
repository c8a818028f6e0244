"""What a source's container says of its streams, within the limits of a build."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from mmssl.data.media import MediaError, clock_zero
from mmssl.data.shards.settings import BuildSettings

SLOWEST, FASTEST, USUAL = Fraction(1, 10), Fraction(240), Fraction(25)
ALIKE = 5e-4  # share by which two rates may differ and be one; 30 and 29.97 are two


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """Facts about an open container.

    `zero` is the time stamp that a player shows as 0. `rate` is the mean frame rate; `constant` the one at which all
    frames come, None where they do not. `picture_end` and `file_end` are where the picture and the longest stream
    should end on that clock, as far as the header says. `description` goes into the clips' json.
    """

    zero: float
    rate: Fraction
    constant: Fraction | None
    picture_end: float | None
    file_end: float | None
    description: dict[str, Any]


def read_facts(container: Any, video: Any, audio: Any | None, settings: BuildSettings) -> SourceFacts:
    """Read the facts.

    Raises:
        MediaError: "too long".
    """
    context = video.codec_context
    seconds = None if container.duration is None else container.duration / 1_000_000
    if seconds is not None and seconds > settings.max_hours * 3600:
        raise MediaError("too long", f"{seconds / 3600:.1f} hours (at most {settings.max_hours} are taken)")
    rate = video.average_rate or video.guessed_rate or USUAL
    zero = clock_zero(container)
    picture_end = None
    if video.duration and video.time_base:
        picture_end = float(((video.start_time or 0) + video.duration) * video.time_base) - zero
    return SourceFacts(
        zero=zero,
        rate=rate if SLOWEST <= rate <= FASTEST else USUAL,
        constant=_constant(video.average_rate, video.base_rate),
        picture_end=picture_end,
        # Matroska counts the duration from time stamp 0, others from the start: the smaller one is safe
        file_end=None if seconds is None else seconds - zero,
        description={
            "container": container.format.name,
            "video_codec": context.name,
            "width": context.width,
            "height": context.height,
            "frame_rate": round(float(rate), 4),
            "seconds": seconds,
            "video_start": _start_of(video),
            "audio_codec": None if audio is None else audio.codec_context.name,
            "audio_rate": None if audio is None else audio.codec_context.sample_rate,
            "channels": None if audio is None else audio.codec_context.channels,
            "audio_start": None if audio is None else _start_of(audio),
        },
    )


def _constant(mean: Fraction | None, base: Fraction | None) -> Fraction | None:
    """The rate of a stream whose mean rate is the one by which all its time stamps can be counted."""
    if not mean or not base or not SLOWEST <= base <= FASTEST or abs(mean - base) > ALIKE * base:
        return None
    return base


def _start_of(stream: Any) -> float | None:
    if stream.start_time is None or stream.time_base is None:
        return None
    return round(float(stream.start_time * stream.time_base), 6)
