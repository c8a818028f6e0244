"""Making packet tables: one pass of the demuxer over a clip, then a check that both ways give the same.

A table that the check does not confirm is not written; the clip is then read through the demuxer, as any file is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import av
import av.error
import numpy as np

from mmssl.clip import EncodedClip, Span, Window
from mmssl.data.decode.pyav import PyAVDecoder, measured_duration
from mmssl.data.media import (
    MediaError,
    audio_stream,
    clock_zero,
    matrix_of,
    open_media,
    pixel_aspect,
    quarter_turns,
    video_stream,
)
from mmssl.data.packets import DISCARD, DISPOSABLE, KEY, BadTable, PacketTable, StreamTable
from mmssl.randomness import hash_name, uniform_numpy

# Packets that a sound decoder needs before the first wanted one until what it gives is right; others get 150 ms.
_PREROLL = {"aac": 1, "vorbis": 1, "pcm": 0, "flac": 0, "alac": 0, "wmav": 2}
_PREROLL_SECONDS = 0.15
_NEAR = 64  # bytes from the place that the demuxer names in which a packet's bytes are looked for
CHECKS = 2  # windows at drawn places, beside those at the beginning and the end, whose pictures are compared
SHORT = 5.0  # seconds: one is enough in a shorter clip
LOOK_SECONDS, LOOK_RATE = 0.4, 10.0
LONGEST_SOUND = 60.0  # seconds of sound compared


class NoTable(Exception):
    """A clip for which no table can be made; the message says why."""


def make_table(media: bytes) -> PacketTable:
    """The packet table of a clip's media.

    Raises:
        NoTable: its packets do not lie in the bytes as they are decoded, or cannot be described.
        MediaError: the media cannot be opened.
    """
    try:
        with open_media(media) as container:
            duration = measured_duration(container)
        with open_media(media) as container:
            sound = audio_stream(container)
            try:
                picture = video_stream(container)
            except MediaError:
                if sound is None:
                    raise
                picture = None
            streams = [s for s in (picture, sound) if s is not None]
            rows: dict[int, list[tuple[Any, int]]] = {s.index: [] for s in streams}
            for packet in container.demux(streams):
                if packet.size:
                    rows[packet.stream.index].append((packet, _place(packet, media)))
            zero = clock_zero(container)
            video = None if picture is None else _video(picture, rows[picture.index], media)
            audio = None if sound is None else _audio(sound, rows[sound.index])
    except av.error.FFmpegError as error:
        raise NoTable(f"it cannot be read through ({error.strerror})") from None
    return PacketTable(len(media), zero, duration, video, audio)


def _place(packet: Any, media: bytes) -> int:
    """Offset of a packet's bytes in the media; the demuxer names that of its block."""
    data = bytes(packet)
    if packet.pos is None or packet.pts is None:
        raise NoTable("a packet has no place or no time stamp")
    at = media.find(data, packet.pos, packet.pos + _NEAR + len(data))
    if at < 0:
        raise NoTable("the packets do not lie in the file as they are decoded")
    return at


def _arrays(rows: list[tuple[Any, int]], kind: str) -> dict[str, Any]:
    if not rows:
        raise NoTable(f"there is no packet of the {kind}")
    flags = [KEY * packet.is_keyframe + DISCARD * packet.is_discard for packet, _ in rows]
    return {
        "offset": np.array([at for _, at in rows], dtype=np.int64),
        "size": np.array([packet.size for packet, _ in rows], dtype=np.int64),
        "pts": np.array([packet.pts for packet, _ in rows], dtype=np.int64),
        "flags": np.array(flags, dtype=np.uint8),
    }


def _video(stream: Any, rows: list[tuple[Any, int]], media: bytes) -> StreamTable:
    context = stream.codec_context
    arrays = _arrays(rows, "picture")
    if not arrays["flags"][0] & KEY:
        raise NoTable("the picture does not begin with a key frame")
    shown = arrays["pts"][(arrays["flags"] & DISCARD) == 0]
    if len(np.unique(shown)) < len(shown):
        raise NoTable("two pictures have one time stamp")
    extradata = bytes(context.extradata or b"")
    if context.name == "h264" and extradata[:1] == b"\x01":
        length = (extradata[4] & 3) + 1
        for number, (packet, _) in enumerate(rows):
            if _disposable(bytes(packet), length):
                arrays["flags"][number] |= DISPOSABLE
    frame = _first_frame(media)
    aspect = pixel_aspect(stream)
    facts = {
        "aspect": [aspect.numerator, aspect.denominator],
        "turns": quarter_turns(frame),
        "matrix": matrix_of(frame),
        "full_range": frame.color_range == 2,
    }
    base = stream.time_base
    return StreamTable(context.name, extradata, (base.numerator, base.denominator), facts=facts, **arrays)


def _first_frame(media: bytes) -> Any:
    with open_media(media) as container:
        stream = video_stream(container)
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            return frame
    raise NoTable("no picture can be decoded")


def _disposable(packet: bytes, length: int) -> bool:
    """Whether no slice of an H.264 picture (NAL units with a length before each) is referred to by other pictures."""
    at, slices = 0, 0
    while at + length < len(packet):
        size = int.from_bytes(packet[at : at + length], "big")
        kind = packet[at + length]
        if kind & 31 in (1, 5):
            if kind & 96:
                return False
            slices += 1
        at += length + size
    return slices > 0


def _audio(stream: Any, rows: list[tuple[Any, int]]) -> StreamTable:
    context = stream.codec_context
    arrays = _arrays(rows, "sound")
    preroll = next((n for name, n in _PREROLL.items() if context.name.startswith(name)), None)
    if preroll is None:
        step = float(np.median(np.diff(arrays["pts"]))) * float(stream.time_base) if len(rows) > 1 else 0.0
        preroll = int(np.ceil(_PREROLL_SECONDS / step)) if step > 0 else 8
    facts = {
        "rate": context.sample_rate,
        "layout": context.layout.name,
        "preroll": preroll,
        "skips": [[n, *skip] for n, (packet, _) in enumerate(rows) if (skip := _skip(packet)) is not None],
    }
    base = stream.time_base
    return StreamTable(
        context.name, bytes(context.extradata or b""), (base.numerator, base.denominator), facts=facts, **arrays
    )


def _skip(packet: Any) -> tuple[int, int] | None:
    """Samples at the beginning and the end of a packet that are not part of the sound."""
    if not packet.has_sidedata("skip_samples"):
        return None
    data = bytes(packet.get_sidedata("skip_samples"))
    begin, end = (int.from_bytes(data[i : i + 4], "little") for i in (0, 4))
    return (begin, end) if begin or end else None


def checked_table(media: bytes, key: str = "") -> bytes:
    """The bytes of a clip's table, after windows decoded by it and through the demuxer were seen to be the same.

    Args:
        media: the clip's media.
        key: what the places of the windows are drawn from.

    Raises:
        NoTable: no table can be made, or it does not give the same.
        MediaError: the media cannot be opened.
    """
    try:
        data = make_table(media).to_bytes()
        table = PacketTable.from_bytes(data, len(media))
        _compare(table, data, media, key)
    except (BadTable, OverflowError, av.error.FFmpegError) as error:
        raise NoTable(str(error)) from None
    return data


def _compare(table: PacketTable, data: bytes, media: bytes, key: str) -> None:
    """See that windows come out the same by the table and through the demuxer."""
    kept = PyAVDecoder("yuv")
    for window, anchor in _looks(table, media, key):
        anchors = np.array([anchor])
        bare = EncodedClip(key, "", media, meta={"duration": table.duration})
        # New decoders for sound: the noise that AAC puts in for what it left out goes on from where a decoder was.
        by_packets = PyAVDecoder("yuv") if window.sounds else kept
        try:
            by_table = by_packets.decode(replace(bare, packets=data), window, anchors, only_table=True)
        except (MediaError, av.error.FFmpegError) as error:
            raise NoTable(f"its packets cannot be decoded around {anchor:.3f} s ({error})") from None
        by_demuxer = kept.decode(bare, window, anchors)
        for what in ("frames", "frame_times", "audio", "has_picture", "has_audio"):
            if not np.array_equal(getattr(by_table, what), getattr(by_demuxer, what)):
                raise NoTable(f"other {what} by the table than by the demuxer around {anchor:.3f} s")


def _looks(table: PacketTable, media: bytes, key: str) -> Iterator[tuple[Window, float]]:
    """The windows that are compared: pictures here and there, and the sound from its beginning on."""
    sound = None
    if table.audio is not None:
        sound = Span(min(table.duration + 1, LONGEST_SOUND), table.audio.facts["rate"])
    picture, size = None, (2, 2)
    if table.video is not None:
        picture, size = Span(LOOK_SECONDS, LOOK_RATE), _size_of(table, media)
        drawn = (
            uniform_numpy(np.array([hash_name(f"packets {key}")]), "checks", CHECKS if table.duration > SHORT else 1)[0]
            * table.duration
        )
        for anchor in (*drawn.tolist(), table.duration):
            yield Window(picture=picture, size=size), anchor
    if picture is not None or sound is not None:
        yield Window(picture=picture, sound=sound, size=size), 0.0


def _size_of(table: PacketTable, media: bytes) -> tuple[int, int]:
    """(height, width) at which planes are compared: those of the picture, so that nothing is scaled."""
    if table.video is None:
        return 2, 2
    frame = _first_frame(media)
    height, width = frame.height + frame.height % 2, frame.width + frame.width % 2
    return (width, height) if table.video.facts["turns"] % 2 else (height, width)
