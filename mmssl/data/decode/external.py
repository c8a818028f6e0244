"""Decoders whose pictures another library decodes; everything else about a clip is left to PyAV.

What another library is asked is one thing only: the picture number n of the stream, in the order of display. Which
number is on screen at a wanted time is told from the time stamps of the stream's packets, read by PyAV after its list
of allowed containers has let the file in. A clip for which a library's answer could not be trusted, or where it fails
or contradicts the time stamps, is decoded by PyAV as a whole. That is counted by cause and said in `Clip.fallback`.

The sound is PyAV's in all decoders, since the others join sound frames without looking at their time stamps:
decord gives the whole track as one array, torchcodec a stretch of which the first time stamp alone is known, and a
gap moves all that follows it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from av.video.reformatter import VideoReformatter

from mmssl.clip import Clip, EncodedClip, Window
from mmssl.data.decode.base import Buffers
from mmssl.data.decode.fitting import Look, PictureFitter, matrix_for
from mmssl.data.decode.pictures import EDGE
from mmssl.data.decode.pyav import PyAVDecoder
from mmssl.data.media import MAX_PIXELS, clock_zero, matrix_of, open_media, pixel_aspect, quarter_turns, video_stream

STAMP_TOLERANCE = 1e-3  # seconds between a frame's time stamp as PyAV and as another library tells it


class Refused(Exception):
    """Why a library must not decode the pictures of a clip; the message is a short cause."""


@dataclass(frozen=True)
class PictureTable:
    """What the packets of a picture stream say, without decoding more than its first frame.

    Args:
        container: FFmpeg's name of the format ("mov,mp4,m4a,3gp,3g2,mj2").
        codec: FFmpeg's name of the codec.
        stream: index of the stream in the file.
        width, height: of the pictures as coded.
        aspect: width of a pixel over its height.
        turns: quarter turns clockwise that bring a picture upright.
        matrix: FFmpeg's colour matrix; unspecified ones as the players take them.
        matrix_said: whether the file specifies it.
        zero: time stamp in seconds of the clip's zero.
        stamps: float64 [N], seconds on the file's clock, in the order of display.
        discards: whether an edit list cuts off some of the packets.
        leads: whether a picture is decoded after a key frame but shown before it.
    """

    container: str
    codec: str
    stream: int
    width: int
    height: int
    aspect: Fraction
    turns: int
    matrix: int
    matrix_said: bool
    zero: float
    stamps: np.ndarray
    discards: bool
    leads: bool

    @classmethod
    def read(cls, media: bytes) -> PictureTable:
        """Read a file.

        Raises:
            MediaError: it cannot be opened, or has no picture.
            Refused: its pictures have no time stamps, or none can be decoded.
        """
        with open_media(media) as container:
            stream = video_stream(container)
            stream.codec_context.thread_count = 1
            packets: list[tuple[int, bool]] = []
            first: Any = None
            discards = leads = False
            latest_key = -(1 << 62)
            for packet in container.demux(stream):
                if packet.size:
                    if packet.pts is None:
                        raise Refused("pictures without time stamps")
                    latest_key = max(latest_key, packet.pts) if packet.is_keyframe else latest_key
                    leads = leads or packet.pts < latest_key
                    discards = discards or packet.is_discard
                    packets.append((packet.pts, packet.is_discard))
                if first is None:
                    first = next(iter(packet.decode()), None)
            if first is None:
                raise Refused("no picture")
            return cls(
                container=container.format.name,
                codec=stream.codec_context.name,
                stream=stream.index,
                width=first.width,
                height=first.height,
                aspect=pixel_aspect(stream),
                turns=quarter_turns(first),
                matrix=matrix_of(first),
                matrix_said=first.colorspace == matrix_of(first),
                zero=clock_zero(container),
                stamps=np.sort([pts for pts, discard in packets if not discard]) * float(stream.time_base),
                discards=discards,
                leads=leads,
            )

    def numbers_at(self, times: np.ndarray) -> np.ndarray:
        """Int64, shaped as `times` (seconds on the clip's clock): the pictures that are on screen."""
        after = np.searchsorted(self.stamps - self.zero, times + EDGE, side="right")
        numbers: np.ndarray = np.maximum(after - 1, 0)
        return numbers


def picture_at(media: bytes, table: PictureTable, number: int) -> np.ndarray:
    """Uint8 [height, width, 3], RGB, as coded: picture `number` as PyAV decodes it.

    Raises:
        Refused: PyAV does not come upon it.
    """
    with open_media(media) as container:
        stream = video_stream(container)
        stream.codec_context.thread_count = 1
        wanted = table.stamps[number]
        if number:
            container.seek(int(wanted / float(stream.time_base)), stream=stream, backward=True)
        for frame in container.decode(stream):
            if frame.pts is not None and not frame.is_corrupt and frame.time > wanted - STAMP_TOLERANCE:
                if frame.time > wanted + STAMP_TOLERANCE:
                    break
                picture: np.ndarray = frame.to_ndarray(format="rgb24", src_colorspace=matrix_for(frame), threads=1)
                return picture
    raise Refused("a picture that does not come")


class ExternalDecoder(ABC):
    """What decoders with another library's pictures share; see `Decoder`.

    Attributes:
        fallbacks: clips that PyAV decoded instead, by cause.
    """

    name = ""

    def __init__(self) -> None:
        self.fallbacks: Counter[str] = Counter()
        self._pyav = PyAVDecoder()
        self._reformatter = VideoReformatter()

    def duration(self, clip: EncodedClip) -> float:
        """See `Decoder.duration`."""
        return self._pyav.duration(clip)

    def decode(self, clip: EncodedClip, window: Window, anchors: np.ndarray, into: Buffers | None = None) -> Clip:
        """See `Decoder.decode`."""
        known = replace(clip, meta={**clip.meta, "duration": self.duration(clip)})
        into = into or Buffers.for_window(window, len(anchors))
        # Sound, sentences and masks first.
        aside = Buffers(into.frames[:, :0], into.audio)
        rest = self._pyav.decode(known, replace(window, picture=None), anchors, aside)
        if not window.pictures:
            return rest
        if not rest.has_picture:
            return self._pyav.decode(known, window, anchors, into)
        try:
            return self._with_pictures(rest, clip.media, window, into.frames)
        except Refused as refusal:
            self.fallbacks[str(refusal)] += 1
            made = self._pyav.decode(known, window, anchors, into)
            return replace(made, fallback=f"{self.name}: {refusal}")

    @abstractmethod
    def pictures(self, media: bytes, table: PictureTable, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """Uint8 [height, width, 3], RGB, as coded (not turned), of each of the pictures (ascending).

        Raises:
            Refused: the library cannot be trusted with the file, failed, or gave something else.
        """

    def _with_pictures(self, rest: Clip, media: bytes, window: Window, frames: np.ndarray) -> Clip:
        """`rest` with the pictures of the window, written into `frames`."""
        if not self_contained(media):
            raise Refused("unusual container")
        table = PictureTable.read(media)  # what is no known container is refused here, before the library sees it
        if not len(table.stamps) or table.width * table.height > MAX_PIXELS:
            raise Refused("no picture or too large")
        wanted = np.stack([window.picture_times(float(anchor), rest.duration) for anchor in rest.anchors])
        numbers = table.numbers_at(wanted)
        needed = np.unique(numbers)
        fitter = PictureFitter(self._reformatter, window.size, Look(table.aspect))
        made = iter(needed.tolist())
        for rgb in self.pictures(media, table, needed.tolist()):
            if rgb.shape != (table.height, table.width, 3):
                raise Refused("pictures of another size")
            first, *others = np.argwhere(numbers == next(made)).tolist()
            shown = frames[tuple(first)]
            fitter.fit_rgb_into(rgb, table.turns, shown)
            for other in others:
                frames[tuple(other)] = shown
        if next(made, None) is not None:
            raise Refused("missing pictures")
        return replace(
            rest,
            frames=frames,
            wanted_times=wanted,
            frame_times=table.stamps[numbers] - table.zero,
            geometry=fitter.geometry,
            decoded_pictures=rest.decoded_pictures + 1 + len(needed),  # the first of all gave size, matrix and rotation
        )


def self_contained(media: bytes) -> bool:
    """Whether the file begins as a container that refers to nothing outside of itself.

    Another library probes a file anew, with another FFmpeg and without a list of allowed containers. What begins
    like this is no playlist to any of them.
    """
    if media[:4] in (b"\x1aE\xdf\xa3", b"RIFF", b"OggS", b"\x00\x00\x01\xba", b"0&\xb2u") or media[:3] == b"FLV":
        return True
    if media[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return True
    return len(media) > 188 and media[0] == media[188] == 0x47  # a transport stream
