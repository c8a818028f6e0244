"""A report's content as a real run gives it, and one whose every word is hostile; clips are real mp4 with sound."""

from __future__ import annotations

import dataclasses
import functools
import io
import math

import av
import numpy as np

from mmssl.report import (
    ActionProbe,
    Bars,
    Localization,
    LocalizationRow,
    NeighbourRow,
    Overlay,
    PretextRow,
    ProbeScore,
    ReportContent,
    Spectrum,
    Stage,
    Strip,
    SubtitleExample,
)

ACTIONS = ("bounce", "collide", "orbit", "roll", "shake", "slide", "spin", "swing", "topple", "approach")
MATERIALS = ("wood", "steel", "glass", "rubber", "stone", "ceramic", "brass", "cork")
TASKS = {
    "av_localization": ("accuracy", 1 / 32, 0.81, "which sound belongs to the picture, and where in it"),
    "av_sync": ("accuracy", 0.5, 0.862, "whether picture and sound run in step"),
    "order_prediction": ("accuracy", 1 / 12, 0.744, "the order of four shuffled frames, of 12"),
    "rotation": ("accuracy", 0.25, 0.972, "by how many quarter turns a frame was turned"),
    "subtitle_matching": ("recall@1", 1 / 64, 0.31, "which sentences were spoken around the clip"),
}
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;\x00\ud800${x}$|`**]](javascript:alert(3))"


def scene(seed: int, frames: int, size: int = 96) -> np.ndarray:
    """Moving discs over a textured ground, uint8 [T, H, W, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    ground = 90 + 30 * np.sin(x / rng.uniform(4, 12) + y / rng.uniform(5, 15)) + rng.normal(0, 4, (size, size))
    base = np.stack([ground * c for c in rng.uniform(0.7, 1.2, 3)], axis=-1)
    discs = [
        (rng.uniform(20, 76, 2), rng.uniform(-30, 30, 2), rng.uniform(8, 15), rng.uniform(40, 255, 3)) for _ in range(4)
    ]
    out = np.empty((frames, size, size, 3), np.uint8)
    for t in range(frames):
        picture = base.copy()
        for (cx, cy), (vx, vy), r, colour in discs:
            s = math.sin(2 * math.pi * t / max(frames, 8))
            inside = (x - cx - vx * s) ** 2 + (y - cy - vy * s) ** 2 < r * r
            picture[inside] = colour * (1 - 0.004 * ((x - cx) ** 2 + (y - cy) ** 2)[inside, None]).clip(0.5, 1)
        out[t] = picture.clip(0, 255)
    return out


def overlaid(frames: np.ndarray, seed: int) -> np.ndarray:
    """The frames with a warm blob and a box drawn on them."""
    rng = np.random.default_rng(seed)
    size = frames.shape[1]
    y, x = np.mgrid[:size, :size]
    cx, cy = rng.uniform(25, 70, 2)
    heat = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 200)[None, :, :, None]
    out = frames * (1 - 0.6 * heat) + np.array([255, 90, 0]) * 0.6 * heat
    a, b = int(cy) - 12, int(cx) - 12
    out[:, [a, a + 24], b : b + 25] = 255
    out[:, a : a + 25, [b, b + 24]] = 255
    return out.astype(np.uint8)


def mp4(frames: np.ndarray, fps: int = 12, rate: int = 16000) -> bytes:
    """Frames [T, H, W, 3] with a tone, as H.264 and AAC in mp4."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=fps, options={"preset": "veryfast", "crf": "28"})
        video.width, video.height, video.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        audio = container.add_stream("aac", rate=rate, layout="mono")
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        wave = 0.2 * np.sin(np.arange(len(frames) * rate // fps) * 2 * math.pi * 440 / rate).astype(np.float32)
        for i in range(0, len(wave), 1024):
            piece = av.AudioFrame.from_ndarray(wave[None, i : i + 1024], format="fltp", layout="mono")
            piece.sample_rate, piece.pts = rate, i
            container.mux(audio.encode(piece))
        container.mux(video.encode())
        container.mux(audio.encode())
    return out.getvalue()


def metrics(steps: int = 800) -> list[dict[str, object]]:
    """Rows of a run: losses falling, scores rising, a monitor."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for step in range(10, steps + 1, 10):
        row: dict[str, object] = {"event": "step", "step": step}
        for i, (task, (_, floor, best, _)) in enumerate(TASKS.items()):
            learned = 1 - math.exp(-step / (90 + 40 * i))
            row[f"{task}/loss"] = (3.5 - 0.3 * i) * (1 - 0.75 * learned) + rng.normal(0, 0.08)
            row[f"{task}/accuracy"] = floor + (best - floor) * learned + rng.normal(0, 0.02)
        row["loss"] = sum(float(row[f"{t}/loss"]) for t in TASKS)  # type: ignore[arg-type]
        row["clips_per_second"] = 78 + rng.normal(0, 4)
        row["data_wait"] = max(0.0, 0.04 + rng.normal(0, 0.015))
        rows.append(row)
        if step % 100 == 0:
            for i, (task, (name, floor, best, _)) in enumerate(TASKS.items()):
                score = floor + (best - floor) * (1 - math.exp(-step / (90 + 40 * i)))
                rows.append({"event": "heldout", "step": step, "task": task, "score_name": name, "score": score,
                             "floor": floor, "ceiling": 1.0,
                             "ablated": floor + rng.normal(0, 0.008), "count": 600})  # fmt: skip
            grown = 1 - math.exp(-step / 200)
            watched: dict[str, object] = {"event": "monitor", "step": step}
            for i, encoder in enumerate(("video", "audio", "image")):
                watched |= {f"{encoder}/std": 0.25 + (0.65 - 0.1 * i) * grown, f"{encoder}/samples": 256,
                            f"{encoder}/effective_rank": 5 + (40 - 8 * i) * grown,
                            f"{encoder}/effective_rank_uncentred": 3 + 30 * grown,
                            f"{encoder}/gradient/av_sync": 0.3 / (1 + i),
                            f"{encoder}/gradient/rotation": 0.05}  # fmt: skip
            rows.append(watched)
    rows.append({"event": "warning", "step": 100, "text": "audio: effective rank 6.1 of 128"})
    counted = {"samples": 32 * steps, "decoder_calls": 32 * steps, "failed: truncated file": 2}
    rows.append({"event": "end", "step": steps, "counters": counted})
    return rows


def strips(seed: int, label: str, similarity: float | None = None) -> Strip:
    return Strip(f"soundstage_{seed:05d}", scene(seed, 4), label, similarity)


@functools.cache
def full() -> ReportContent:
    """Everything a demo measures; one number misses what is asked of it."""
    rng = np.random.default_rng(1)
    overlays = []
    for i in range(8):
        frames = overlaid(scene(i, 36), i)
        overlays.append(
            Overlay(
                f"soundstage_{i:05d}",
                frames[12],
                mp4(frames),
                MATERIALS[i % 8],
                ACTIONS[i % 10],
                i % 4 != 3,
                {"cIoU": 0.2 + 0.05 * i, "similarity": 0.61 - 0.03 * i},
            )
        )
    neighbours = []
    for i in range(4):
        near = tuple(strips(50 + 5 * i + j, ACTIONS[i if j != 3 else i + 2], 0.93 - 0.03 * j) for j in range(5))
        neighbours.append(NeighbourRow(strips(40 + i, ACTIONS[i]), near))
    falling = np.exp(-np.arange(64) / 14.0)
    confusion = np.eye(10) * 21 + rng.integers(0, 2, (10, 10))
    return ReportContent(
        title="mmssl demo: five pretext tasks on one decode",
        subtitle="Soundstage demo v1: 1,200 clips of 3 s, 96 × 96; 820 steps of 32 clips, 2 CPU cores, no label.",
        bars=Bars(),
        stages=(
            Stage("soundstage", 96.4, 100), Stage("shards", 41.0, 60), Stage("pretraining", 334.2, 330),
            Stage("evaluation", 88.0, 90), Stage("localization and report", 47.9, 60),
        ),
        metrics=metrics(),
        pretext=tuple(
            PretextRow(task, name, best, floor, 1.0, floor + 0.004, 600, asks=asks)
            for task, (name, floor, best, asks) in TASKS.items()
        ),
        action=ActionProbe(
            ProbeScore(0.861, 0.011, (0.852, 0.873, 0.858)), ProbeScore(0.532, 0.021, (0.51, 0.551, 0.535)), 0.1,
            ProbeScore(0.742, 0.009, (0.735, 0.752, 0.739)), ProbeScore(0.401, 0.018, (0.382, 0.418, 0.403)),
            (("linear probe, motion energy", ProbeScore(0.461, 0.0, (0.461,))),), (0.29, 0.371),
            "action-linear-v1: one centre view, L2 chosen on a fifth of train", 240, ACTIONS, confusion,
        ),
        localization=Localization(
            (
                LocalizationRow("model", 0.728, 0.312, 0.334), LocalizationRow("shuffled_sound", 0.344, 0.151, 0.221),
                LocalizationRow("motion_saliency", 0.465, 0.204, 0.26),
                LocalizationRow("centre_prior", 0.092, 0.118, 0.201),
                LocalizationRow("whole_frame", None, 0.0, 0.051), LocalizationRow("random_map", 0.041, 0.0, 0.084),
            ),
            240, "map of the middle frame, median threshold",
        ),
        spectra=(
            Spectrum("video", 30 * falling, 0.89, 44.1, 128, 30 * np.exp(-np.arange(64) / 4.0)),
            Spectrum("audio", 20 * falling**1.6, 0.94, 27.3, 128, 20 * np.exp(-np.arange(64) / 3.0)),
            Spectrum("image", 25 * falling**1.2, 0.77, 35.5, 128, samples=256,
                     warning="256 clips for 128 dimensions: the rank is bounded"),
        ),
        overlays=tuple(overlays),
        overlays_note="The first 8 test clips, none chosen. White box: the sounding object; warm: the model's map.",
        neighbours=tuple(neighbours),
        neighbours_note="Video features, cosine similarity, first clips of the test part.",
        subtitles=(
            SubtitleExample(strips(90, "bounce"), (("the wooden ball bounces twice", 0.71), ("what a day", 0.33),
                            ("a steel ring spins", 0.11)), "the wooden ball bounces twice"),
        ),
        configuration="steps: 820\nbatch: 32\ntasks:\n  av_sync:\n    hard_negatives: 0.25\n",
        versions={"mmssl": "0.1.0", "torch": "2.14.0", "av": "18.1.0", "numpy": "2.3.4", "python": "3.11.9"},
        hardware={"processor": "2 cores", "memory": "16 GiB", "accelerator": "none"},
        seed=0,
        notes=("Probe seeds share one pretraining; its own spread is measured by the demo_seeds benchmark.",),
    )  # fmt: skip


def hostile() -> ReportContent:
    """Every text of the full content replaced by an attempt to break out of its place."""

    def poison(value: object) -> object:
        if isinstance(value, str):
            return HOSTILE
        if isinstance(value, tuple):
            return tuple(poison(v) for v in value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return dataclasses.replace(
                value, **{f.name: poison(getattr(value, f.name)) for f in dataclasses.fields(value)}
            )
        if isinstance(value, dict):
            return {HOSTILE + str(k): poison(v) for k, v in value.items()}
        return value

    content = full()
    poisoned = poison(content)
    assert isinstance(poisoned, ReportContent)
    rows: list[dict[str, object]] = []
    for row in content.metrics:
        if row["event"] == "heldout":
            rows.append({**row, "task": HOSTILE, "score_name": HOSTILE})
        else:
            rows.append({k if k in ("event", "step") else f"{HOSTILE}{k}": v for k, v in row.items()})
    return dataclasses.replace(poisoned, metrics=rows)
