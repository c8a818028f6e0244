"""Checking shards: tar, index, descriptions and, on request, every clip decoded."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.error

from mmssl.data.media import MediaError, audio_stream, open_media, video_stream
from mmssl.data.shards.index import MEDIA, SampleEntry, index_path, read_index, read_members
from mmssl.data.shards.spec import expand_shards
from mmssl.data.subtitles import read_subtitles
from mmssl.errors import UserError

FURTHEST_START = 0.005


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in a shard; `key` is None where the shard as a whole is meant."""

    shard: Path
    key: str | None
    message: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was looked at and what is wrong with it."""

    shards: int
    clips: int
    decoded: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def check_shards(
    spec: str | list[str], decode: bool = False, on_progress: Callable[[int, int], None] | None = None
) -> CheckReport:
    """Read every shard through: tar headers against the index, descriptions, subtitles; with `decode` all clips.

    `on_progress` gets (shards done, shards).

    Raises:
        UserError: no shards are named, or one is missing.
    """
    paths = expand_shards(spec)
    problems: list[Problem] = []
    keys: dict[str, Path] = {}
    clips = decoded = 0
    for number, path in enumerate(paths):
        try:
            index = read_index(path, store=False)
        except UserError as error:
            problems.append(Problem(path, None, str(error)))
            continue
        problems += _check_tar(path, index.samples)
        if not index_path(path).exists() and path.with_name("build.json").exists():  # foreign tars need none
            problems.append(Problem(path, None, "no index beside it; it is made when the shard is next read"))
        for entry in index.samples:
            if entry.key in keys:
                problems.append(Problem(path, entry.key, f"the key is also in '{keys[entry.key].name}'"))
            keys[entry.key] = path
            try:
                messages = check_members(read_members(path, entry), decode)
                decoded += decode
            except UserError as error:
                messages = [str(error)]
            problems += [Problem(path, entry.key, message) for message in messages]
        clips += len(index.samples)
        if on_progress is not None:
            on_progress(number + 1, len(paths))
    return CheckReport(len(paths), clips, decoded, tuple(problems))


def _check_tar(path: Path, samples: list[SampleEntry]) -> list[Problem]:
    """Compare the headers of the tar with its index, and see that it ends as a tar does."""
    problems = []
    expected = {f"{entry.key}.{name}": place for entry in samples for name, place in entry.members.items()}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                place = expected.pop(member.name, None)
                if place is not None and place != (member.offset_data, member.size):
                    problems.append(Problem(path, None, f"the index has '{member.name}' at another place"))
    except tarfile.TarError as error:
        problems.append(Problem(path, None, f"the tar cannot be read through ({error})"))
    problems += [Problem(path, None, f"the index has '{name}', the tar has not") for name in expected]
    with open(path, "rb") as file:
        file.seek(-1024, io.SEEK_END)
        if file.read().strip(b"\0"):
            problems.append(Problem(path, None, "the tar has no end mark: it was cut short, or is still written"))
    return problems


def check_members(members: dict[str, bytes], decode: bool) -> list[str]:
    """Return what is wrong with one sample of ours; a foreign one without `json` is only decoded."""
    messages = []
    media = next((members[name] for name in MEDIA if name in members), None)
    if not media:
        messages.append("there is no video in it")
    meta: dict[str, Any] = {}
    if "json" in members:
        try:
            meta = json.loads(members["json"])
        except ValueError as error:
            messages.append(f"the json is not valid ({error})")
    if "vtt" in members:
        try:
            cues = read_subtitles(members["vtt"]).cues
            if "n_sentences" in meta and len(cues) != meta["n_sentences"]:
                messages.append(f"the vtt has {len(cues)} cues, the json says {meta['n_sentences']}")
        except UserError as error:
            messages.append(f"the vtt cannot be read ({error})")
    elif meta.get("n_sentences"):
        messages.append(f"the json says {meta['n_sentences']} sentences, there is no vtt")
    if media and decode:
        messages += _check_decoding(media, meta)
    return messages


def _check_decoding(media: bytes, meta: dict[str, Any]) -> list[str]:
    messages = []
    frames, sizes, first = 0, set(), None
    samples, first_sound = 0, None
    try:
        with open_media(media) as container:
            video, audio = video_stream(container), audio_stream(container)
            for frame in container.decode(*([video] if audio is None else [video, audio])):
                if isinstance(frame, av.VideoFrame):
                    frames += 1
                    sizes.add((frame.width, frame.height))
                    first = frame.time if first is None else first
                else:
                    samples += frame.samples
                    first_sound = frame.time if first_sound is None else first_sound
    except (MediaError, av.error.FFmpegError) as error:
        return [f"the video cannot be decoded ({error})"]
    if "frames" in meta and frames != meta["frames"]:
        messages.append(f"{frames} frames can be decoded, the json says {meta['frames']}")
    if "width" in meta and sizes != {(meta["width"], meta["height"])}:
        messages.append(f"the pictures have the sizes {sorted(sizes)}, the json says another")
    if "has_audio" in meta and (samples > 0) != meta["has_audio"]:
        messages.append(f"{samples} samples of sound can be decoded, the json says has_audio={meta['has_audio']}")
    if meta.get("has_audio") and samples < meta["duration"] * meta["audio_rate"] - 1:
        messages.append(f"the sound has {samples} samples, fewer than {meta['duration']} s need")
    for name, start in (("picture", first), ("sound", first_sound)):
        if meta and start is not None and abs(start) > FURTHEST_START:
            messages.append(f"the {name} starts at {start:.3f} s, not at 0")
    return messages
