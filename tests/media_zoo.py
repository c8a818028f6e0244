"""A zoo of small real media for the decoders' suite. Each says by itself what is on screen and what sounds at a time.

Nothing here asks a decoder. Frames carry their number as a bar code over a run of colours, made in YUV by the
formulas of BT.601 and BT.709; the sound is a sweep whose pitch tells the time. Both are written at known instants of
one *scene clock*; `Medium.origin` is the time stamp of its zero in the file. Sizes are (height, width), times seconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests import media

BITS = 9
COLOURS = np.array([(170, 90, 90), (90, 170, 90), (90, 90, 170)], np.float64)
DARK, LIGHT = 55, 180
KR_KB = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 2: (0.299, 0.114)}  # FFmpeg's AVColorSpace: 709, 601, unsaid
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


@dataclass(frozen=True)
class Medium:
    """What is written. Times are on the scene clock unless they say otherwise.

    Args:
        suffix: of the file; says the container.
        frames: pictures; 0 for none.
        fps: frames a second; with `variable` the mean.
        variable: irregular frame times, and one picture that stays for half a second.
        size: (height, width) as coded.
        video, video_options: encoder of the picture, and its options.
        pixels: pixel format: yuv420p, yuv444p or yuv420p10le.
        matrix, full_range: colours, as tagged; matrix 2 is left unsaid.
        aspect: width of a pixel over its height.
        rotation: degrees clockwise of the display matrix (mp4 only).
        hidden: number of a frame whose packet says that it is not shown (VP8 only).
        gop, b_frames: distance of key frames, B-frames between references.
        audio: encoder of the sound; None for none.
        rate: samples a second.
        loudness: of the sweep in each channel.
        origin: time stamp of the scene's zero in the file; what lies before a time stamp of zero is not presented.
        picture_from, sound_from: when picture and sound begin.
        gap: (from, to) where no packet of sound is written.
        fragmented: a fragmented mp4.
        snr: decibels that the sound must keep, at the wanted rate of 16 kHz.
        duration_within: seconds by which the container may miss the duration.
    """

    suffix: str = ".mp4"
    frames: int = 60
    fps: float = 25.0
    variable: bool = False
    size: tuple[int, int] = (64, 96)
    video: str = "libx264"
    video_options: dict[str, str] = field(default_factory=dict)
    pixels: str = "yuv420p"
    matrix: int = 2
    full_range: bool = False
    aspect: Fraction = Fraction(1)
    rotation: int = 0
    hidden: int | None = None
    gop: int = 12
    b_frames: int = 0
    audio: str | None = "aac"
    rate: int = 16000
    loudness: tuple[float, ...] = (1.0,)
    origin: float = 0.0
    picture_from: float = 0.0
    sound_from: float = 0.0
    gap: tuple[float, float] | None = None
    fragmented: bool = False
    snr: float = 15.0
    duration_within: float = 0.07

    @property
    def seconds(self) -> float:
        """When the sound ends."""
        return self.frames / self.fps if self.frames else 2.4

    @property
    def scene_times(self) -> np.ndarray:
        """Float64 [frames]: when each frame comes on screen."""
        times = np.arange(self.frames) / self.fps
        if self.variable:
            times[1:] += np.random.default_rng(7).uniform(-0.4, 0.4, max(self.frames - 1, 0)) / self.fps
            times[self.frames // 2 :] += 0.5
        return np.round(times, 3) + self.picture_from

    @property
    def turns(self) -> int:
        """Quarter turns clockwise that bring the coded picture upright."""
        return self.rotation // 90 % 4

    @property
    def shown_size(self) -> tuple[int, int]:
        """(height, width) of the upright picture with square pixels."""
        height, width = self.size[0], round(self.size[1] * self.aspect)
        return (width, height) if self.turns % 2 else (height, width)

    def sweep(self, times: np.ndarray) -> np.ndarray:
        """The sound at `times` of the scene: the mean of the channels; zeros outside and in the gap."""
        sound = _sweep(times) * float(np.mean(self.loudness))
        sound[(times < self.sound_from) | (times >= self.seconds)] = 0.0
        if self.gap:
            sound[(times >= self.gap[0]) & (times < self.gap[1])] = 0.0
        return sound


def _sweep(times: np.ndarray) -> np.ndarray:
    return 0.4 * np.sin(2 * np.pi * (200 * times + 150 * times**2))


@dataclass(frozen=True)
class Written:
    """A medium on disk with its truth on the clip's clock.

    Args:
        medium: what it was made from.
        data: the file.
        zero: time stamp of the clip's zero in the file, minus what the container moved all stamps by.
    """

    medium: Medium
    data: bytes
    zero: float

    @property
    def times(self) -> np.ndarray:
        """Float64 [frames]: when each frame comes on screen on the clip's clock; negative ones never do."""
        times = self.medium.scene_times + self.medium.origin - self.zero
        if self.medium.fragmented:
            times[0] = 0.0  # FFmpeg's muxer moves all frames but the first, which it lengthens instead
        return times

    def number_at(self, time: float) -> int:
        """Number of the frame that is on screen at `time`."""
        times = self.times
        first = int(np.searchsorted(times, -1e-6))  # what begins before the clip's zero is cut off
        number = max(int(np.searchsorted(times, time + 1e-6, side="right")) - 1, first)
        return number - (number == self.medium.hidden)

    def sound_at(self, times: np.ndarray) -> np.ndarray:
        """Float64 [N]: the sound at `times` of the clip's clock."""
        return self.medium.sweep(times + self.zero - self.medium.origin)

    @property
    def duration(self) -> float:
        """End of the picture, or else of the sound, on the clip's clock; the last frame is as long as the mean."""
        end = self.medium.scene_times[-1] + 1 / self.medium.fps if self.medium.frames else self.medium.seconds
        return float(end) + self.medium.origin - self.zero

    @property
    def sound_span(self) -> tuple[float, float]:
        """(from, to) on the clip's clock where there is sound."""
        shift = self.medium.origin - self.zero
        return max(self.medium.sound_from + shift, 0.0), self.medium.seconds + shift


def write(medium: Medium, folder: Path) -> Written:
    """Encode a medium."""
    path = folder / f"medium{medium.suffix}"
    options = media.FRAGMENTED if medium.fragmented else {}
    with usual_scheduling(), av.open(str(path), "w", options=options) as out:
        video = _picture_stream(out, medium) if medium.frames else None
        sound = None
        if medium.audio:
            sound = out.add_stream(medium.audio, rate=medium.rate, layout=LAYOUTS[len(medium.loudness)])
            sound.options = {"strict": "-2"} if medium.audio == "vorbis" else {}  # FFmpeg's own encoder
        packets = list(_picture_packets(video, medium)) if video is not None else []
        if medium.hidden is not None:
            packets[medium.hidden] = _hidden(packets[medium.hidden])
        written = sorted(float(p.pts * p.time_base) for p in packets)
        if sound is not None:
            packets += _sound_packets(sound, medium)
        packets.sort(key=lambda p: float((p.dts if p.dts is not None else p.pts) * p.time_base))
        for packet in packets:
            out.mux(packet)
    if medium.rotation:
        media.rotate_display(path, medium.rotation)
    with av.open(str(path)) as container:
        zero = max((container.start_time or 0) / av.time_base, 0.0)
        moved = 0.0
        if (medium.suffix in (".ts", ".mpg") or medium.fragmented) and written:
            # These muxers move all stamps by as much, for the sake of what begins before zero.
            stamps = sorted(packet.pts for packet in container.demux(video=0) if packet.pts is not None)
            moved = float(stamps[1] * container.streams.video[0].time_base) - written[1]
    return Written(medium, path.read_bytes(), zero - moved)


def _picture_stream(out: av.container.OutputContainer, medium: Medium) -> av.VideoStream:
    stream = out.add_stream(medium.video, rate=Fraction(medium.fps).limit_denominator(1001))
    stream.height, stream.width, stream.pix_fmt = *medium.size, medium.pixels
    context = stream.codec_context
    context.gop_size, context.max_b_frames, context.thread_count = medium.gop, medium.b_frames, 1
    options = dict(medium.video_options)
    if medium.video == "libx264":
        options = {"preset": "veryfast", "crf": "12", "bf": str(medium.b_frames)} | options
    elif medium.video == "libx265":
        options = {
            "preset": "ultrafast",
            "crf": "12",
            "x265-params": "log-level=none:pools=1:frame-threads=1",
        } | options
    elif medium.video.startswith("libvpx"):
        options = {"deadline": "realtime", "cpu-used": "8", "crf": "8", "b": "2M"} | options
    elif medium.video == "libsvtav1":
        options = {"preset": "12", "crf": "15"} | options
    elif medium.video == "libaom-av1":
        options = {"cpu-used": "8", "usage": "realtime", "crf": "15"} | options
    else:
        options = {"qmin": "2", "qmax": "3", "b": "4M"} | options
    if medium.aspect != 1:
        options["aspect"] = f"{medium.aspect.numerator}/{medium.aspect.denominator}"
    stream.options = options
    if medium.video not in ("mpeg1video", "mpeg2video", "mpeg4"):
        context.time_base = Fraction(1, 1000)
    if medium.matrix != 2:
        context.colorspace = medium.matrix
    context.color_range = 2 if medium.full_range else 1
    return stream


@contextmanager
def usual_scheduling() -> Iterator[None]:
    """Keep the process's scheduling: SVT-AV1, run by root, puts the thread that calls it on SCHED_FIFO at 99.

    What is started afterwards inherits it, and a browser of which every thread is real-time stops the machine.
    """
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if (os.sched_getscheduler(0), os.sched_getparam(0)) != before:
            os.sched_setscheduler(0, *before)


def _picture_packets(stream: av.VideoStream, medium: Medium) -> Iterator[av.Packet]:
    base = stream.codec_context.time_base or Fraction(1, 1000)
    for number, time in enumerate(medium.scene_times):
        frame = frame_of(number, medium)
        frame.time_base = base
        frame.pts = round(Fraction(time + medium.origin).limit_denominator(1000) / base)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _hidden(packet: av.Packet) -> av.Packet:
    """A VP8 packet without the bit that says that its frame is shown."""
    data = bytearray(bytes(packet))
    data[0] &= ~0x10
    made = av.Packet(bytes(data))
    made.stream, made.time_base = packet.stream, packet.time_base
    made.pts, made.dts, made.duration = packet.pts, packet.dts, packet.duration
    return made


def _sound_packets(stream: av.AudioStream, medium: Medium) -> Iterator[av.Packet]:
    context = stream.codec_context
    times = medium.sound_from + np.arange(round((medium.seconds - medium.sound_from) * medium.rate)) / medium.rate
    sound = (_sweep(times)[:, None] * np.array(medium.loudness)).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound.reshape(1, -1)), "flt", context.layout.name)
    frame.sample_rate, frame.time_base = medium.rate, Fraction(1, medium.rate)
    frame.pts = round((medium.sound_from + medium.origin) * medium.rate)
    resampler = av.AudioResampler(format=context.format, layout=context.layout, rate=medium.rate)
    for part in [*resampler.resample(frame), *resampler.resample(None), None]:
        for packet in stream.encode(part):
            at = float(packet.pts * packet.time_base) - medium.origin
            if medium.gap is None or not medium.gap[0] <= at < medium.gap[1]:
                yield packet


def planes_of(number: int, medium: Medium) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Float64 [H, W] each: Y from 0 to 1, Cb and Cr from -0.5 to 0.5, of bars that spell `number` over the colours.

    The colours run evenly from red over green to blue, so that it does not matter how chroma is interpolated, and are
    so pale that nothing is clipped. The bars, low bit at left, are luma alone.
    """
    height, width = medium.size
    place = (np.arange(width) + 0.5) / width
    colours = np.stack([np.interp(place, (0, 0.5, 1), COLOURS[:, channel]) for channel in range(3)], axis=1) / 255
    red, blue = KR_KB[medium.matrix]
    luma = colours @ (red, 1 - red - blue, blue)
    cb, cr = (colours[:, 2] - luma) / (2 - 2 * blue), (colours[:, 0] - luma) / (2 - 2 * red)
    y = np.repeat(luma[None], height, axis=0)
    bars = np.linspace(0, width, BITS + 1).round().astype(int)
    for bit in range(BITS):
        y[: height // 2, bars[bit] : bars[bit + 1]] = (LIGHT if number >> bit & 1 else DARK) / 255
    return y, np.repeat(cb[None], height, axis=0), np.repeat(cr[None], height, axis=0)


def number_of(picture: np.ndarray) -> int:
    """Read the number of an upright RGB uint8 [H, W, 3] picture of `planes_of`, of any size."""
    part = picture[int(picture.shape[0] * 0.1) : int(picture.shape[0] * 0.4)].astype(np.float64)
    grey = part.mean(axis=0) @ (0.26, 0.64, 0.1)
    bars = np.linspace(0, len(grey), BITS + 1)
    middle = (LIGHT + DARK) / 2
    return int(sum(1 << bit for bit in range(BITS) if grey[int((bars[bit] + bars[bit + 1]) / 2)] > middle))


def colour_error(picture: np.ndarray) -> float:
    """Largest error of the mean colour of any tenth of the lower half, in levels."""
    height, width = picture.shape[:2]
    row = picture[int(height * 0.6) : int(height * 0.95)].astype(np.float64).mean(axis=0)
    place = (np.arange(width) + 0.5) / width
    true = np.stack([np.interp(place, (0, 0.5, 1), COLOURS[:, channel]) for channel in range(3)], axis=1)
    parts = np.array_split(row - true, 10)
    return float(max(np.abs(part.mean(axis=0)).max() for part in parts))


def frame_of(number: int, medium: Medium) -> av.VideoFrame:
    """The picture as YUV by the formulas, with nothing of FFmpeg in between."""
    y, cb, cr = planes_of(number, medium)
    depth = 10 if "10" in medium.pixels else 8
    unit = 1 << (depth - 8)
    if medium.full_range:
        top = 256 * unit - 1
        planes = [y * top, cb * top + 128 * unit, cr * top + 128 * unit]
    else:
        planes = [(16 + 219 * y) * unit, (128 + 224 * cb) * unit, (128 + 224 * cr) * unit]
    if medium.pixels.startswith(("yuv420p", "yuvj420p")):
        planes[1:] = [_halved(plane) for plane in planes[1:]]
    frame = av.VideoFrame(medium.size[1], medium.size[0], medium.pixels)
    for target, values in zip(frame.planes, planes, strict=True):
        kind = np.dtype(np.uint16 if depth > 8 else np.uint8)
        rows = np.zeros((target.height, target.line_size // kind.itemsize), kind)
        rows[:, : values.shape[1]] = values.round().clip(0, 256 * unit - 1).astype(kind)
        target.update(rows)
    if medium.matrix != 2:
        frame.colorspace = medium.matrix
    frame.color_range = 2 if medium.full_range else 1
    return frame


def _halved(plane: np.ndarray) -> np.ndarray:
    """Means of 2 x 2; an odd edge is doubled."""
    plane = np.pad(plane, ((0, plane.shape[0] % 2), (0, plane.shape[1] % 2)), mode="edge")
    return plane.reshape(plane.shape[0] // 2, 2, plane.shape[1] // 2, 2).mean(axis=(1, 3))


HEVC10 = {"video": "libx265", "pixels": "yuv420p10le"}
VP9 = {"suffix": ".webm", "video": "libvpx-vp9", "audio": "libopus", "rate": 48000}
PCM = {"suffix": ".mkv", "audio": "pcm_s16le", "snr": 30.0}
MEDIA: dict[str, Medium] = {
    # containers
    "mp4": Medium(),
    "fragmented mp4": Medium(fragmented=True, rate=44100),
    "mkv": Medium(suffix=".mkv", rate=48000),
    "webm, VP8 and Vorbis": Medium(suffix=".webm", video="libvpx", audio="vorbis", rate=44100, loudness=(1.0, 0.3)),
    "webm, VP8 with a hidden frame": Medium(
        suffix=".webm", video="libvpx", gop=60, audio="libopus", rate=48000, hidden=20
    ),
    "webm, VP9 and Opus": Medium(**VP9),
    "mpeg transport stream": Medium(suffix=".ts", rate=48000),
    "mpeg transport stream, B-frames": Medium(suffix=".ts", rate=48000, b_frames=2),
    "avi, MPEG-4 and PCM": Medium(suffix=".avi", video="mpeg4", audio="pcm_s16le", snr=30.0),
    "mpeg program stream, MPEG-2 and MP2": Medium(
        suffix=".mpg", video="mpeg2video", audio="mp2", rate=44100, duration_within=0.3
    ),
    "mov, Motion JPEG and PCM": Medium(
        suffix=".mov", video="mjpeg", pixels="yuvj420p", full_range=True, matrix=5, audio="pcm_s16le", snr=30.0
    ),
    # codecs
    "HEVC": Medium(video="libx265"),
    "HEVC of 10 bits": Medium(**HEVC10),
    "HEVC of 10 bits, BT.709, B-frames": Medium(**HEVC10, matrix=1, b_frames=2, gop=30),
    "AV1 in mp4": Medium(video="libsvtav1"),
    "AV1 in webm": Medium(suffix=".webm", video="libsvtav1", audio="libopus", rate=48000),
    "VP9 in mp4": Medium(video="libvpx-vp9"),
    # time
    "variable frame rate in mp4": Medium(variable=True),
    "variable frame rate in mkv, B-frames": Medium(suffix=".mkv", variable=True, b_frames=2),
    "B-frames in mp4": Medium(b_frames=2),
    "B-frames in mkv": Medium(suffix=".mkv", b_frames=2, gop=25),
    "open groups of pictures": Medium(b_frames=3, gop=15, video_options={"x264-params": "open-gop=1"}),
    "one group of 260 pictures": Medium(frames=260, gop=300, b_frames=1),
    "picture begins later": Medium(picture_from=0.4),
    "sound begins later": Medium(sound_from=0.5),
    "begins before zero": Medium(origin=-0.4),
    "begins before zero, B-frames": Medium(origin=-0.4, b_frames=2, gop=30),
    "begins at 3.2 s in mkv": Medium(suffix=".mkv", origin=3.2),
    "begins at 3.2 s in mp4, B-frames": Medium(origin=3.2, b_frames=2),
    "a gap in the sound": Medium(suffix=".mkv", gap=(0.8, 1.4)),
    "a gap in the sound of an mp4": Medium(gap=(0.8, 1.4)),
    # shape
    "turned by 90": Medium(rotation=90),
    "turned by 180": Medium(rotation=180),
    "turned by 270": Medium(rotation=270),
    "pixels of 4:3": Medium(aspect=Fraction(4, 3)),
    "pixels of 8:9, turned by 90": Medium(aspect=Fraction(8, 9), size=(64, 108), rotation=90),
    "odd size in VP9": Medium(**VP9, size=(65, 97)),
    "odd size in H.264, 4:4:4": Medium(size=(65, 97), pixels="yuv444p"),
    "size that blocks do not divide": Medium(size=(70, 102)),
    # colour
    "BT.709": Medium(matrix=1),
    "BT.601": Medium(matrix=5),
    "BT.709, full range": Medium(matrix=1, full_range=True),
    "BT.601, full range": Medium(matrix=5, full_range=True),
    "VP9, BT.709": Medium(**VP9, matrix=1),
    # sound
    "PCM at 8 kHz": Medium(suffix=".mkv", audio="pcm_s16le", rate=8000, snr=25.0),
    "PCM at 22.05 kHz": Medium(**PCM, rate=22050),
    "PCM at 16 kHz": Medium(**PCM),
    "PCM at 48 kHz, stereo": Medium(**PCM, rate=48000, loudness=(1.0, 0.3)),
    "AAC at 8 kHz": Medium(rate=8000),
    "AAC at 22.05 kHz, stereo": Medium(rate=22050, loudness=(1.0, 0.3)),
    "AAC at 48 kHz, 5.1": Medium(rate=48000, loudness=(1.0, 0.8, 0.6, 0.0, 0.4, 0.2)),
    "MP3 at 22.05 kHz in mkv": Medium(suffix=".mkv", audio="libmp3lame", rate=22050),
    "MP3 at 44.1 kHz, stereo, in mp4": Medium(audio="libmp3lame", rate=44100, loudness=(1.0, 0.3)),
    "Opus in mp4": Medium(audio="libopus", rate=48000),
    "Vorbis in mkv": Medium(suffix=".mkv", audio="vorbis", rate=44100, loudness=(1.0, 0.3)),
    "FLAC in mkv": Medium(suffix=".mkv", audio="flac", rate=44100, snr=30.0),
    # what is not there
    "no sound": Medium(audio=None),
    "no sound, B-frames in mkv": Medium(suffix=".mkv", audio=None, b_frames=2),
    "sound alone in m4a": Medium(suffix=".m4a", frames=0),
    "sound alone in mkv": Medium(suffix=".mkv", frames=0),
    "sound alone in ogg": Medium(suffix=".ogg", frames=0, audio="vorbis", rate=44100, loudness=(1.0, 0.3)),
}
