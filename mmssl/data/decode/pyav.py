"""The default decoder: PyAV (libavcodec), exactly the frames and samples that a window wants, in one pass.

A clip with a packet table is decoded from its packets alone (`by_packets`); any other, and one whose table does not
hold, through the demuxer. Both give the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from mmssl.clip import Clip, EncodedClip, Pixels, Window
from mmssl.data.decode.base import Buffers
from mmssl.data.decode.by_packets import OpenDecoders, read_pictures, read_sound
from mmssl.data.decode.fitting import Look, PictureFitter, look_of
from mmssl.data.decode.motion import EXPORT, MotionReader
from mmssl.data.decode.pictures import EDGE, PicturePicker, Pictures
from mmssl.data.decode.sound import SoundPlacer
from mmssl.data.decode.text import sentences_of
from mmssl.data.media import MediaError, audio_stream, clock_zero, open_media, pixel_aspect, video_stream
from mmssl.data.packets import BadTable, PacketTable
from mmssl.data.timestamps import PictureClock

PREROLL = 0.15  # seconds of sound decoded before the wanted stretch, so that codecs with overlap are settled
SEEK_FROM = 1.5  # seconds: nearer to the beginning, decoding on is cheaper than seeking
LONGEST = 1e6  # seconds; a clip that says it is longer lies


class PyAVDecoder:
    """Decodes mp4, Matroska, AVI, MPEG, Ogg, FLV, ASF and others held in memory, with one thread.

    Args:
        pixels: "rgb", or "yuv" for planes 4:2:0 as they come.
    """

    name = "pyav"

    def __init__(self, pixels: Pixels = "rgb") -> None:
        self.pixels = pixels
        self._reformatter = VideoReformatter()
        self._decoders = OpenDecoders()

    def fitter(self, size: tuple[int, int], look: Look) -> PictureFitter:
        """What makes the pictures."""
        return PictureFitter(self._reformatter, size, look, self.pixels)

    def accelerator(self) -> Any:
        """What decodes pictures in the place of the CPU: an `av.codec.hwaccel.HWAccel`, or None."""
        return None

    def duration(self, clip: EncodedClip) -> float:
        """See `Decoder.duration`."""
        given = clip.meta.get("duration")
        if isinstance(given, int | float) and 0 < given < LONGEST:
            return float(given)
        table = _table_of(clip)
        if table is not None and 0 < table.duration < LONGEST:
            return table.duration
        with _errors_of(clip), open_media(clip.media) as container:
            return measured_duration(container)

    def decode(
        self,
        clip: EncodedClip,
        window: Window,
        anchors: np.ndarray,
        into: Buffers | None = None,
        only_table: bool = False,
    ) -> Clip:
        """See `Decoder.decode`. With `only_table` a table that does not hold is an error, for checks of it."""
        anchors = np.asarray(anchors, dtype=np.float64)
        duration = self.duration(clip)
        into = into or Buffers.for_window(window, len(anchors), self.pixels)
        table = _table_of(clip)
        reading = None
        decoded = 0
        if table is not None:
            reading = _Reading(self, window, anchors, duration, into)
            try:
                reading.by_table(clip.media, table)
            except (MediaError, av.FFmpegError, ValueError, LookupError, ArithmeticError):  # or a table that lies
                self._decoders.forget()
                if only_table:
                    raise
                decoded += reading.pictures.decoded
                reading, table = None, None  # the demuxer says what is wrong, or copes
        if reading is None:
            with _errors_of(clip):
                for seek in (True, False):  # where a file's index leads past what is wanted: from the beginning
                    reading = _Reading(self, window, anchors, duration, into)
                    with open_media(clip.media, accelerator=self.accelerator()) as container:
                        on_time = reading.by_demuxer(container, seek)
                    decoded += reading.pictures.decoded
                    if on_time:
                        break
        assert reading is not None
        if table is not None:
            decoded += reading.pictures.decoded
        if not reading.has_picture:
            into.frames[:] = 0
        placers = reading.placers
        for placer in placers:
            placer.finish()
        motion, shape = reading.pictures.motion, reading.wanted.shape
        return Clip(
            key=clip.key,
            frames=into.frames,
            wanted_times=reading.wanted,
            frame_times=reading.pictures.stamps,
            audio=into.audio,
            audio_start=np.array([p.start for p in placers]) if placers else np.zeros(len(anchors)),
            audio_rate=window.sound_rate,
            has_picture=reading.has_picture,
            has_audio=any(p.placed for p in placers),
            sentences=sentences_of(clip) if window.text else (),
            duration=duration,
            anchors=anchors,
            geometry=reading.pictures.fitter.geometry,
            colour=reading.colour,
            fallback="pyav: packet table" if clip.packets is not None and table is None else "",
            motion=None if motion is None else motion.flow.reshape(*shape, *motion.flow.shape[1:]),
            motion_known=None if motion is None else motion.known.reshape(*shape, *motion.known.shape[1:]),
            decoded_pictures=decoded,
            decoder_calls=1,
        )


class _Reading:
    """One pass over a clip for one window."""

    def __init__(
        self, decoder: PyAVDecoder, window: Window, anchors: np.ndarray, duration: float, into: Buffers
    ) -> None:
        self.decoder, self.window = decoder, window
        self.wanted = np.array([window.picture_times(a, duration) for a in anchors.tolist()])
        grids = [window.sound_grid(a, duration) for a in anchors.tolist()] if window.sounds else []
        self.placers = [
            SoundPlacer(window.sound_rate, first, into.audio[view]) for view, (first, _) in enumerate(grids)
        ]
        self.has_picture = False
        self._into = into

    def _fit(self, fitter: PictureFitter) -> None:
        motion = MotionReader(self.wanted.size, self.window.size) if self.window.motion else None
        self.pictures = Pictures(fitter, self.wanted, self._into.frames, motion)

    @property
    def colour(self) -> tuple[int, bool] | None:
        """Matrix and range of planes; None for RGB."""
        found = self.pictures.fitter.colour
        return (found or (5, False)) if self.decoder.pixels == "yuv" else None

    def by_table(self, media: bytes, table: PacketTable) -> None:
        """Read what is wanted from the packets that hold it."""
        view, decoders = memoryview(media), self.decoder._decoders
        self.has_picture = table.video is not None
        if table.video is None:
            self._fit(self.decoder.fitter(self.window.size, Look()))
        else:
            facts = table.video.facts
            look = look_of(*facts["aspect"], facts["turns"], facts["matrix"])
            self._fit(self.decoder.fitter(self.window.size, look))
        if table.video is not None and self.wanted.size:
            read_pictures(
                decoders.of(table.video, motion=self.window.motion), view, table.video, table.zero, self.pictures
            )
        if table.audio is not None and self.placers:
            read_sound(decoders, view, table.audio, table.zero, self.placers)

    def by_demuxer(self, container: Any, seek: bool) -> bool:
        """Read what is wanted through the demuxer; False when a seek has led past its beginning."""
        sound: Any = audio_stream(container)
        moving = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        video: Any = video_stream(container) if moving or sound is None else None
        self.has_picture = video is not None
        zero = clock_zero(container)
        clock = video if video is not None else sound
        look = Look() if video is None else Look(pixel_aspect(video))
        self._fit(self.decoder.fitter(self.window.size, look))
        picker = PicturePicker(self.pictures)
        times = self.wanted.reshape(-1)
        video = video if len(times) else None
        sound = sound if self.placers else None
        sound_from = min((p.start for p in self.placers), default=np.inf)
        begin = min(times.min() if video is not None else np.inf, sound_from - PREROLL)
        seeked = seek and (video is not None or sound is not None) and begin > SEEK_FROM
        if seeked:
            container.seek(int((begin + zero) / clock.time_base), stream=clock, backward=True)
        heard_from = self._demux(container, video, sound, zero, picker, sound_from - PREROLL, seeked)
        if video is not None and not picker.started:
            if seeked:
                return False
            raise MediaError("no frame", "the picture stream holds no decodable frame")
        seen_late = video is not None and picker.first_time > times.min() + EDGE
        return not (seeked and (seen_late or (sound is not None and heard_from > sound_from)))

    def _demux(
        self,
        container: Any,
        video: Any,
        sound: Any,
        zero: float,
        picker: PicturePicker,
        sound_from: float,
        seeked: bool,
    ) -> float:
        """One pass over the packets until everything wanted is there; returns the time of the first sound decoded."""
        streams = [s for s in (video, sound) if s is not None]
        if not streams:
            return np.inf
        for stream in streams:
            stream.codec_context.thread_count = 1
        if video is not None and self.window.motion:
            video.codec_context.options = dict(EXPORT)
        placers = self.placers
        sound_until = max((p.end for p in placers), default=0.0)
        base = sound.time_base if sound is not None else Fraction(1)
        numerator, denominator, sound_base = base.numerator, base.denominator, float(base)
        heard_from = np.inf
        see, hear = video is not None, sound is not None
        clock = PictureClock()
        for packet in container.demux(streams):
            if packet.stream is video:
                if not see:
                    continue
                for frame in packet.decode():
                    stamp = clock.seconds(frame)
                    # After a seek into an open group of pictures some frames lack their references.
                    if stamp is not None and not (seeked and frame.is_corrupt):
                        picker.add(frame, stamp - zero)
                see = not picker.complete
            elif hear:
                end = packet.pts + packet.duration if packet.duration and packet.pts is not None else None
                if end is not None and end * sound_base - zero < sound_from:
                    continue
                for frame in packet.decode():
                    stamp = frame.pts if frame.pts is not None else frame.dts
                    time = None if stamp is None else stamp * numerator / denominator - zero
                    if time is not None:
                        heard_from = min(heard_from, time)
                        hear = time < sound_until
                    for placer in placers:
                        placer.add(frame, time)
            if not see and not hear:
                break
        picker.finish()
        for placer in placers:
            placer.flush()
        return heard_from


def _table_of(clip: EncodedClip) -> PacketTable | None:
    """The clip's packet table, or None where it has none that holds."""
    if clip.packets is None:
        return None
    try:
        return PacketTable.from_bytes(clip.packets, len(clip.media))
    except BadTable:
        return None


@contextmanager
def _errors_of(clip: EncodedClip) -> Iterator[None]:
    """FFmpeg's errors as `MediaError`, with the name of the error as its cause."""
    try:
        yield
    except av.FFmpegError as error:
        raise MediaError(type(error).__name__, f"{clip.key}: {error}") from error


def measured_duration(container: Any) -> float:
    """End of the picture (or else the sound) on the clip's clock, from the header or by reading the time stamps."""
    streams = [*container.streams.video, *container.streams.audio]
    if not streams:
        raise MediaError("no video stream", "the file has neither picture nor sound")
    stream, zero = streams[0], clock_zero(container)
    if stream.duration:
        start = max(float((stream.start_time or 0) * stream.time_base), 0.0)
        duration = float(stream.duration * stream.time_base) + start - zero
    elif container.duration and not (zero and "matroska" in container.format.name):  # Matroska counts from stamp 0
        duration = float(container.duration / av.time_base)
    else:
        ends = ((p.pts + (p.duration or 0)) * p.time_base for p in container.demux(stream) if p.pts is not None)
        duration = float(max(ends, default=0)) - zero
    if not 0 < duration < LONGEST:
        raise MediaError("no duration", f"the file does not say how long it is ({duration} s)")
    return duration
