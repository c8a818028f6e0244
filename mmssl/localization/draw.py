"""Overlays of the clips of shards, or of any video file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmssl.clip import EncodedClip
from mmssl.data.media import MediaError
from mmssl.data.shards.index import expand_shards, read_index, read_members
from mmssl.errors import UserError
from mmssl.localization.consensus import boxes_by_annotator, judged_truth
from mmssl.localization.film import Film
from mmssl.localization.maps import ClipMaps, check_head, clip_maps
from mmssl.localization.overlay import Overlay
from mmssl.localization.truth import Box, has_boxes, presence, sound_kind
from mmssl.localization.watch import Watched, watched, write_npz
from mmssl.metrics.localization import peak_in_box
from mmssl.nn.encoders import Encoders
from mmssl.nn.matcher import Matcher


@dataclass(frozen=True)
class Drawn:
    """An overlay on the disk.

    Args:
        key: the clip's key, or the file's name.
        png: the middle frame.
        mp4: the whole clip with sound.
        kind: what sounds, where it is known.
        label: the clip's label, where it has one.
        hit: whether the peak of the middle map lies in the true box (a share where peaks are equal); None without box.
        watched: what a page needs to show the clip with its maps, where that was wanted.
        faults: sentences about what could not be read of the clip.
    """

    key: str
    png: Path
    mp4: Path
    kind: str | None
    label: str | None
    hit: float | None
    watched: Watched | None = None
    faults: tuple[str, ...] = ()


def clips_of(shards: str) -> Iterator[EncodedClip]:
    """The clips of the shards with picture and sound, in their order."""
    for path in expand_shards(shards):
        for entry in read_index(path).samples:
            if entry.has_audio is False:
                continue
            members = read_members(path, entry, [name for name in (entry.media, "json") if name in entry.members])
            meta = json.loads(members["json"]) if "json" in members else {}
            yield EncodedClip(entry.key, str(path), members[entry.media], meta=meta)


def any_boxes(shards: str) -> bool:
    """Whether the description of any clip of the shards holds boxes; no picture is read."""
    for path in expand_shards(shards):
        for entry in read_index(path).samples:
            if "json" in entry.members and has_boxes(json.loads(read_members(path, entry, ["json"])["json"])):
                return True
    return False


def any_absent(shards: str) -> bool:
    """Whether the truth of any clip says that its source is silent or outside the picture; no picture is read."""
    for path in expand_shards(shards):
        for entry in read_index(path).samples:
            if "json" in entry.members:
                meta = json.loads(read_members(path, entry, ["json"])["json"])
                if presence(meta) in ("off_screen", "silent"):
                    return True
    return False


def clip_of_file(video: Path) -> Film:
    """A video file as one clip, which stays on the disk.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with open(video, "rb"):
            return Film(video.stem, str(video), video)
    except OSError as error:
        raise UserError(f"video '{video}' cannot be read ({error.strerror}); give an existing file") from error


def draw_clip(
    encoders: Encoders,
    head: Matcher,
    clip: EncodedClip | Film,
    out: Path,
    *,
    rate: float = 4.0,
    size: int | tuple[int, int] = 96,
    device: torch.device | str = "cpu",
    watch: bool = False,
    progress: Callable[[str, float], None] = lambda *_: None,
) -> Drawn:
    """Write `{key}.png` and `{key}.mp4` of one clip into an existing folder.

    Args:
        encoders: the bundle.
        head: the head that a task exported.
        clip: the clip.
        out: the folder.
        rate: maps a second; between them the map moves in proportion.
        size: (height, width) that the model sees.
        device: where the encoders run.
        watch: also write `{key}.npz`, the maps, and `media/{key}`, the clip as browsers play it.
        progress: is told what is being made ("maps", "film", "page") and which share of it is done.

    Raises:
        UserError: the clip has no picture or no sound, or its own file would be written over.
        MediaError: it cannot be decoded.
    """
    check_head(encoders, head)
    name = re.sub(r"[^0-9A-Za-z_.-]+", "_", clip.key)
    png, mp4, npz = (out / f"{name}.{suffix}" for suffix in ("png", "mp4", "npz"))
    if isinstance(clip.media, Path) and _would_go(clip.media.resolve(), out.resolve(), name):
        raise UserError(f"'{clip.media}' would be written over by what is made of it; give another folder than '{out}'")
    shape = (size, size) if isinstance(size, int) else size
    encoders, head = encoders.to(device).eval(), head.to(device).eval()
    maps = clip_maps(encoders, head, clip, rate, shape, device, out, lambda share: progress("maps", share))
    meta, label = clip.meta, clip.meta.get("label")

    def boxes(time: float) -> list[Box]:
        return [box for group in boxes_by_annotator(meta, time, clip.key) for box in group]

    overlay = Overlay(clip.media, maps, boxes)
    overlay.write_mp4(mp4, png=png, progress=lambda share: progress("film", share))
    seen = None
    if watch:
        progress("page", 0.0)
        write_npz(npz, maps, clip.key, Path(clip.source).name)
        seen = watched(clip.media, maps, boxes, out / "media" / name, npz)
        progress("page", 1.0)
    named = None if label is None else str(label)
    return Drawn(clip.key, png, mp4, sound_kind(meta, named), named, _hit(maps, meta, clip.key), seen, maps.faults)


def _would_go(source: Path, out: Path, name: str) -> bool:
    """Whether a film is where its overlay, or its copy for browsers, is written."""
    return source == out / f"{name}.mp4" or (source.parent == out / "media" and source.stem == name)


def _hit(maps: ClipMaps, meta: Mapping[str, Any], key: str) -> float | None:
    middle = maps.nearest(maps.duration / 2)
    truth = judged_truth(meta, float(maps.times[middle]), key, maps.geometry, maps.size)
    if truth is None:
        return None
    return float(peak_in_box(np.asarray(maps.maps[middle][None], np.float64), truth[0][None])[0])


def draw_all(
    encoders: Encoders,
    head: Matcher,
    clips: Iterator[EncodedClip | Film],
    out: Path,
    *,
    limit: int | None = None,
    rate: float = 4.0,
    size: int | tuple[int, int] = 96,
    device: torch.device | str = "cpu",
    watch: bool = False,
    progress: Callable[[str, float], None] = lambda *_: None,
) -> Iterator[Drawn | tuple[str, str]]:
    """Draw clip after clip; yields what was drawn, or (key, cause) of a clip that could not be.

    Args:
        encoders: the bundle.
        head: the head that a task exported.
        clips: the clips.
        out: an existing folder.
        limit: how many at most.
        rate: maps a second.
        size: (height, width) that the model sees.
        device: where the encoders run.
        watch: see `draw_clip`.
        progress: see `draw_clip`.
    """
    drawn = 0
    for clip in clips:
        if limit is not None and drawn >= limit:
            return
        try:
            yield draw_clip(
                encoders, head, clip, out, rate=rate, size=size, device=device, watch=watch, progress=progress
            )
            drawn += 1
        except (MediaError, UserError) as error:
            yield clip.key, str(error)
