"""A still picture and its sound as one media file: some data sets publish a frame and a wav instead of a video."""

from __future__ import annotations

import io
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error

from mmssl.data.media import MediaError

RATE = 5  # pictures a second: all are the same
PICTURES = {".jpg": ("jpeg_pipe", "mjpeg"), ".jpeg": ("jpeg_pipe", "mjpeg"), ".png": ("png_pipe", "png")}


def still_video(picture: Path, sound: Path) -> bytes:
    """Matroska in which the picture is shown as long as the sound lasts; neither is encoded anew.

    Args:
        picture: JPEG or PNG.
        sound: WAV.

    Raises:
        MediaError: a file cannot be read or is none of these, with the causes "missing", "unreadable", "silent".
    """
    try:
        image, wave = picture.read_bytes(), sound.read_bytes()
    except OSError as error:
        raise MediaError("missing", f"cannot be read ({error.strerror})") from None
    if picture.suffix.lower() not in PICTURES:
        raise MediaError("unreadable", f"a still picture is {', '.join(PICTURES)}, not '{picture.suffix}'")
    container, codec = PICTURES[picture.suffix.lower()]
    try:
        with av.open(io.BytesIO(image), format=container) as opened:
            size = opened.streams.video[0].codec_context
            width, height, pixels = size.width, size.height, size.pix_fmt
        if not width or not height:
            raise MediaError("unreadable", f"the picture '{picture.name}' cannot be decoded")
        with av.open(io.BytesIO(wave), format="wav") as heard:
            return _muxed(image, codec, (width, height, pixels), heard, sound.name)
    except (av.error.FFmpegError, IndexError) as error:
        raise MediaError("unreadable", f"'{picture.name}' with '{sound.name}': {error}") from None


def _muxed(image: bytes, codec: str, shape: tuple[int, int, str | None], heard: Any, name: str) -> bytes:
    stream = heard.streams.audio[0]
    packets = [packet for packet in heard.demux(stream) if packet.size]
    if not packets:
        raise MediaError("silent", f"'{name}' holds no sound")
    seconds = float(sum(packet.duration for packet in packets) * stream.time_base)
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as made:
        shown: Any = made.add_stream(codec, rate=RATE)
        shown.width, shown.height, shown.pix_fmt = shape[0], shape[1], shape[2] or "yuvj420p"
        kept = made.add_stream_from_template(stream)
        for number in range(max(math.ceil(seconds * RATE), 1)):
            packet = av.Packet(image)
            packet.stream, packet.time_base = shown, Fraction(1, RATE)
            packet.pts = packet.dts = number
            packet.duration, packet.is_keyframe = 1, True
            made.mux(packet)
        for packet in packets:
            packet.stream = kept
            made.mux(packet)
    return file.getvalue()
