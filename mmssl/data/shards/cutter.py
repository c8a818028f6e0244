"""Cutting one source into clips: one pass over its packets, picture and sound on one time line.

A window opens when the picture reaches its start, takes frames until it is full, then waits until the sound has
reached its end too. Only packets of finished pictures and the sound not yet used are in memory.
"""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import av
import av.error

from mmssl.data.corpora.source import Segment, Source
from mmssl.data.dense_truth import BadTruth, cut_truth
from mmssl.data.media import (
    MediaError,
    audio_stream,
    frame_seconds,
    open_media,
    pixel_aspect,
    quarter_turns,
    video_stream,
)
from mmssl.data.packets_make import NoTable, checked_table
from mmssl.data.shards.clips import BuiltClip, Failure, SourceReport, assemble
from mmssl.data.shards.embedded import cues_of
from mmssl.data.shards.encode import PictureEncoder
from mmssl.data.shards.facts import read_facts
from mmssl.data.shards.picture import Geometry, PictureFitter, plan_geometry, slots_until
from mmssl.data.shards.settings import BuildSettings
from mmssl.data.shards.sound import SoundTimeline, loudness
from mmssl.data.shards.windows import Window, WindowCursor
from mmssl.data.still import still_video
from mmssl.data.subtitles import Cue
from mmssl.data.timestamps import PictureClock

LONGEST_HOLD = 600.0
DAMAGED_SHARE = 0.1
SEEK_FROM = 30.0
SEEK_MARGIN = 3.0


class _SeekFellShort(Exception):
    """The container was sought to a place after the wanted one."""


def cut_source(
    source: Source,
    settings: BuildSettings,
    emit: Callable[[BuiltClip], None],
    present: Collection[str] = (),
    tick: Callable[[], None] = lambda: None,
) -> SourceReport:
    """Make the clips of one source, calling `emit` with each in order; keys in `present` are passed over.

    `tick` is called for every packet.

    Raises:
        MediaError: nothing of the source can be used.
    """
    first = min(segment.start for segment in source.segments)
    if first > SEEK_FROM:
        try:
            return _Cutter(source, settings, emit, present, tick).run(seek_to=first)
        except _SeekFellShort:
            pass
    return _Cutter(source, settings, emit, present, tick).run(seek_to=None)


class _Cutter:
    def __init__(
        self,
        source: Source,
        settings: BuildSettings,
        emit: Callable[[BuiltClip], None],
        present: Collection[str],
        tick: Callable[[], None],
    ) -> None:
        self.source, self.settings, self.emit, self.present, self.tick = source, settings, emit, present, tick
        self.cursors = [WindowCursor(s, settings) for s in sorted(source.segments, key=lambda s: s.start)]
        self.numbered = 0
        self.open: list[Window] = []
        self.waiting: deque[Window] = deque()
        self.geometry: Geometry | None = None
        self.fitter: PictureFitter | None = None
        self.frame: Any = None
        self.time = -math.inf
        self.fitted: Any = None
        self.good_times: list[float] = []
        self.bad_times: list[float] = []
        self.clock = PictureClock()
        self.spoilt = False  # since an error, pictures are built on wrong ones until the next key frame
        self.made = self.rests = self.passed = 0
        self.failures: list[Failure] = []

    # -- the pass over the packets ------------------------------------------------------------------------------

    def run(self, seek_to: float | None) -> SourceReport:
        cues, dropped, faults = cues_of(self.source, self.settings.subtitle_language)
        self.cues: dict[Path | None, tuple[Cue, ...]] = cues
        self.failures += faults
        path, sound = self.source.path, self.source.sound
        media = path if sound is None else still_video(path, sound)
        with open_media(media, max_pixels=self.settings.max_pixels) as container:
            self.video = video_stream(container, max_pixels=self.settings.max_pixels)
            self.audio = audio_stream(container)
            self.facts = read_facts(container, self.video, self.audio, self.settings)
            self.rate = self.settings.rate_for(self.facts.constant)
            streams = [self.video] if self.audio is None else [self.video, self.audio]
            for stream in streams:
                stream.codec_context.thread_count = 1
            self.sound = SoundTimeline(self.settings.audio_rate, self.facts.zero)
            self.must_start_by = -math.inf
            if seek_to is not None:
                container.seek(int((seek_to + self.facts.zero - SEEK_MARGIN) * 1_000_000))
                self.must_start_by = seek_to
            trouble = self._pass(container, streams)
            self._end(container, trouble)
        return SourceReport(self.made, self.rests, self.passed, tuple(self.failures), dropped)

    def _pass(self, container: Any, streams: list[Any]) -> str | None:
        """Decode packet by packet; returns the message of the error that ended the file early, if one did."""
        packets = container.demux(streams)
        errors = 0
        message = None
        while True:
            self.tick()
            try:
                packet = next(packets)
            except StopIteration:
                break
            except av.error.FFmpegError as error:
                message = str(error.strerror)
                break
            try:
                frames = packet.decode()
            except av.error.FFmpegError as error:
                errors += 1
                message = message or str(error.strerror)
                if packet.stream is self.video and packet.size:
                    self._note_damage(packet)
                continue
            for frame in frames:
                if isinstance(frame, av.VideoFrame):
                    self._picture(frame)
                elif isinstance(frame, av.AudioFrame):
                    self.sound.push(frame)
            self._settle(at_end=False)
            if not self.open and not self.waiting and all(c.exhausted for c in self.cursors):
                return None
        if self.frame is None:
            raise MediaError("undecodable", f"no picture could be decoded ({message or 'no packets'})")
        return message

    # -- picture ------------------------------------------------------------------------------------------------

    def _picture(self, frame: Any) -> None:
        stamp = self.clock.seconds(frame)
        time = self.time + 1 / self.facts.rate if stamp is None else stamp - self.facts.zero
        if stamp is None and self.frame is None:
            time = 0.0
        if self.frame is None:
            if self.must_start_by > -math.inf and time > self.must_start_by:
                raise _SeekFellShort
            self._first_picture(frame, time)
        elif time <= self.time + 1e-6:
            return  # a repeated or backward stamp: the picture shown at that time is known already
        elif time - self.time > LONGEST_HOLD:
            raise MediaError("broken time stamps", f"time stamps jump from {self.time:.3f} s to {time:.3f} s")
        self._open_windows(time)
        for window in self.open:
            if window.encoder.constant:
                self._fill(window, time)
        self.spoilt = frame.is_corrupt or (self.spoilt and not frame.key_frame)
        bisect.insort(self.bad_times if self.spoilt else self.good_times, time)
        self.frame, self.time, self.fitted = frame, time, None
        for window in self.open:
            if not window.encoder.constant:
                self._show_as_is(window)
        self._close_full()

    def _first_picture(self, frame: Any, time: float) -> None:
        self.geometry = plan_geometry(
            frame.height,
            frame.width,
            pixel_aspect(self.video),
            quarter_turns(frame),
            self.settings,
            self.settings.max_pixels,
        )
        self.fitter = PictureFitter(self.geometry)
        self.source_size = (frame.height, frame.width)
        for cursor in self.cursors:
            cursor.anchor = max(cursor.anchor, time)
            if cursor.segment.end is not None and cursor.segment.end <= cursor.anchor:
                cursor.exhausted = True
                self._outside(cursor.segment)

    def _outside(self, segment: Segment) -> None:
        self.failures.append(
            Failure(
                self.source.name,
                segment.start,
                "segment outside the file",
                f"the segment {segment.start} to {segment.end} s does not overlap the picture",
            )
        )

    def _open_windows(self, time: float) -> None:
        for cursor in self.cursors:
            while cursor.next_start <= time + 1e-6:
                number = self.numbered
                self.numbered += 1
                first = cursor.opened == 0
                start, seconds = cursor.take()
                key = self._key(cursor.segment, first, number, cursor.opened - 1)
                if key in self.present:
                    self.passed += 1
                    continue
                assert self.geometry is not None
                rate = self.rate
                encoder = PictureEncoder(self.geometry.size, rate or self.facts.rate, rate is not None, self.settings)
                window = Window(cursor.segment, key, start, seconds, encoder)
                self.open.append(window)
                if rate is None and self.frame is not None and start < time - 1e-3:
                    encoder.add(self._fitted(), 0)

    def _key(self, segment: Segment, first: bool, number: int, within: int) -> str:
        if segment.key is not None:
            return segment.key if first else f"{segment.key}-{within:04d}"
        if self.settings.clip_seconds is None and len(self.source.segments) == 1:
            return self.source.key
        return f"{self.source.key}-{number:04d}"

    def _fill(self, window: Window, time: float) -> None:
        """Add the frames of a constant-rate clip that are decided once the source shows a new picture at `time`."""
        due = min(slots_until(time, window.start, window.encoder.rate), window.limit)
        while window.encoder.frames < due:
            window.encoder.add(self._fitted(), window.encoder.frames)

    def _show_as_is(self, window: Window) -> None:
        offset = self.time - window.start
        if -1e-6 <= offset < window.seconds:
            window.encoder.add(self._fitted(), round(offset / float(window.encoder.time_base)))

    def _fitted(self) -> Any:
        if self.fitted is None:
            assert self.fitter is not None
            self.fitted = self.fitter.fit(self.frame)
        return self.fitted

    def _close_full(self) -> None:
        for window in list(self.open):
            if window.encoder.constant:
                full = window.encoder.frames >= window.limit
                end = window.start + window.encoder.frames / float(window.encoder.rate)
            else:
                full = self.time >= window.start + window.seconds - 1e-6
                end = window.start + window.seconds
            if full:
                self._close(window, end)

    def _close(self, window: Window, end: float) -> None:
        window.end = end
        window.encoder.close()
        self.open.remove(window)
        self.waiting.append(window)

    def _note_damage(self, packet: Any) -> None:
        """Note a packet that could not be decoded."""
        self.spoilt = True
        stamp = frame_seconds(packet)
        bisect.insort(self.bad_times, self.time + 1e-3 if stamp is None else stamp - self.facts.zero)

    # -- finishing ----------------------------------------------------------------------------------------------

    def _settle(self, at_end: bool) -> None:
        """Finish the windows whose sound is complete, oldest first, and forget sound that no window needs."""
        rate = self.settings.audio_rate
        while self.waiting:
            if not at_end and self.audio is not None and self.sound.reached < round(self.waiting[0].end * rate):
                break
            self._finish(self.waiting.popleft())
        if self.frame is not None:
            starts = [w.start for w in (*self.open, *self.waiting)] + [c.next_start for c in self.cursors]
            earliest = min(starts)
            self.sound.forget(2**62 if math.isinf(earliest) else math.floor(earliest * rate))

    def _finish(self, window: Window) -> None:
        bad, good = (_count_within(times, window) for times in (self.bad_times, self.good_times))
        if bad > DAMAGED_SHARE * (bad + good):
            message = f"{bad} of {bad + good} pictures are damaged"
            self.failures.append(Failure(self.source.name, round(window.start, 3), "damaged", message))
            return
        rate = self.settings.audio_rate
        samples, share = self.sound.between(round(window.start * rate), round(window.end * rate))
        has_audio = self.audio is not None and share > 0.01
        media = window.encoder.finish(samples if has_audio else None)
        table, demux = _packet_table(media, window.key)
        assert self.geometry is not None
        segment = window.segment
        description = {
            "source": self.source.name,
            "start": round(window.start, 6),
            "duration": round(window.duration, 6),
            "frame_rate": float(window.encoder.rate),
            "frames": window.encoder.frames,
            "width": self.geometry.size[1],
            "height": self.geometry.size[0],
            "has_audio": has_audio,
            "audio_rate": rate if has_audio else None,
            "sound_share": round(share, 4),
            "loudness": loudness(samples) if has_audio else None,
            "label": segment.label,
            "truth": segment.truth,
            "extra": segment.extra,
            **membership(self.source, segment),
            "rotation": self.geometry.turns * 90,
            "affine": self.geometry.affine(self.source_size),
            "original": self.facts.description,
            **demux,
        }
        cues = self.cues.get(segment.subtitles, ())
        dense = self._dense_truth(window)
        self.emit(
            assemble(
                window.key,
                segment.split,
                media,
                table,
                cues,
                window.start,
                round(window.duration, 6),
                description,
                dense,
            )
        )
        self.made += 1

    def _dense_truth(self, window: Window) -> bytes | None:
        """The part of the source's dense truth that a clip shows; what cannot be used is a failure, not of the clip."""
        path = window.segment.dense
        if path is None:
            return None
        rate = float(self.facts.rate)
        try:
            first = max(math.floor(window.start * rate) - 1, 0)
            return cut_truth(path.read_bytes(), first, math.ceil(window.end * rate) + 2 - first)
        except (OSError, BadTruth) as error:
            message = f"{path.name}: {error}; the clip is stored without"
            self.failures.append(Failure(self.source.name, round(window.start, 3), "dense truth", message))
            return None

    def _end(self, container: Any, trouble: str | None) -> None:
        """Close what is open at the end of the file, and say what is missing."""
        self.sound.flush()
        held = float(self.frame.duration * self.frame.time_base) if self.frame.duration else 0.0
        usual = 1 / float(self.facts.rate)
        last = held if usual / 2 <= held < 1 else usual  # WebM gives the last frame no time at all
        end = self.time + last
        for window in list(self.open):
            if window.encoder.constant:
                self._fill(window, end)
                finish = window.start + window.encoder.frames / float(window.encoder.rate)
            else:
                finish = min(end, window.start + window.seconds)
            half = 0.5 / float(window.encoder.rate)
            if window.encoder.frames and finish - window.start >= self.settings.min_seconds - half:
                self._close(window, finish)
            else:
                self.open.remove(window)
                self._too_short(window, end)
        self._settle(at_end=True)
        for cursor in self.cursors:
            if cursor.opened == 0 and not cursor.exhausted:
                self._outside(cursor.segment)
        self._check_promise(end, trouble)

    def _check_promise(self, end: float, trouble: str | None) -> None:
        """Note a file that ends well before its header, and the segments, say."""
        promised, reached = self.facts.picture_end, end
        if promised is None:  # the container knows only the longest stream
            promised, reached = self.facts.file_end, max(end, self.sound.reached / self.settings.audio_rate)
        wanted = max(math.inf if c.segment.end is None else c.segment.end for c in self.cursors)
        if promised is not None and reached < min(promised, wanted) - max(1.0, 0.05 * promised):
            message = f"the picture ends at {end:.2f} s of {promised:.2f} s ({trouble or 'the file is cut short'})"
            self.failures.append(Failure(self.source.name, round(end, 3), "ends early", message))

    def _too_short(self, window: Window, end: float) -> None:
        if any(abs(window.start - c.anchor) < 1e-6 and c.segment is window.segment for c in self.cursors):
            message = f"{end - window.start:.2f} s of picture, at least {self.settings.min_seconds} s are wanted"
            self.failures.append(Failure(self.source.name, round(window.start, 3), "too short", message))
        else:
            self.rests += 1


def membership(source: Source, segment: Segment) -> dict[str, Any]:
    """What the description says of a known data set: its name and annotations, official folds, and the group."""
    said = {**source.mark, "folds": segment.folds, "group": segment.group}
    return {name: value for name, value in said.items() if value}


def _count_within(times: list[float], window: Window) -> int:
    return bisect.bisect_left(times, window.end) - bisect.bisect_left(times, window.start - 1e-6)


def _packet_table(media: bytes, key: str) -> tuple[bytes | None, dict[str, str]]:
    """The clip's packet table; without one the reason, for the description: it is read through the demuxer."""
    try:
        return checked_table(media, key), {}
    except (NoTable, MediaError) as error:
        return None, {"demux": str(error)}
