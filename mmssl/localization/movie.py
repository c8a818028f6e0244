"""Pictures and sound of any video file for drawing, and movies that every browser plays (H.264 and AAC in mp4).

All times are on the clip's clock, whose 0 is what a player shows as 0.
"""

from __future__ import annotations

import os
import shutil
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np

from mmssl.data.media import (
    MediaError,
    audio_stream,
    clock_zero,
    open_media,
    pixel_aspect,
    quarter_turns,
    video_stream,
)
from mmssl.data.timestamps import PictureClock
from mmssl.localization.reading import decoded

SHORT_SIDE = 288  # pixels, at least, of what is drawn: small clips are enlarged
LONG_SIDE = 960  # at most
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
AAC_FRAME = 1024  # samples
GAP = (0.05, 600.0)  # seconds: shorter jumps of the sound's stamps are noise, longer ones are lies
_FINE = Fraction(1, 90000)


def write_movie(
    path: Path, frames: Iterator[tuple[float, np.ndarray]], sounds: Iterator[tuple[int, int, np.ndarray]], crf: int = 23
) -> None:
    """Write an mp4 of H.264 and AAC: every picture at its own time, and the sound; the file appears whole or not.

    Args:
        path: of the mp4.
        frames: (time, uint8 [H, W, 3]) in order; H and W even.
        sounds: what `sound_blocks` gives; may be empty.
        crf: quality of the picture; less is better.

    Raises:
        MediaError: there is no picture.
    """
    with whole(path) as aside, av.open(str(aside), "w", format="mp4", options={"movflags": "faststart"}) as out:
        first, sound = next(frames, None), next(sounds, None)
        if first is None:
            raise MediaError("no frame", "the picture stream holds no decodable frame")
        video: Any = out.add_stream("libx264", rate=30, options={"crf": str(crf), "preset": "veryfast"})
        video.height, video.width, video.pix_fmt = *first[1].shape[:2], "yuv420p"
        video.time_base = video.codec_context.time_base = _FINE
        audio: Any = None
        if sound is not None:
            audio = out.add_stream("aac", rate=sound[1], layout="mono" if len(sound[2]) == 1 else "stereo")
        for time, picture in chain([first], frames):
            while sound is not None and sound[0] / sound[1] <= time:
                out.mux(audio.encode(_sound_frame(*sound)))
                sound = next(sounds, None)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time / _FINE), _FINE
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        while sound is not None:
            out.mux(audio.encode(_sound_frame(*sound)))
            sound = next(sounds, None)
        if audio is not None:
            out.mux(audio.encode(None))


def _sound_frame(position: int, rate: int, wave: np.ndarray) -> Any:
    frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono" if len(wave) == 1 else "stereo")
    frame.sample_rate, frame.pts, frame.time_base = rate, position, Fraction(1, rate)
    return frame


def browser_media(media: bytes | Path, stem: Path) -> Path:
    """Write a clip so that browsers play it, as `stem` with a suffix, and return where.

    A file that they play as it is gets copied; any other is encoded as H.264 and AAC, upright, at most 1280 pixels.

    Args:
        media: the clip, or its file.
        stem: path without suffix.

    Raises:
        MediaError: it cannot be decoded.
    """
    suffix = playable_suffix(media)
    path = stem.with_name(stem.name + (suffix or ".mp4"))
    if suffix is None:
        write_movie(path, pictures(media, short_side=16, long_side=1280), sound_blocks(media), crf=20)
    else:
        with whole(path) as aside:
            if isinstance(media, bytes):
                aside.write_bytes(media)
            else:
                shutil.copyfile(media, aside)
    return path


def playable_suffix(media: bytes | Path) -> str | None:
    """`.mp4` or `.webm` where the usual browsers play the clip as it is, else None.

    That is H.264 in 8 bits 4:2:0 with AAC or MP3 in mp4, or VP8 or VP9 with Vorbis or Opus in WebM, with a clock that
    begins at 0.
    """
    with open_media(media) as container:
        video, audio = video_stream(container).codec_context, audio_stream(container)
        sound = None if audio is None else audio.codec_context.name
        if clock_zero(container) > 1e-3 or video.pix_fmt not in ("yuv420p", "yuvj420p"):
            return None
        if "mp4" in container.format.name and video.name == "h264" and sound in (None, "aac", "mp3", "mp3float"):
            return ".mp4"
        webm = "webm" in container.format.name and b"webm" in _first(media, 64)
        if webm and video.name in ("vp8", "vp9", "libvpx", "libvpx-vp9"):
            return ".webm" if sound in (None, "vorbis", "opus", "libopus", "libvorbis") else None
    return None


def _first(media: bytes | Path, count: int) -> bytes:
    if isinstance(media, bytes):
        return media[:count]
    with open(media, "rb") as file:
        return file.read(count)


def frame_times(media: bytes | Path) -> np.ndarray:
    """Float32 [N]: when each frame begins, by the stamps of the packets; nothing is decoded. Empty if not stamped."""
    with open_media(media) as container:
        stream, zero = video_stream(container), clock_zero(container)
        stamps = array("q")  # a film has many
        with suppress(av.FFmpegError):  # so far it can be read; who decodes it tells
            stamps.extend(p.pts for p in container.demux(stream) if p.size and p.pts is not None)
        seconds = np.unique(np.array(stamps, dtype=np.float64) * float(stream.time_base or 0)) - zero
    return np.asarray(seconds[seconds > -1e-6].clip(0), dtype=np.float32)


def waveform(media: bytes | Path, duration: float, columns: int = 1000) -> np.ndarray:
    """Uint8 [columns]: the largest absolute sample of each part of the clip, 255 for full scale."""
    peaks = np.zeros(columns)
    for position, rate, wave in sound_blocks(media):
        column = ((position + np.arange(wave.shape[1])) / rate / max(duration, 1e-6) * columns).astype(np.int64)
        inside = column < columns
        np.maximum.at(peaks, column[inside], np.abs(wave[:, inside]).max(axis=0))
    return np.asarray(np.round(peaks.clip(0, 1) * 255), dtype=np.uint8)


def pictures(
    media: bytes | Path, short_side: int = SHORT_SIDE, long_side: int = LONG_SIDE
) -> Iterator[tuple[float, np.ndarray]]:
    """(time, uint8 [H, W, 3]) of every frame, upright, with square pixels; all of one size.

    Time is on the clip's clock and rises. H and W are even. What cannot be decoded is passed over.

    Args:
        media: the clip.
        short_side: smaller pictures are enlarged to it.
        long_side: larger ones are made as small.
    """
    with open_media(media) as container:
        stream = video_stream(container)
        zero, aspect = clock_zero(container), float(pixel_aspect(stream))
        previous, clock = -1.0, PictureClock()
        drawn: tuple[int, int] | None = None
        for frame in decoded(container, stream):
            stamp = clock.seconds(frame)
            if stamp is None or stamp - zero <= previous or stamp - zero < -1e-6:
                continue
            previous = max(stamp - zero, 0.0)
            turns = quarter_turns(frame)
            if drawn is None:  # the first frame rules: a stream may change its size on the way
                wide = (frame.height, round(frame.width * aspect))
                height, width = wide if turns % 2 == 0 else wide[::-1]
                scale = min(max(short_side / min(height, width), 1.0), long_side / max(height, width))
                drawn = (2 * max(round(height * scale / 2), 8), 2 * max(round(width * scale / 2), 8))
            coded = drawn if turns % 2 == 0 else drawn[::-1]
            picture = frame.reformat(
                width=coded[1], height=coded[0], format="rgb24", interpolation="BICUBIC", threads=1
            ).to_ndarray()
            yield previous, np.ascontiguousarray(np.rot90(picture, -turns))


def sound_blocks(media: bytes | Path) -> Iterator[tuple[int, int, np.ndarray]]:
    """(first sample, rate, float32 [C, S]) of the sound, without a hole; C is 1 or 2. Nothing where there is none.

    Samples are counted on the clip's clock at a rate that AAC knows; S is 1024 but for the last. Where packets are
    missing there are zeros, so that what follows keeps its time.
    """
    with open_media(media) as container:
        stream = audio_stream(container)
        if stream is None:
            return
        zero = clock_zero(container)
        layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        rate = next((r for r in AAC_RATES if r >= stream.codec_context.sample_rate), AAC_RATES[-1])
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
        held = np.zeros((1 if layout == "mono" else 2, 0), dtype=np.float32)
        position: int | None = None
        for frame in _sound_of(container, stream):
            if frame is not None:
                if frame.pts is None and position is None:
                    continue
                wanted = None if frame.pts is None else round((float(frame.pts * frame.time_base) - zero) * rate)
                if position is None:
                    position = max(wanted or 0, 0)
                elif wanted is not None:
                    missing = wanted - position - held.shape[1]
                    if GAP[0] * rate < missing < GAP[1] * rate:
                        while missing > AAC_FRAME:  # block by block: a hole may be long
                            yield position, rate, np.pad(held, ((0, 0), (0, AAC_FRAME - held.shape[1])))
                            missing -= AAC_FRAME - held.shape[1]
                            held, position = held[:, :0], position + AAC_FRAME
                        held = np.pad(held, ((0, 0), (0, missing)))
                frame.pts = None  # counted from the first sample on: the resampler refuses small gaps in stamps
            parts: Iterable[Any] = resampler.resample(frame)
            held = np.concatenate([held, *(part.to_ndarray().astype(np.float32) for part in parts)], axis=1)
            while position is not None and held.shape[1] >= AAC_FRAME:
                yield position, rate, np.ascontiguousarray(held[:, :AAC_FRAME])
                held, position = held[:, AAC_FRAME:], position + AAC_FRAME
        if position is not None and held.shape[1]:
            yield position, rate, np.ascontiguousarray(held)


def _sound_of(container: Any, stream: Any) -> Iterator[Any]:
    """The decoded frames, and None at the end, which empties the resampler."""
    yield from decoded(container, stream)
    yield None


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name to write under; the file appears under its own when all is well, else nothing stays."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
