"""Overlays of the clips of shards, or of any video file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmssl.clip import EncodedClip
from mmssl.data.decode.pyav import PyAVDecoder
from mmssl.data.media import MediaError
from mmssl.data.shards.index import expand_shards, read_index, read_members
from mmssl.errors import UserError
from mmssl.localization.maps import ClipMaps, check_head, clip_maps
from mmssl.localization.overlay import Overlay
from mmssl.localization.truth import boxes_at, has_boxes, in_clip, in_frame, presence, sound_kind
from mmssl.metrics.localization import peak_in_box, union_truth
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
    """

    key: str
    png: Path
    mp4: Path
    kind: str | None
    label: str | None
    hit: float | None


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


def clip_of_file(video: Path) -> EncodedClip:
    """A video file as one clip.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return EncodedClip(video.stem, str(video), video.read_bytes())
    except OSError as error:
        raise UserError(f"video '{video}' cannot be read ({error.strerror}); give an existing file") from error


def draw_clip(
    encoders: Encoders,
    head: Matcher,
    clip: EncodedClip,
    out: Path,
    *,
    rate: float = 4.0,
    size: int | tuple[int, int] = 96,
    device: torch.device | str = "cpu",
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

    Raises:
        UserError: the clip has no picture or no sound.
        MediaError: it cannot be decoded.
    """
    check_head(encoders, head)
    shape = (size, size) if isinstance(size, int) else size
    encoders, head = encoders.to(device).eval(), head.to(device).eval()
    maps = clip_maps(encoders, head, clip, PyAVDecoder(), rate, shape, device)
    meta, label = clip.meta, clip.meta.get("label")
    overlay = Overlay(clip.media, maps, lambda time: in_clip(meta, boxes_at(meta, time, clip.key)))
    name = re.sub(r"[^0-9A-Za-z_.-]+", "_", clip.key)
    png, mp4 = out / f"{name}.png", out / f"{name}.mp4"
    overlay.write_png(png)
    overlay.write_mp4(mp4)
    named = None if label is None else str(label)
    return Drawn(clip.key, png, mp4, sound_kind(meta, named), named, _hit(maps, meta, clip.key))


def _hit(maps: ClipMaps, meta: Mapping[str, Any], key: str) -> float | None:
    middle = maps.nearest(maps.duration / 2)
    boxes = in_frame(in_clip(meta, boxes_at(meta, float(maps.times[middle]), key)), maps.geometry, maps.size)
    if not boxes:
        return None
    return float(peak_in_box(np.asarray(maps.maps[middle][None], np.float64), union_truth(boxes)[None])[0])


def draw_all(
    encoders: Encoders,
    head: Matcher,
    clips: Iterator[EncodedClip],
    out: Path,
    *,
    limit: int | None = None,
    rate: float = 4.0,
    size: int | tuple[int, int] = 96,
    device: torch.device | str = "cpu",
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
    """
    drawn = 0
    for clip in clips:
        if limit is not None and drawn >= limit:
            return
        try:
            yield draw_clip(encoders, head, clip, out, rate=rate, size=size, device=device)
            drawn += 1
        except (MediaError, UserError) as error:
            yield clip.key, str(error)
