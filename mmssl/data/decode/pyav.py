"""The default decoder: PyAV (libavcodec), exactly the frames and samples that a window wants, in one demux pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from mmssl.clip import Clip, EncodedClip, Window
from mmssl.data.decode.pictures import EDGE, PictureFitter, PicturePicker
from mmssl.data.decode.sound import SoundPlacer
from mmssl.data.decode.text import sentences_of
from mmssl.data.media import MediaError, audio_stream, clock_zero, open_media, pixel_aspect, video_stream

PREROLL = 0.15  # seconds of sound decoded before the wanted stretch, so that codecs with overlap are settled
SEEK_FROM = 1.5  # seconds: nearer to the beginning, decoding on is cheaper than seeking
LONGEST = 1e6  # seconds; a clip that says it is longer lies


class PyAVDecoder:
    """Decodes mp4, Matroska, AVI, MPEG, Ogg, FLV, ASF and others held in memory, with one thread."""

    name = "pyav"

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def duration(self, clip: EncodedClip) -> float:
        """See `Decoder.duration`."""
        given = clip.meta.get("duration")
        if isinstance(given, int | float) and 0 < given < LONGEST:
            return float(given)
        with _errors_of(clip), open_media(clip.media) as container:
            return _measured_duration(container)

    def decode(self, clip: EncodedClip, window: Window, anchors: np.ndarray) -> Clip:
        """See `Decoder.decode`."""
        anchors = np.asarray(anchors, dtype=np.float64)
        duration = self.duration(clip)
        with _errors_of(clip):
            reading = _Reading(self._reformatter, window, anchors, duration)
            with open_media(clip.media) as container:
                on_time = reading.read(container, seek=True)
            decoded = reading.picker.decoded
            if not on_time:  # the file's index led past what is wanted: from the beginning, then
                reading = _Reading(self._reformatter, window, anchors, duration)
                with open_media(clip.media) as container:
                    reading.read(container, seek=False)
                decoded += reading.picker.decoded
            frames, stamps = reading.frames()
        views = len(anchors)
        placers = reading.placers
        count = window.sound_span.count if window.sound_span else 0
        return Clip(
            key=clip.key,
            frames=frames,
            wanted_times=reading.wanted,
            frame_times=stamps,
            audio=np.stack([p.samples for p in placers]) if placers else np.zeros((views, count), np.float32),
            audio_start=np.array([p.start for p in placers]) if placers else np.zeros(views),
            audio_rate=window.sound_rate,
            has_picture=reading.has_picture,
            has_audio=any(p.placed for p in placers),
            sentences=sentences_of(clip) if window.text else (),
            duration=duration,
            anchors=anchors,
            geometry=reading.fitter.geometry,
            decoded_pictures=decoded,
            decoder_calls=1,
        )


class _Reading:
    """One pass over a container for one window."""

    def __init__(self, reformatter: VideoReformatter, window: Window, anchors: np.ndarray, duration: float) -> None:
        self.window = window
        self.wanted = np.stack([window.picture_times(a, duration) for a in anchors])
        self.times = np.unique(self.wanted)
        grids = [window.sound_grid(a, duration) for a in anchors] if window.sounds else []
        self.placers = [SoundPlacer(window.sound_rate, first, count) for first, count in grids]
        self.fitter = PictureFitter(reformatter, window.size)
        self.picker = PicturePicker(self.fitter, self.times)
        self.has_picture = False
        self._reformatter = reformatter

    def read(self, container: Any, seek: bool) -> bool:
        """Read what is wanted; False when a seek has led past its beginning."""
        sound: Any = audio_stream(container)
        moving = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        video: Any = video_stream(container) if moving or sound is None else None
        self.has_picture = video is not None
        zero = clock_zero(container)
        clock = video if video is not None else sound
        if video is not None:
            self.fitter = PictureFitter(self._reformatter, self.window.size, pixel_aspect(video))
            self.picker = PicturePicker(self.fitter, self.times)
        video = video if len(self.times) else None
        sound = sound if self.placers else None
        sound_from = min((p.start for p in self.placers), default=np.inf)
        begin = min(self.times[0] if video is not None else np.inf, sound_from - PREROLL)
        seeked = seek and (video is not None or sound is not None) and begin > SEEK_FROM
        if seeked:
            container.seek(int((begin + zero) / clock.time_base), stream=clock, backward=True)
        heard_from = self._demux(container, video, sound, zero, sound_from - PREROLL, seeked)
        if video is not None and not self.picker.chosen:
            if seeked:
                return False
            raise MediaError("no frame", "the picture stream holds no decodable frame")
        seen_late = video is not None and self.picker.first_time > self.times[0] + EDGE
        return not (seeked and (seen_late or (sound is not None and heard_from > sound_from)))

    def _demux(self, container: Any, video: Any, sound: Any, zero: float, sound_from: float, seeked: bool) -> float:
        """One pass over the packets until everything wanted is there; returns the time of the first sound decoded."""
        streams = [s for s in (video, sound) if s is not None]
        if not streams:
            return np.inf
        for stream in streams:
            stream.codec_context.thread_count = 1
        picker, placers = self.picker, self.placers
        sound_until = max((p.end for p in placers), default=0.0)
        sound_base = float(sound.time_base) if sound is not None else 0.0
        heard_from = np.inf
        see, hear = video is not None, sound is not None
        for packet in container.demux(streams):
            if packet.stream is video:
                if not see:
                    continue
                for frame in packet.decode():
                    stamp = _seconds(frame)
                    # After a seek into an open group of pictures some frames lack their references.
                    if stamp is not None and not (seeked and frame.is_corrupt):
                        picker.add(frame, stamp - zero)
                see = not picker.complete
            elif hear:
                end = packet.pts + packet.duration if packet.duration and packet.pts is not None else None
                if end is not None and end * sound_base - zero < sound_from:
                    continue
                for frame in packet.decode():
                    stamp = _seconds(frame)
                    time = None if stamp is None else stamp - zero
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

    def frames(self) -> tuple[np.ndarray, np.ndarray]:
        """Uint8 [V, T, 3, H, W] and the float64 [V, T] times when those frames began; zeros without a picture."""
        views, count = self.wanted.shape
        frames = np.zeros((views, count, 3, *self.window.size), dtype=np.uint8)
        stamps = self.wanted.copy()
        if self.picker.chosen:
            place = np.searchsorted(self.times, self.wanted)
            for view in range(views):
                for slot in range(count):
                    number = self.picker.chosen[place[view, slot]]
                    frames[view, slot] = self.picker.pictures[number]
                    stamps[view, slot] = self.picker.stamps[number]
        return frames, stamps


@contextmanager
def _errors_of(clip: EncodedClip) -> Iterator[None]:
    """FFmpeg's errors as `MediaError`, with the name of the error as its cause."""
    try:
        yield
    except av.FFmpegError as error:
        raise MediaError(type(error).__name__, f"{clip.key}: {error}") from error


def _seconds(frame: Any) -> float | None:
    """Presentation time of a frame; its decoding time where the container gives no other."""
    if frame.pts is not None:
        return float(frame.time)
    return None if frame.dts is None else float(frame.dts * frame.time_base)


def _measured_duration(container: Any) -> float:
    """End of the picture (or else the sound) on the clip's clock, from the header or by reading the time stamps."""
    streams = [*container.streams.video, *container.streams.audio]
    if not streams:
        raise MediaError("no video stream", "the file has neither picture nor sound")
    stream, zero = streams[0], clock_zero(container)
    if stream.duration:
        start = max(float((stream.start_time or 0) * stream.time_base), 0.0)
        duration = float(stream.duration * stream.time_base) + start - zero
    elif container.duration:
        duration = float(container.duration / av.time_base)
    else:
        ends = [(p.pts + (p.duration or 0)) * p.time_base for p in container.demux(stream) if p.pts is not None]
        duration = float(max(ends, default=0)) - zero
    if not 0 < duration < LONGEST:
        raise MediaError("no duration", f"the file does not say how long it is ({duration} s)")
    return duration
