"""Writes a corpus: videos, subtitles and a manifest with the truth, deterministic by (preset, seed, split, index)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import numpy as np

from mmssl import __version__
from mmssl.data.soundstage.clip import clip_key, full_truth, render_clip
from mmssl.data.soundstage.encode import encode_mp4, encode_vtt
from mmssl.data.soundstage.layout import draw_layout
from mmssl.data.soundstage.preset import check_split, find_preset
from mmssl.errors import UserError


@dataclass(frozen=True)
class Summary:
    """What a run did: clips in the corpus, clips rendered now, its manifest."""

    clips: int
    rendered: int
    manifest: Path


def _write(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    aside.write_bytes(data)
    aside.replace(path)


def _render_one(out: str, preset: str, seed: int, split: str, index: int, dense: bool) -> dict[str, Any]:
    """Render and encode one clip and return its line of the manifest.

    The video is written last, so that a video says that all of the clip is there.
    """
    knobs = find_preset(preset)
    clip = render_clip(preset, seed, split, index, dense)
    folder = Path(out)
    if clip.dense is not None:
        with open(folder / "truth" / f".{clip.key}.partial", "wb") as file:
            np.savez_compressed(
                file,
                depth=clip.dense.depth.astype(np.float16),
                normals=np.round(clip.dense.normals * 127).astype(np.int8),
                instances=clip.dense.instances,
                flow=clip.dense.flow.astype(np.float16),
                camera_position=np.array(clip.truth["camera_position"]),
                camera_rotation=np.array(clip.truth["camera_rotation"]).reshape(-1, 3, 3),
            )
        (folder / "truth" / f".{clip.key}.partial").replace(folder / "truth" / f"{clip.key}.npz")
    _write(folder / "videos" / f"{clip.key}.vtt", encode_vtt(clip.cues).encode())
    video = encode_mp4(clip.frames, clip.sound, knobs.rate, knobs.sample_rate)
    _write(folder / "videos" / f"{clip.key}.mp4", video)
    return _manifest_row(clip.key, split, clip.truth)


def _manifest_row(key: str, split: str, truth: dict[str, Any]) -> dict[str, Any]:
    return {
        "path": f"videos/{key}.mp4",
        "key": key,
        "label": truth["action"],
        "split": split,
        "subtitles": f"videos/{key}.vtt",
        "truth": truth,
    }


def _claim(out: Path, about: dict[str, Any]) -> None:
    """Mark the folder as this corpus's, or refuse one of another."""
    mark = out / "soundstage.json"
    if mark.is_file():
        there = json.loads(mark.read_text())
        for name in ("preset", "version", "seed"):
            if there.get(name) != about[name]:
                raise UserError(
                    f"{out} holds a Soundstage corpus of {name} {there.get(name)!r}, asked for {about[name]!r}; "
                    "give another folder"
                )
        return
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty and holds no Soundstage corpus; give a new folder")
    (out / "videos").mkdir(parents=True, exist_ok=True)
    _write(mark, json.dumps(about, indent=2).encode())


def generate(
    out: Path,
    clips: int,
    seed: int,
    preset: str = "demo",
    split: str = "train",
    processes: int | None = None,
    dense_truth: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """Write `clips` clips of a split into the folder `out`; what is there already stays.

    Args:
        out: folder of the corpus; further splits of the same preset and seed go into the same folder.
        clips: clips of the split.
        seed: any integer; a split is part of every scene's seed, so splits never share a scene.
        preset: name out of `PRESETS`.
        split: train, val or test.
        processes: how many render at a time; all cores when None.
        dense_truth: write `truth/{key}.npz` too: depth, normals, instances, flow in pixels per second, camera.
        on_progress: called with (clips done, clips to do).

    Raises:
        UserError: no such preset or split, no clips, or the folder holds something else.
    """
    knobs, split = find_preset(preset), check_split(split)
    if clips < 1:
        raise UserError(f"--clips must be at least 1, got {clips}")
    versions = {"mmssl": __version__, "av": av.__version__, "numpy": np.__version__}
    _claim(
        out, {"preset": preset, "version": knobs.version, "seed": seed, "knobs": knobs.as_dict(), "versions": versions}
    )
    if dense_truth:
        (out / "truth").mkdir(exist_ok=True)

    def there(index: int) -> bool:
        key = clip_key(preset, seed, split, index)
        return (out / "videos" / f"{key}.mp4").is_file() and (
            not dense_truth or (out / "truth" / f"{key}.npz").is_file()
        )

    missing = [index for index in range(clips) if not there(index)]
    fresh = _render(out, preset, seed, split, missing, dense_truth, processes, on_progress) if missing else []
    manifest = out / "manifest.jsonl"
    rows = {row["key"]: row for row in _read_rows(manifest)} | {row["key"]: row for row in fresh}
    for index in range(clips):
        # A run that was stopped has left videos without a line; what they show is known without rendering them.
        key = clip_key(preset, seed, split, index)
        if key not in rows:
            rows[key] = _manifest_row(key, split, full_truth(draw_layout(knobs, seed, split, index)))
    lines = [json.dumps(rows[key]) for key in sorted(rows)]
    _write(manifest, ("\n".join(lines) + "\n").encode())
    return Summary(clips=len(rows), rendered=len(missing), manifest=manifest)


def _read_rows(manifest: Path) -> list[dict[str, Any]]:
    if not manifest.is_file():
        return []
    return [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]


def _render(
    out: Path,
    preset: str,
    seed: int,
    split: str,
    indices: list[int],
    dense: bool,
    processes: int | None,
    on_progress: Callable[[int, int], None] | None,
) -> list[dict[str, Any]]:
    """Render the clips of the indices and return their lines of the manifest."""
    count = min(processes or os.cpu_count() or 1, len(indices))
    rows: list[dict[str, Any]] = []

    def keep(row: dict[str, Any]) -> None:
        rows.append(row)
        if on_progress is not None:
            on_progress(len(rows), len(indices))

    if count <= 1:
        for index in indices:
            keep(_render_one(str(out), preset, seed, split, index, dense))
        return rows
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        waiting: list[Future[dict[str, Any]]] = [
            pool.submit(_render_one, str(out), preset, seed, split, index, dense) for index in indices
        ]
        try:
            for future in as_completed(waiting):
                keep(future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return rows
