"""Opening media files with PyAV: known containers only, one clock, display rotation, colours.

What cannot be used raises `MediaError` with a short cause, so that failures can be counted by cause.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error

# fmt: off
CONTAINERS = frozenset({
    "3g2", "3gp", "asf", "avi", "dv", "flv", "h264", "hevc", "ivf", "m4a", "m4v", "matroska", "mj2", "mov", "mp4",
    "mpeg", "mpegts", "mpegvideo", "mxf", "ogg", "rm", "webm", "wtv",
})
VIDEO_SUFFIXES = frozenset({
    ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".h264", ".hevc", ".ivf", ".m1v", ".m2ts", ".m2v",
    ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogg", ".ogv", ".qt", ".rm", ".rmvb", ".ts",
    ".vob", ".webm", ".wmv",
})
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# fmt: on
MAX_PIXELS = 36_000_000  # of a picture
MAX_STREAMS = 256
UNSPECIFIED_MATRIX = 2
BT709, BT601 = 1, 5
LARGEST_BT601_HEIGHT = 576


class MediaError(Exception):
    """A media file that cannot be used; `cause` is one of a few short names, the message says the rest."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


@contextmanager
def open_media(source: Path | bytes, *, max_pixels: int = MAX_PIXELS, accelerator: Any = None) -> Iterator[Any]:
    """Open a file, or the bytes of one, as an `av.container.InputContainer`.

    The container is told from the content, never from the name, and must be one of `CONTAINERS`: playlists and
    the like, which would open other files or network addresses, are refused. Bytes can lead nowhere else at all.
    Pictures larger than `max_pixels` are not decoded while the streams are probed. `accelerator` is an
    `av.codec.hwaccel.HWAccel` that decodes the picture.

    Raises:
        MediaError: causes "missing", "empty file", "not a known container", "unreadable", "too many streams",
            "out of memory", "not for the accelerator".
    """
    if isinstance(source, bytes):
        size, handle, protocols = len(source), io.BytesIO(source), "none"
    else:
        path = Path(source).absolute()  # a name such as "pipe:0" is a name and no protocol
        try:
            size, handle, protocols = path.stat().st_size, str(path), "file"  # type: ignore[assignment]
        except OSError as error:
            raise MediaError("missing", f"cannot be read ({error.strerror})") from None
    if size == 0:
        raise MediaError("empty file", "the file has no bytes")
    try:
        container = av.open(
            handle,
            metadata_errors="ignore",
            hwaccel=accelerator,
            options=decoder_options(max_pixels),
            container_options={
                "format_whitelist": ",".join(sorted(CONTAINERS)),
                "protocol_whitelist": protocols,
                "max_streams": str(MAX_STREAMS),
            },
        )
    except av.error.FFmpegError as error:
        if isinstance(error, MemoryError):
            raise MediaError("out of memory", "opening the file takes more memory than is allowed") from None
        cause = "unreadable" if _looks_like_media(source) else "not a known container"
        raise MediaError(cause, f"FFmpeg: {error.strerror}") from None
    except RuntimeError as error:
        if accelerator is None:
            raise
        raise MediaError("not for the accelerator", str(error)) from None  # PyAV's word for a codec it cannot decode
    try:
        if len(container.streams) >= MAX_STREAMS:
            raise MediaError("too many streams", f"the file has {MAX_STREAMS} streams or more")
        yield container
    finally:
        container.close()


def _looks_like_media(source: Path | bytes) -> bool:
    """Whether the first bytes are those of a usual container, so that the file is damaged and not something else."""
    if isinstance(source, bytes):
        head = source[:16]
    else:
        with open(source, "rb") as file:
            head = file.read(16)
    starts = (b"\x1aE\xdf\xa3", b"RIFF", b"FLV", b"OggS", b"\x00\x00\x01\xba", b"0&\xb2u", b"G@", b".RMF")
    return head.startswith(starts) or head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"moof")


def video_stream(container: Any, *, max_pixels: int = MAX_PIXELS) -> Any:
    """Return the picture stream of a container (cover art is none).

    Its decoder refuses pictures larger than `max_pixels` before it takes memory for them.

    Raises:
        MediaError: "no video stream", "no decoder" or "picture too large".
    """
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        raise MediaError("no video stream", "the file has no moving picture")
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise MediaError("no decoder", "FFmpeg has no decoder for the picture")
    if stream.codec_context.width * stream.codec_context.height > max_pixels:
        said = f"{stream.codec_context.width} x {stream.codec_context.height} pixels (at most {max_pixels})"
        raise MediaError("picture too large", said)
    if not stream.codec_context.is_open:
        stream.codec_context.options = {**stream.codec_context.options, **decoder_options(max_pixels)}
    return stream


def decoder_options(max_pixels: int = MAX_PIXELS) -> dict[str, str]:
    """Options by which a decoder refuses larger pictures before it takes memory for them.

    Twice the pixels, since FFmpeg counts lines filled up to its alignment; who takes the frames looks closer.
    """
    return {"max_pixels": str(2 * max_pixels)}


def audio_stream(container: Any) -> Any | None:
    """Return the best sound stream that can be decoded, or None."""
    streams = [s for s in container.streams.audio if s.codec_context is not None]
    best = container.streams.best("audio")
    if best is not None and best in streams:
        return best
    return streams[0] if streams else None


def clock_zero(container: Any) -> float:
    """Time stamp in seconds that a player shows as 0, the earliest start of the streams.

    Subtitles beside a file count from here. Negative starts (encoder priming) are not presented, hence 0.
    """
    start = container.start_time
    return 0.0 if start is None else max(start / 1_000_000, 0.0)


def frame_seconds(frame: Any) -> float | None:
    """Presentation time of a decoded frame in seconds; its decoding time where the container gives no other."""
    stamp = frame.pts if frame.pts is not None else frame.dts
    return None if stamp is None or frame.time_base is None else float(stamp * frame.time_base)


def pixel_aspect(stream: Any) -> Fraction:
    """Width of a pixel over its height; 1 where the stream says nothing or nonsense."""
    ratio = stream.sample_aspect_ratio
    return ratio if ratio is not None and Fraction(1, 8) <= ratio <= 8 else Fraction(1)


def matrix_of(frame: Any) -> int:
    """FFmpeg's colour matrix of a frame; unspecified ones follow the players: BT.709 above 576 lines."""
    if frame.colorspace != UNSPECIFIED_MATRIX:
        return int(frame.colorspace)
    return BT709 if frame.height > LARGEST_BT601_HEIGHT else BT601


def quarter_turns(frame: Any) -> int:
    """Quarter turns clockwise (0 to 3) that bring a decoded frame upright, from its display matrix."""
    turns: int = round(-frame.rotation / 90) % 4
    return turns
