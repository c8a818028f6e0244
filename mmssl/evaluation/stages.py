"""Maps of every stage of an encoder over clips, trained and with random weights, from one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mmssl.clip import Span
from mmssl.evaluation.attention import attention_maps, correlation, edge_energy, encode_with_attention, energy
from mmssl.evaluation.looking import Seen, look, seen_encoder, spectrogram_picture
from mmssl.metrics.statistics import bootstrap
from mmssl.nn.encoders import Encoders

LEAST_CLIPS = 5  # with fewer, an interval over them says nothing
ROLLOUT = "attention rollout"


@dataclass(frozen=True)
class StageMaps:
    """One clip's maps.

    Args:
        key, source, label: of the clip.
        pictures: uint8 [T, H, W, 3]: its frames, or its spectrogram as a single picture.
        stages: name -> model ("trained", "random weights") -> float32 [t, h, w], not normalised; t divides T.
    """

    key: str
    source: str
    label: str | None
    pictures: np.ndarray
    stages: Mapping[str, Mapping[str, np.ndarray]]


def stage_maps(
    encoders: str,
    shards: str,
    *,
    encoder: str = "image",
    picture: Span = Span(2.0, 3.0),
    size: int | tuple[int, int] = 96,
    limit: int = 8,
    seed: int = 0,
    batch_size: int = 8,
    workers: int = 2,
    device: torch.device | str = "cpu",
    left_out: dict[str, str] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[StageMaps]:
    """The maps of the first clips of the shards: energy at every level, and rollout where the encoder attends.

    Args:
        encoders: run folder, or its encoders folder.
        shards: shard specification.
        encoder: which encoder.
        picture: length and rate of what it sees.
        size: height and width of the frames.
        limit: clips.
        seed: of the random weights.
        batch_size: clips at a time.
        workers: decode processes.
        device: where the encoders run.
        left_out: filled with the keys of clips that cannot be shown to the encoder.
        progress: called with (clips done, clips wanted).
    """
    bundles = {
        "trained": Encoders.from_pretrained(encoders).to(device),
        "random weights": Encoders.from_pretrained(encoders, random_init=True, seed=seed).to(device),
    }
    seen_encoder(bundles["trained"], encoder)
    for seen in look(
        bundles["trained"], shards, encoder=encoder, picture=picture, size=size, batch_size=batch_size,
        workers=workers, device=device, limit=limit, left_out=left_out, progress=progress,
    ):  # fmt: skip
        made = {model: _maps(bundle[encoder], seen) for model, bundle in bundles.items()}
        for row, key in enumerate(seen.keys):
            shown = seen.frames[row].transpose(0, 2, 3, 1)
            if seen.modality == "audio":
                shown = spectrogram_picture(seen.inputs[row, 0])[None]
            stages = {
                stage: {model: maps[stage][row] for model, maps in made.items() if stage in maps}
                for stage in made["trained"]
            }
            yield StageMaps(key, seen.sources[row], seen.labels[row], np.ascontiguousarray(shown), stages)


def _maps(part: Any, seen: Seen) -> dict[str, np.ndarray]:
    """Stage -> float32 [n, t, h, w]; a spectrogram's are turned as its picture is, high pitch on top."""
    features, layers = encode_with_attention(part, seen.inputs)
    found = {f"stride {stride}": energy(seen.level(features, stride)) for stride in sorted(features.levels)}
    if layers:
        frames = seen.inputs.shape[2] if seen.modality == "video" else 1
        rolled = attention_maps(layers, frames, *seen.inputs.shape[-2:])
        found[ROLLOUT] = rolled.flatten(0, 1).unflatten(0, (len(seen), -1)) if seen.modality == "image" else rolled
    arrays = {stage: maps.float().cpu().numpy() for stage, maps in found.items()}
    return {n: m[..., ::-1, :].copy() for n, m in arrays.items()} if seen.modality == "audio" else arrays


def likeness(clips: Sequence[StageMaps]) -> dict[str, dict[str, dict[str, float] | None]]:
    """How far each stage's trained map follows what needs no training, as Pearson correlations over a clip's places.

    Returns:
        stage -> {"random weights", "contrast"} -> mean over clips with its 95 % interval over sources (without one for
        fewer than five sources); None where a map is constant.
    """
    made: dict[str, dict[str, dict[str, float] | None]] = {}
    for stage in clips[0].stages:
        against: dict[str, list[float]] = {"random weights": [], "contrast": []}
        for clip in clips:
            ours, theirs = clip.stages[stage]["trained"], clip.stages[stage]["random weights"]
            edges = edge_energy(clip.pictures.transpose(0, 3, 1, 2)[None], (ours.shape[1], ours.shape[2]))[0]
            times = np.linspace(0, len(edges) - 1, len(ours)).round().astype(int)
            against["random weights"].append(float(correlation(ours[None], theirs[None])[0]))
            against["contrast"].append(float(correlation(ours[None], edges[times][None])[0]))
        made[stage] = {}
        for name, values in against.items():
            known = ~np.isnan(values)
            groups = np.array([clip.source for clip in clips])[known]
            kept = np.array(values)[known]
            if not len(kept):
                made[stage][name] = None
            elif len(set(groups.tolist())) < LEAST_CLIPS:
                made[stage][name] = {"mean": float(kept.mean())}
            else:
                made[stage][name] = bootstrap(kept, groups).as_dict()
    return made
