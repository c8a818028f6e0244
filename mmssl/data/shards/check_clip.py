"""What is wrong with one clip: its members against each other, its bytes decoded, the stream's decoder against both.

A clip of a foreign shard is held only to what can be known of it: that it decodes, that its time stamps make sense,
that the stream gets from it what lies in it. What is odd there without being wrong is a note.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import av.error
import numpy as np

from mmssl.clip import Clip, EncodedClip, Span, Window
from mmssl.data.decode.base import Decoder
from mmssl.data.media import MediaError
from mmssl.data.shards.check_plain import PlainReading, read_plainly, sound_plainly
from mmssl.data.shards.entry import MEDIA
from mmssl.data.subtitles import read_subtitles
from mmssl.errors import UserError

FURTHEST_START = 0.005  # seconds from 0 at which picture and sound of our clips may begin
LARGEST_MISMATCH = 0.2  # seconds between the ends of picture and sound, or of what is said and what is there
STAMP_TOLERANCE = 0.002  # seconds between two readings of a time stamp: Matroska rounds to milliseconds
SOUND_TOLERANCE = 0.03  # root mean square: codecs fill noise in differently after a seek


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a clip: a short cause to count by, and the rest in words.

    A `note` is odd and worth knowing, and does not make the shard a bad one.
    """

    cause: str
    message: str
    note: bool = False


def check_members(
    members: Mapping[str, bytes], decode: bool, key: str | None = None, built: bool = False
) -> list[Fault]:
    """What is wrong with a sample's members; with `decode` its media is read through.

    Args:
        members: bytes by extension.
        decode: whether to decode.
        key: the sample's key, which the description of our own shards repeats.
        built: whether the shard is one of ours, in which every clip has a description.
    """
    faults, meta = check_description(members, key, built)
    media = next((members[name] for name in MEDIA if name in members), None)
    if media and decode:
        faults += check_media(media, meta)[0]
    return faults


def check_description(
    members: Mapping[str, bytes], key: str | None = None, built: bool = False
) -> tuple[list[Fault], dict[str, Any]]:
    """Faults of description and subtitles, and the description (empty where there is none that can be read)."""
    faults = []
    if not any(members.get(name) for name in MEDIA):
        faults.append(Fault("missing member", "there is no video in it"))
    meta: dict[str, Any] = {}
    if "json" in members:
        try:
            found = json.loads(members["json"])
            if isinstance(found, dict):
                meta = found
            else:
                faults.append(Fault("description", "the json is no object"))
        except ValueError as error:
            faults.append(Fault("description", f"the json is not valid ({error})"))
    elif built:
        faults.append(Fault("missing member", "there is no json in it"))
    if key is not None and is_ours(meta) and meta.get("key", key) != key:
        faults.append(Fault("description", f"the json is that of '{meta['key']}'"))
    said = meta.get("n_sentences") if is_ours(meta) else None
    if "vtt" in members:
        try:
            cues = read_subtitles(members["vtt"]).cues
            if said is not None and len(cues) != said:
                faults.append(Fault("subtitles", f"the vtt has {len(cues)} cues, the json says {said}"))
        except UserError as error:
            faults.append(Fault("subtitles", f"the vtt cannot be read ({error})"))
    elif said:
        faults.append(Fault("missing member", f"the json says {said} sentences, there is no vtt"))
    return faults, meta


def is_ours(meta: Mapping[str, Any]) -> bool:
    """Whether a description is one that `shards build` writes: names such as "frames" may mean anything elsewhere."""
    return {"frames", "has_audio", "audio_rate", "original"} <= meta.keys()


def check_media(
    media: bytes, meta: Mapping[str, Any], tick: Callable[[], None] = lambda: None
) -> tuple[list[Fault], PlainReading | None]:
    """Decode a clip plainly; the faults, and what was read (None where that failed)."""
    try:
        plain = read_plainly(media, tick)
    except MediaError as error:
        return [Fault(error.cause, f"the video cannot be decoded ({error})")], None
    except (av.error.FFmpegError, UnicodeDecodeError, MemoryError) as error:
        return [Fault("undecodable", f"the video cannot be decoded ({type(error).__name__}: {error})")], None
    if not plain.stamps and not plain.samples:
        return [Fault("undecodable", "neither a picture nor sound can be decoded")], None
    faults = _check_stamps(plain, note=not is_ours(meta))
    faults += _check_against_description(plain, meta) if is_ours(meta) else _check_foreign(plain, meta)
    return faults, plain


def _check_stamps(plain: PlainReading, note: bool) -> list[Fault]:
    faults = []
    if plain.corrupt:
        faults.append(Fault("damaged", f"{plain.corrupt} pictures are damaged"))
    if plain.unstamped:
        faults.append(Fault("time stamps", f"{plain.unstamped} frames have no time stamp"))
    if plain.steps_back:
        message = f"{plain.steps_back} of {len(plain.stamps)} pictures are not later than those before: not shown"
        faults.append(Fault("time stamps", message, note))
    if plain.overlaps:
        faults.append(Fault("time stamps", f"the sound steps back in time {plain.overlaps} times", note))
    return faults


def _check_against_description(plain: PlainReading, meta: Mapping[str, Any]) -> list[Fault]:
    faults = []
    frames, duration = len(plain.stamps), float(meta["duration"])
    if frames != meta["frames"]:
        faults.append(Fault("frame count", f"{frames} frames can be decoded, the json says {meta['frames']}"))
    if plain.sizes != {(meta["width"], meta["height"])}:
        faults.append(Fault("frame size", f"the pictures have the sizes {sorted(plain.sizes)}, the json says another"))
    if (plain.samples > 0) != meta["has_audio"]:
        message = f"{plain.samples} samples of sound can be decoded, the json says has_audio={meta['has_audio']}"
        faults.append(Fault("sound", message))
    elif meta["has_audio"] and plain.samples < duration * meta["audio_rate"] - 1:
        message = f"the sound has {plain.samples} samples, fewer than {duration} s need"
        faults.append(Fault("sound coverage", message))
    if plain.gaps:
        faults.append(Fault("sound coverage", f"{plain.gaps:.2f} s of sound are missing in it"))
    if plain.picture_end is not None and abs(plain.picture_end - duration) > LARGEST_MISMATCH:
        faults.append(Fault("duration", f"the picture ends at {plain.picture_end:.2f} s, the json says {duration} s"))
    first = (("picture", plain.stamps[0] if plain.stamps else None), ("sound", plain.sound_start))
    for name, start in first:
        if start is not None and abs(start + plain.zero) > FURTHEST_START:
            faults.append(Fault("start", f"the {name} starts at {start + plain.zero:.3f} s, not at 0"))
    return [*faults, *_check_ends(plain, note=False)]


def _check_foreign(plain: PlainReading, meta: Mapping[str, Any]) -> list[Fault]:
    faults = _check_ends(plain, note=True)
    said = meta.get("duration")
    end = plain.picture_end if plain.picture_end is not None else plain.sound_end
    if isinstance(said, int | float) and said > 0 and end is not None and abs(end - said) > LARGEST_MISMATCH:
        message = f"it ends at {end:.2f} s, the json says {said} s, by which the stream places its windows"
        faults.append(Fault("duration", message))
    if plain.stamps and plain.sound_start is not None and abs(plain.stamps[0] - plain.sound_start) > LARGEST_MISMATCH:
        message = f"the picture starts at {plain.stamps[0]:.2f} s, the sound at {plain.sound_start:.2f} s"
        faults.append(Fault("start", message, note=True))
    if plain.gaps:
        faults.append(Fault("sound coverage", f"{plain.gaps:.2f} s of sound are missing in it", note=True))
    return faults


def _check_ends(plain: PlainReading, note: bool) -> list[Fault]:
    if plain.picture_end is None or plain.sound_end is None:
        return []
    if abs(plain.picture_end - plain.sound_end) <= LARGEST_MISMATCH:
        return []
    message = f"the picture ends at {plain.picture_end:.2f} s, the sound at {plain.sound_end:.2f} s"
    return [Fault("length mismatch", message, note)]


def check_decoder(clip: EncodedClip, plain: PlainReading, decoder: Decoder) -> list[Fault]:
    """Decode three windows (beginning, middle, end) as the stream does, and compare them with the plain reading."""
    try:
        duration = decoder.duration(clip)
        seconds = min(1.0, duration)
        window = Window(
            picture=Span(seconds, max(8.0, 1 / seconds)) if plain.stamps else None,
            sound=Span(seconds, plain.rate) if plain.rate else None,
            text=True,
            size=(32, 32),
            views=3,
        )
        anchors = np.array([0.0, duration / 2, duration])
        decoded = decoder.decode(clip, window, anchors)
    except MediaError as error:
        return [Fault("decoder", f"the decoder '{decoder.name}' fails: {error.cause} ({error})")]
    except Exception as error:  # any way in which a decoder fails is what is looked for
        return [Fault("decoder", f"the decoder '{decoder.name}' fails: {type(error).__name__} ({error})")]
    faults = []
    if clip.packets is not None and decoded.fallback:
        message = "its packet table does not hold, the stream reads it through the demuxer; run 'mmssl shards index'"
        faults.append(Fault("packet table", message, note=True))
    if plain.stamps:
        wrong = np.abs(decoded.frame_times - plain.on_screen(decoded.wanted_times)) > STAMP_TOLERANCE
        if wrong.any():
            at = float(decoded.wanted_times[wrong][0])
            message = (
                f"the decoder '{decoder.name}' gives another picture at {at:.3f} s ({int(wrong.sum())} of {wrong.size})"
            )
            faults.append(Fault("decoder", message))
    if window.sounds:
        faults += _check_sound(clip, decoded, window, decoder)
    return faults


def _check_sound(clip: EncodedClip, decoded: Clip, window: Window, decoder: Decoder) -> list[Fault]:
    grids = [window.sound_grid(anchor, decoded.duration) for anchor in decoded.anchors]
    stretches = sound_plainly(clip.media, window.sound_rate, grids)
    if not decoded.has_audio and any(stretch.any() for stretch in stretches):
        return [Fault("decoder", f"the decoder '{decoder.name}' gives no sound where there is some")]
    for (first, _), there, heard in zip(grids, stretches, decoded.audio, strict=True):
        loud = float(np.sqrt((there.astype(np.float64) ** 2).mean()))
        apart = float(np.sqrt(((there - heard).astype(np.float64) ** 2).mean()))
        if apart > SOUND_TOLERANCE + 0.1 * loud:
            begin = first / window.sound_rate
            message = f"the decoder '{decoder.name}' gives other sound from {begin:.3f} s on (apart by {apart:.3f})"
            return [Fault("decoder", message)]
    return []
