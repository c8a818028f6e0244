"""Small real media for tests: written by FFmpeg through PyAV, with known instants of light and sound.

`flash_and_click` writes clips in which a white flash and a click happen at the same known instants;
`measure` reads them back by the time stamps of both streams, with nothing of mmssl in between. `numbered`
writes clips whose frames carry their own number as a bar code that survives encoding. Sizes are
(height, width), times are seconds.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.subtitles.subtitle import SubtitleSet

FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
BITS = 10
ASS_HEADER = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, \
Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, \
MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def flash_and_click(
    path: Path,
    *,
    seconds: float = 3.0,
    at: Sequence[float] = (1.0,),
    fps: float = 25.0,
    size: tuple[int, int] = (64, 96),
    container: str | None = None,
    fragmented: bool = False,
    video_codec: str = "libx264",
    audio_codec: str | None = "aac",
    audio_rate: int = 44100,
    channels: int = 1,
    start: float = 0.0,
    audio_start: float | None = None,
    variable_rate: bool = False,
    rotation: int = 0,
    b_frames: int = 0,
    gop: int = 12,
    audio_seconds: float | None = None,
    sound_gap: tuple[float, float] | None = None,
    subtitles: Sequence[tuple[float, float, str]] = (),
    subtitle_codec: str | None = None,
    metadata: dict[str, str] | None = None,
    seed: int = 0,
    bitexact: bool = False,
) -> Path:
    """Write a clip where the picture turns white for 80 ms, and a click sounds, at each of the times `at`.

    Args:
        path: File to write; the suffix says the container unless `container` does.
        seconds: Length of the picture (and of the sound, unless `audio_seconds`).
        at: Instants of flash and click, on the clip's own clock (0 = first frame).
        fps: Frame rate; with `variable_rate` the mean one (intervals then vary by up to 40 %).
        size: (height, width) as coded, before any `rotation`.
        container: FFmpeg's name of the container.
        fragmented: Write a fragmented mp4.
        video_codec: Encoder for the picture.
        audio_codec: Encoder for the sound; None leaves the audio stream out.
        audio_rate: Samples a second.
        channels: 1, 2 or 6.
        start: Time stamp of the first frame in the file.
        audio_start: Time stamp of the first sample in the file; `start` unless given. Clicks do not move.
        variable_rate: Irregular frame times.
        rotation: Display rotation in degrees clockwise (multiple of 90), mp4 only; pixels stay as they are.
        b_frames: B-frames between two references.
        gop: Largest distance of key frames.
        audio_seconds: Length of the sound, counted from the first frame.
        sound_gap: (from, to) within which no audio packet is written.
        subtitles: Cues (start, end, text) of an embedded stream, on the clip's own clock.
        subtitle_codec: Its codec: "mov_text" in mp4 and "srt" elsewhere unless given.
        metadata: Container metadata.
        seed: Seed of the picture noise, so that clips differ.
        bitexact: Write the same bytes each time (Matroska and Ogg draw identities otherwise).
    """
    times = frame_times(seconds, fps, variable_rate)
    flashes = {int(np.argmin(np.abs(times - t))) for t in at}
    flashes |= {i for i in range(len(times)) for t in at if t <= times[i] < t + 0.08}
    noise = np.random.default_rng(seed).integers(0, 32, (size[0] // 8, size[1] // 8, 3), dtype=np.uint8)
    dark = noise.repeat(8, axis=0).repeat(8, axis=1)
    dark = np.pad(dark, ((0, size[0] - dark.shape[0]), (0, size[1] - dark.shape[1]), (0, 0)), mode="edge")
    dark[: size[0] // 8, : size[1] // 8, 0] = 200  # a red patch at top left tells how the picture is turned
    light = np.full_like(dark, 255)
    pictures = (light if i in flashes else dark for i in range(len(times)))
    waveform = None
    if audio_codec is not None:
        first = 0.0 if audio_start is None else audio_start - start
        length = seconds if audio_seconds is None else audio_seconds
        waveform = clicks(at, first, length, audio_rate)
    return write(
        path,
        times + start,
        pictures,
        waveform,
        size=size,
        fps=fps,
        container=container,
        fragmented=fragmented,
        video_codec=video_codec,
        audio_codec=audio_codec,
        audio_rate=audio_rate,
        channels=channels,
        audio_start=start if audio_start is None else audio_start,
        rotation=rotation,
        b_frames=b_frames,
        gop=gop,
        sound_gap=None if sound_gap is None else (sound_gap[0] + start, sound_gap[1] + start),
        subtitles=[(a + start, b + start, text) for a, b, text in subtitles],
        subtitle_codec=subtitle_codec,
        metadata=metadata,
        bitexact=bitexact,
    )


def numbered(
    path: Path,
    *,
    frames: int = 75,
    fps: float = 25.0,
    size: tuple[int, int] = (64, 96),
    variable_rate: bool = False,
    audio_codec: str | None = None,
    audio_rate: int = 16000,
    **options: object,
) -> Path:
    """Write a clip whose frame number i (0 to 1023) can be read from its pixels with `number_of`.

    With `audio_codec` the sound is a rising sweep: no two windows sound alike. `options` go to `write`.
    """
    times = frame_times(frames / fps, fps, variable_rate)[:frames]
    pictures = (picture_of(i, size) for i in range(frames))
    waveform = None
    if audio_codec is not None:
        t = np.arange(round(frames / fps * audio_rate)) / audio_rate
        waveform = (0.3 * np.sin(2 * np.pi * (200 * t + 150 * t**2))).astype(np.float32)
    return write(
        path,
        times,
        pictures,
        waveform,
        size=size,
        fps=fps,
        audio_codec=audio_codec,
        audio_rate=audio_rate,
        **options,
    )


def picture_of(number: int, size: tuple[int, int]) -> np.ndarray:
    """RGB uint8 [H, W, 3] of vertical bars that spell `number` in binary (BITS bars, low bit at left)."""
    picture = np.full((*size, 3), 16, np.uint8)
    edges = np.linspace(0, size[1], BITS + 1).round().astype(int)
    for bit in range(BITS):
        if number >> bit & 1:
            picture[:, edges[bit] : edges[bit + 1]] = 235
    return picture


def number_of(picture: np.ndarray) -> int:
    """Read the number that `picture_of` wrote, from RGB uint8 [H, W, 3] of any (even smaller) size."""
    grey = picture.astype(np.float32).mean(axis=(0, 2))
    edges = np.linspace(0, len(grey), BITS + 1)
    centres = ((edges[:-1] + edges[1:]) / 2).astype(int)
    return int(sum(1 << bit for bit, x in enumerate(centres) if grey[x] > 128))


def frame_times(seconds: float, fps: float, variable_rate: bool) -> np.ndarray:
    """Times of the frames, float64 [N]; `variable_rate` moves each by up to 40 % of an interval."""
    times = np.arange(round(seconds * fps)) / fps
    if variable_rate:
        times[1:] += np.random.default_rng(7).uniform(-0.4, 0.4, len(times) - 1) / fps
    return np.round(times, 3)


def clicks(at: Iterable[float], first: float, until: float, rate: int) -> np.ndarray:
    """Waveform float32 [N] from time `first` to `until` with a 10 ms burst of 2 kHz at each time of `at`."""
    waveform = np.zeros(max(round((until - first) * rate), 1), np.float32)
    burst = 0.8 * np.cos(2 * np.pi * 2000 * np.arange(round(0.01 * rate)) / rate).astype(np.float32)
    for t in at:
        begin = round((t - first) * rate)
        if 0 <= begin < len(waveform):
            part = burst[: len(waveform) - begin]
            waveform[begin : begin + len(part)] += part
    return waveform


def write(
    path: Path,
    times: np.ndarray,
    pictures: Iterable[np.ndarray],
    waveform: np.ndarray | None = None,
    *,
    size: tuple[int, int],
    fps: float = 25.0,
    container: str | None = None,
    fragmented: bool = False,
    video_codec: str = "libx264",
    audio_codec: str | None = "aac",
    audio_rate: int = 44100,
    channels: int = 1,
    audio_start: float = 0.0,
    rotation: int = 0,
    b_frames: int = 0,
    gop: int = 12,
    sound_gap: tuple[float, float] | None = None,
    subtitles: Sequence[tuple[float, float, str]] = (),
    subtitle_codec: str | None = None,
    metadata: dict[str, str] | None = None,
    bitexact: bool = False,
    open_gop: bool = False,
) -> Path:
    """Encode pictures (RGB uint8 [H, W, 3]) at `times` (file clock), and a mono waveform, into a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    base = Fraction(1, 1000)
    options = (FRAGMENTED if fragmented else {}) | ({"fflags": "+bitexact"} if bitexact else {})
    with av.open(str(path), "w", format=container, options=options) as out:
        for name, value in (metadata or {}).items():
            out.metadata[name] = value
        video = out.add_stream(video_codec, rate=Fraction(fps).limit_denominator(1001))
        video.height, video.width, video.pix_fmt = *size, "yuv420p"
        video.codec_context.gop_size = gop
        video.codec_context.max_b_frames = b_frames
        video.codec_context.thread_count = 1
        if video_codec == "libx264":
            video.options = {"preset": "veryfast", "bf": str(b_frames)}
            if open_gop:
                video.options |= {"x264-params": "open-gop=1:scenecut=0"}
        elif video_codec.startswith("libvpx"):
            video.options = {"deadline": "realtime", "cpu-used": "8"}
        if video_codec not in ("mpeg1video", "mpeg2video", "mpeg4"):
            video.codec_context.time_base = base
        audio = None
        if audio_codec is not None and waveform is not None:
            layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
            audio = out.add_stream(audio_codec, rate=audio_rate, layout=layout)
        text = None
        if subtitles:
            codec = subtitle_codec or ("mov_text" if path.suffix in (".mp4", ".mov", ".m4v") else "srt")
            text = out.add_stream(codec)
            text.codec_context.subtitle_header = ASS_HEADER
            text.time_base = text.codec_context.time_base = base
        packets = list(_video_packets(video, times, pictures))
        if audio is not None and waveform is not None:
            for packet in _audio_packets(audio, waveform, audio_rate, channels, audio_start):
                at = float(packet.pts * packet.time_base)
                if sound_gap is None or not sound_gap[0] <= at < sound_gap[1]:
                    packets.append(packet)
        if text is not None:
            packets += [_subtitle_packet(text, *cue) for cue in subtitles]
        packets.sort(key=lambda p: float((p.dts if p.dts is not None else p.pts) * p.time_base))
        for packet in packets:
            out.mux(packet)
    if rotation:
        rotate_display(path, rotation)
    return path


def _video_packets(stream: av.VideoStream, times: np.ndarray, pictures: Iterable[np.ndarray]) -> Iterable[av.Packet]:
    base = stream.codec_context.time_base or Fraction(1, 1000)
    for time, picture in zip(times, pictures, strict=True):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame = frame.reformat(format="yuv420p", threads=1)
        frame.time_base = base
        frame.pts = round(Fraction(time).limit_denominator(1000) / base)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _audio_packets(
    stream: av.AudioStream, waveform: np.ndarray, rate: int, channels: int, start: float
) -> Iterable[av.Packet]:
    resampler = av.AudioResampler(format=stream.codec_context.format, layout=stream.codec_context.layout, rate=rate)
    interleaved = np.ascontiguousarray(np.repeat(waveform[:, None], channels, axis=1).reshape(1, -1))
    frame = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=stream.codec_context.layout.name)
    frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), round(start * rate)
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        yield from stream.encode(part)
    yield from stream.encode(None)


def _subtitle_packet(stream: av.subtitles.stream.SubtitleStream, start: float, end: float, text: str) -> av.Packet:
    dialogue = f"0,0,Default,,0,0,0,,{text}".encode()
    cue = SubtitleSet.create(dialogue, 0, round((end - start) * 1000), pts=0)
    packet = stream.codec_context.encode_subtitle(cue)
    packet.stream = stream
    packet.time_base = Fraction(1, 1000)
    packet.pts = packet.dts = round(start * 1000)
    packet.duration = round((end - start) * 1000)
    return packet


def rotate_display(path: Path, degrees: int) -> None:
    """Set the display matrix of the first track of an mp4, so that players turn the picture clockwise."""
    data = bytearray(Path(path).read_bytes())
    at = data.index(b"tkhd") + 4
    matrix = at + (52 if data[at] else 40)  # version 1 has 64-bit times
    cosine, sine = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees % 360]
    values = [cosine << 16, sine << 16, 0, -sine << 16, cosine << 16, 0, 0, 0, 1 << 30]
    data[matrix : matrix + 36] = struct.pack(">9i", *values)
    Path(path).write_bytes(bytes(data))


def truncated(path: Path, source: Path, keep: float = 0.5) -> Path:
    """Write the first part of `source`: the share `keep` of its bytes."""
    data = Path(source).read_bytes()
    Path(path).write_bytes(data[: int(len(data) * keep)])
    return Path(path)


def damaged(path: Path, source: Path, begin: float = 0.3, end: float = 0.6) -> Path:
    """Write `source` with the bytes between two shares of its length overwritten by noise."""
    data = bytearray(Path(source).read_bytes())
    first, last = int(len(data) * begin), int(len(data) * end)
    data[first:last] = np.random.default_rng(0).integers(0, 256, last - first, dtype=np.uint8).tobytes()
    Path(path).write_bytes(bytes(data))
    return Path(path)


@dataclass(frozen=True)
class Measured:
    """What a player would see and hear: onsets of flashes and clicks in seconds, by time stamps."""

    flashes: tuple[float, ...]
    clicks: tuple[float, ...]
    frame_times: np.ndarray
    first_sample: float | None
    samples: int
    audio_rate: int


def measure(source: Path | bytes) -> Measured:
    """Decode a whole file, and find the onsets of flashes (mean luma > 128) and clicks (|sample| > 0.25)."""
    handle = io.BytesIO(source) if isinstance(source, bytes) else str(source)
    times: list[float] = []
    bright: list[bool] = []
    pieces: list[tuple[float, np.ndarray]] = []
    rate = 0
    with av.open(handle, metadata_errors="ignore") as container:
        for frame in container.decode(*container.streams.video, *container.streams.audio):
            if isinstance(frame, av.VideoFrame):
                times.append(frame.time)
                bright.append(float(frame.to_ndarray(format="gray8", threads=1).mean()) > 128)
            else:
                rate = frame.sample_rate
                data = frame.to_ndarray().astype(np.float32)
                if not frame.format.is_planar:
                    data = data.reshape(-1, len(frame.layout.channels)).T
                if frame.format.name.startswith("s16"):
                    data /= 32768
                elif frame.format.name.startswith("s32"):
                    data /= 2**31
                pieces.append((frame.time, data[0]))
    order = np.argsort(times)
    stamps = np.array(times)[order]
    lit = np.array(bright)[order]
    flashes = stamps[np.flatnonzero(lit & ~np.concatenate(([False], lit[:-1])))] if len(stamps) else np.zeros(0)
    onsets: list[float] = []
    last = -1.0
    for start, samples in pieces:
        for index in np.flatnonzero(np.abs(samples) > 0.25):
            at = float(start + index / rate)
            if at - last > 0.05:
                onsets.append(at)
            last = at
    return Measured(
        tuple(flashes.tolist()),
        tuple(onsets),
        stamps,
        pieces[0][0] if pieces else None,
        sum(len(samples) for _, samples in pieces),
        rate,
    )
