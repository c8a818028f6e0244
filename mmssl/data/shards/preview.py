"""What a preview of a clip shows: frames evenly over it, the envelope of its sound, its sentences, one time axis.

`preview_clips` looks at clips, `mmssl.data.shards.preview_draw` makes the picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mmssl.clip import EncodedClip, Span, Window
from mmssl.data.decode.pyav import PyAVDecoder
from mmssl.data.media import audio_stream, open_media, pixel_aspect, quarter_turns, video_stream
from mmssl.data.shards.entry import SampleEntry
from mmssl.data.shards.index import read_index
from mmssl.data.shards.spec import expand_shards
from mmssl.data.sources import Place
from mmssl.data.subtitles import read_subtitles
from mmssl.data.worker import read_clip
from mmssl.errors import UserError

INSTANT = 0.01  # seconds: the span of a single frame
SOUND_RATE = 8000  # samples a second of what the envelope is made of
LONGEST_AT_RATE = 3600.0  # seconds; the sound of longer clips is taken at a lower rate, to bound memory
LEAST_HEIGHT, MOST_HEIGHT = 24, 160  # pixels of a frame
COLUMNS = 1176  # of the envelope


@dataclass(frozen=True)
class PreviewCue:
    """A sentence on the clip's axis; `context` marks one that is not the clip's own."""

    start: float
    end: float
    text: str
    context: bool = False


@dataclass(frozen=True)
class Preview:
    """What is known of one clip.

    Args:
        key: the sample's key.
        label: its label, or None.
        duration: seconds; 0 where nothing could be read.
        facts: size, frame rate and sound in words.
        frames: uint8 [N, H, W, 3]; N is 0 without a picture.
        frame_times: float64 [N], when each of them began.
        envelope: float32 [2, columns], least and largest sample in each part of the clip; None without sound.
        cues: sentences that touch the clip, and those around it.
        error: why the clip could not be read, or part of it; empty else.
    """

    key: str
    label: str | None = None
    duration: float = 0.0
    facts: str = ""
    frames: np.ndarray = field(default_factory=lambda: np.zeros((0, 1, 1, 3), np.uint8))
    frame_times: np.ndarray = field(default_factory=lambda: np.zeros(0))
    envelope: np.ndarray | None = None
    cues: tuple[PreviewCue, ...] = ()
    error: str = ""


def choose(shards: str | list[str], clips: int, start: int, seed: int | None) -> list[tuple[Path, SampleEntry]]:
    """The samples to look at: those from number `start` on, in the order of the index or in a drawn one.

    Raises:
        UserError: no shards, or `start` is past the last sample.
    """
    if clips < 1 or start < 0:
        raise UserError(f"clips={clips}, start={start}: at least 1 clip from number 0 on is needed")
    samples = [(path, entry) for path in expand_shards(shards) for entry in read_index(path).samples]
    if start >= len(samples):
        raise UserError(f"start={start}: there are {len(samples)} clips; the last one is number {len(samples) - 1}")
    order = np.arange(len(samples)) if seed is None else np.random.default_rng(seed).permutation(len(samples))
    return [samples[number] for number in order[start : start + clips]]


def preview_clip(path: Path, entry: SampleEntry, frames: int, width: int) -> Preview:
    """Look at one clip; what cannot be read is said in `error`, and the rest is there.

    Args:
        path: its shard.
        entry: the sample.
        frames: how many frames.
        width: pixels that a frame may be wide.
    """
    try:
        clip = read_clip(Place("preview", 0, path, entry))
    except Exception as error:  # whatever a sample's bytes bring about is shown and not raised
        return Preview(entry.key, entry.label, error=_said(error))
    label = clip.meta.get("label", entry.label)
    found: dict[str, Any] = {"key": entry.key, "label": None if label is None else str(label)}
    try:
        found["cues"] = cues_of(clip)
    except Exception as error:
        found["error"] = _said(error)
    try:
        found |= _seen_and_heard(clip, frames, width)
    except Exception as error:
        found["error"] = _said(error)
    return Preview(**found)


def _said(error: Exception) -> str:
    return f"{getattr(error, 'cause', None) or type(error).__name__}: {error}"


def _seen_and_heard(clip: EncodedClip, frames: int, width: int) -> dict[str, Any]:
    facts, shape, has_sound = _facts(clip, width)
    decoder = PyAVDecoder()
    duration = decoder.duration(clip)
    found: dict[str, Any] = {"duration": duration, "facts": facts}
    if shape is not None:
        instant = min(INSTANT, duration)
        window = Window(picture=Span(instant, 1 / instant), size=shape, views=frames)
        middles = (np.arange(frames) + 0.5) / frames * duration
        seen = decoder.decode(clip, window, middles + instant / 2)
        found["frames"] = seen.frames[:, 0].transpose(0, 2, 3, 1)
        found["frame_times"] = seen.frame_times[:, 0]
    if has_sound:
        rate = max(round(SOUND_RATE * min(1.0, LONGEST_AT_RATE / duration)), 1)
        heard = decoder.decode(clip, Window(sound=Span(duration, rate)), np.array([duration / 2]))
        if heard.has_audio:
            found["envelope"] = envelope_of(heard.audio[0])
    return found


def envelope_of(samples: np.ndarray, columns: int = COLUMNS) -> np.ndarray:
    """Float32 [2, columns]: the least and the largest sample of each of `columns` equal parts."""
    edges = np.linspace(0, len(samples), columns + 1).round().astype(int)
    parts = [samples[min(a, len(samples) - 1) : max(b, a + 1)] for a, b in pairwise(edges.tolist())]
    return np.array([[part.min() for part in parts], [part.max() for part in parts]], dtype=np.float32)


def _facts(clip: EncodedClip, width: int) -> tuple[str, tuple[int, int] | None, bool]:
    """In words what the streams are; (height, width) of the frames to draw; whether there is a sound stream."""
    words, shape = [], None
    with open_media(clip.media) as container:
        sound = audio_stream(container)
        if container.streams.video:
            stream = video_stream(container)
            frame = next(container.decode(stream), None)
            if frame is not None:
                shown = (frame.width * float(pixel_aspect(stream)), float(frame.height))
                shown = shown[::-1] if quarter_turns(frame) % 2 else shown
                scale = min(width / shown[0], MOST_HEIGHT / shown[1])
                shape = (max(round(shown[1] * scale), LEAST_HEIGHT), max(round(shown[0] * scale), LEAST_HEIGHT))
                words.append(f"{frame.width} x {frame.height} {stream.codec_context.name}")
            if stream.average_rate:
                words.append(f"{float(stream.average_rate):.4g} fps")
        if sound is not None:
            words.append(f"{sound.codec_context.name} {sound.codec_context.sample_rate / 1000:g} kHz")
    return ", ".join(words), shape, sound is not None


def cues_of(clip: EncodedClip) -> tuple[PreviewCue, ...]:
    """The clip's own cues, and those of its description's context that are not among them.

    Raises:
        UserError: the subtitles cannot be read.
    """
    own = [PreviewCue(c.start, c.end, c.text) for c in read_subtitles(clip.subtitles).cues] if clip.subtitles else []
    texts = {cue.text: cue for cue in own}
    around = []
    for cue in _context(clip.meta):
        same = texts.get(cue.text)
        if same is None or cue.end < same.start or cue.start > same.end:  # the same words at another time
            around.append(cue)
    return tuple(sorted([*own, *around], key=lambda cue: (cue.start, cue.end)))


def _context(meta: Mapping[str, Any]) -> list[PreviewCue]:
    """The context rows, ``[start, end, text]`` or a mapping with these names; others are left out."""
    rows = meta.get("context")
    found = []
    for row in rows if isinstance(rows, list) else ():
        values = [row.get(name) for name in ("start", "end", "text")] if isinstance(row, dict) else row
        if not isinstance(values, list) or len(values) != 3:
            continue
        start, end, text = values
        if isinstance(start, int | float) and isinstance(end, int | float) and isinstance(text, str):
            found.append(PreviewCue(float(start), float(end), text, context=True))
    return found
