"""What the demo's report says: gathers scores, spectra, overlays and neighbours into the report's plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from mmssl import distributed
from mmssl.batch import Batch, Truth
from mmssl.clip import Span, Window
from mmssl.data import Stream
from mmssl.localization.draw import Drawn
from mmssl.nn.encoders import Encoders
from mmssl.report import (
    Bars,
    Localization,
    LocalizationRow,
    NeighbourRow,
    Overlay,
    ReportContent,
    Strip,
    action_probe,
    pretext_rows,
    read_spectra,
)
from mmssl.training.environment import environment

ASKS = {
    "av_localization": "which sound belongs to a frame, by its best matching place",
    "av_sync": "whether picture and sound are of the same instant",
    "order_prediction": "the order of four frames, up to reversal",
    "subtitle_matching": "which bag of sentences belongs to a clip",
    "rotation": "by how many quarter turns a frame was turned",
}
#: rows of the localization scores -> names in the report
ROWS = {
    "model": "model",
    "centre_disc": "centre_prior",
    "whole_frame": "whole_frame",
    "random_map": "random_map",
    "motion_saliency": "motion_saliency",
    "shuffled_sound": "shuffled_sound",
}


def demo_content(
    run: Path,
    shards: str,
    rows: Sequence[Mapping[str, Any]],
    action: Mapping[str, Any],
    localization: Mapping[str, Any],
    drawn: Sequence[Drawn],
    configuration: str,
    seed: int,
    quick: bool,
) -> ReportContent:
    """The content of the report, but for the times of the stages.

    Args:
        run: the run folder.
        shards: the test shards, for the nearest neighbours.
        rows: of metrics.jsonl.
        action: of the action evaluation.
        localization: of the localization scores.
        drawn: the overlays.
        configuration: the resolved settings.
        seed: of the demo.
        quick: whether the demo was a quick one, whose figures mean nothing.
    """
    about = environment(torch.device("cpu"), "auto")
    encoders = Encoders.from_pretrained(run)
    untrained = Encoders.from_pretrained(run, random_init=True, seed=seed)
    clips = read_clips(encoders, shards)
    spectra = run / "spectrum.json"
    return ReportContent(
        title="mmssl demo",
        subtitle="five pretext tasks on one decode of rendered scenes; nothing below was trained with a label or a box",
        bars=None if quick else Bars(),
        metrics=list(rows),
        pretext=pretext_rows(list(rows), ASKS),
        action=action_probe(action),
        localization=localization_rows(localization),
        spectra=read_spectra(spectra, {"video": clips.singular_values(untrained)}) if spectra.is_file() else (),
        overlays=tuple(overlay(one) for one in drawn),
        overlays_note="The first clips of the test shards, not chosen. White: the true box. Play them with sound.",
        neighbours=clips.neighbours(encoders),
        neighbours_note="Nearest test clips by the cosine of the frozen video features; queries are not chosen.",
        configuration=configuration,
        versions={k: str(v) for k, v in about.get("versions", {}).items()},
        hardware={k: str(v) for k, v in about.items() if k != "versions"},
        seed=seed,
        notes=("A quick demo: it shows that everything runs, its figures mean nothing.",) if quick else (),
    )


def localization_rows(scores: Mapping[str, Any]) -> Localization:
    """The localization table."""
    found = scores["rows"]
    rows = [
        LocalizationRow(name, found[key]["peak_in_box"], found[key]["ciou"], found[key]["auc"])
        for key, name in ROWS.items()
        if found.get(key) is not None
    ]
    return Localization(tuple(rows), clips=found["model"]["n"], protocol=str(scores.get("protocol", "")))


def overlay(one: Drawn) -> Overlay:
    """An overlay with its clip."""
    hit = None if one.hit is None else one.hit > 0.5
    return Overlay(one.key, one.png.read_bytes(), one.mp4.read_bytes(), one.kind or "", one.label or "", hit)


class Clips:
    """Some held-out clips in memory: their frames, labels and keys."""

    def __init__(self, batches: Sequence[tuple[Batch, Truth]], span: Span) -> None:
        kept = [(b, t, row) for b, t in batches for row in range(len(b)) if float(b.weight[row]) > 0]
        self.frames = torch.stack([b.frames_of(span)[row] for b, _, row in kept])
        self.keys = [t.keys[row] for _, t, row in kept]
        self.labels = [t.labels[row] for _, t, row in kept]

    @torch.inference_mode()
    def features(self, encoders: Encoders) -> torch.Tensor:
        """Float32 [N, D] of the video encoder."""
        parts = [encoders["video"](part.transpose(1, 2).float() / 255).pooled for part in self.frames.split(32)]
        return torch.cat(parts).float()

    def singular_values(self, encoders: Encoders) -> np.ndarray:
        """Singular values of the centred features, largest first."""
        features = F.normalize(self.features(encoders), dim=1)
        return np.asarray(torch.linalg.svdvals(features - features.mean(dim=0)).numpy())

    def neighbours(self, encoders: Encoders, queries: int = 6, count: int = 5) -> tuple[NeighbourRow, ...]:
        """The first clips of different labels with their nearest others."""
        features = F.normalize(self.features(encoders), dim=1)
        similarity = features @ features.T
        similarity.fill_diagonal_(-2.0)
        first: dict[str | None, int] = {}
        for number, label in enumerate(self.labels):
            first.setdefault(label, number)
        rows = []
        for number in sorted(first.values())[:queries]:
            nearest = similarity[number].topk(min(count, len(features) - 1)).indices.tolist()
            found = tuple(self._strip(n, float(similarity[number, n])) for n in nearest)
            rows.append(NeighbourRow(self._strip(number), found))
        return tuple(rows)

    def _strip(self, number: int, similarity: float | None = None) -> Strip:
        frames = self.frames[number][:: max(1, self.frames.shape[1] // 4)][:4].permute(0, 2, 3, 1).numpy()
        return Strip(self.keys[number], np.ascontiguousarray(frames), self.labels[number], similarity)


def read_clips(encoders: Encoders, shards: str, batches: int = 8) -> Clips:
    """The first clips of the shards."""
    assert distributed.world_size() == 1
    span = Span(1.5, 8.0)
    size = first_size(shards)
    stream = Stream(shards, Window(span, size=size), 32, workers=1, shuffle=False, repeat=False, anchor="centre")
    read = []
    with stream:
        for pair in stream:
            read.append(pair)
            if len(read) == batches:
                break
    return Clips(read, span)


def first_size(shards: str) -> tuple[int, int]:
    """Height and width of the first clip."""
    import json

    from mmssl.data.shards.index import expand_shards, read_index, read_members

    path = expand_shards(shards)[0]
    meta = json.loads(read_members(path, read_index(path).samples[0], ["json"])["json"])
    return int(meta["height"]), int(meta["width"])
