"""Retrieval between held-out frames and sounds by an exported head, judged by material (nDCG@30, arXiv 1712.06651).

    python benchmarks/av_retrieval.py runs/av_embedding 'corpus/test-*.tar' [--head av_embedding]

One frame and one second of sound around it of every Soundstage clip, at the clip's middle. A frame fits a sound if what
is heard is in sight; two sounds, or two frames, are relevant to each other if they are of one sounding material.
Beside the head: chance (all tied), and the same head on encoders and projections with random weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from mmssl.clip import Span, Window
from mmssl.data.sources import Source
from mmssl.data.stream import Stream
from mmssl.metrics.retrieval import ndcg_at
from mmssl.nn.encoders import Encoders
from mmssl.nn.matcher import Matcher

K = 30


def embedded(
    models: list[tuple[Encoders, Matcher]], shards: str, size: int
) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[str], list[set[str]]]:
    """For each model unit vectors [N, D] of frames and of sounds; each clip's sounding material and those in sight."""
    seconds = float(models[0][1].init_args["sound_seconds"])
    rate = models[0][0]["audio"].rate
    window = Window(Span(1 / 8, 8), Span(seconds, rate), size=(size, size))
    rows: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[] for _ in models]
    heard: list[str] = []
    seen: list[set[str]] = []
    stream = Stream([Source("test", shards)], window, 64, workers=1, shuffle=False, repeat=False, anchor="centre")
    with stream, torch.inference_mode():
        for batch, truth in stream:
            kept = (batch.weight > 0) & batch.has_audio & batch.has_picture
            kept &= torch.tensor([bool(meta.get("truth", meta).get("material")) for meta in truth.metas])
            for found, (encoders, head) in zip(rows, models, strict=True):
                picture = encoders["image"](batch.frames[:, 0, 0].float() / 255)
                sound = encoders["audio"](encoders["audio"].frontend(batch.audio[:, 0]))
                found.append((head.embed("picture", picture)[kept], head.embed("sound", sound)[kept]))
            for row in kept.nonzero()[:, 0].tolist():
                about = truth.metas[row].get("truth", truth.metas[row])
                heard.append(about["material"])
                seen.append(set(about["materials"]))
    vectors = [tuple(torch.cat(side).numpy() for side in zip(*found, strict=True)) for found in rows]
    return vectors, heard, seen  # type: ignore[return-value]


def scores(pictures: np.ndarray, sounds: np.ndarray, heard: list[str], seen: list[set[str]]) -> dict[str, float]:
    """nDCG@30 from each side to each; a query is not in its own gallery within one side."""
    fits = np.array([[material in shown for material in heard] for shown in seen], dtype=float)  # [frame, sound]
    alike = (np.array(heard)[:, None] == np.array(heard)[None]).astype(float)
    others = ~np.eye(len(heard), dtype=bool)

    def within(side: np.ndarray) -> float:
        near = (side @ side.T)[others].reshape(len(side), -1)
        return ndcg_at(near, alike[others].reshape(len(side), -1), K)

    return {
        "frame to sound": ndcg_at(pictures @ sounds.T, fits, K),
        "sound to frame": ndcg_at(sounds @ pictures.T, fits.T, K),
        "frame to frame": within(pictures),
        "sound to sound": within(sounds),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("shards")
    parser.add_argument("--head", default="av_embedding")
    parser.add_argument("--size", type=int, default=96)
    args = parser.parse_args()
    trained = Encoders.from_pretrained(args.run), Encoders.load_head(args.run, args.head)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        start = Encoders.from_pretrained(args.run, random_init=True), type(trained[1])(**trained[1].init_args).eval()
    (model, random), heard, seen = embedded([trained, start], args.shards, args.size)
    flat = np.zeros((len(heard), 1))
    print(f"{len(heard)} clips, nDCG@{K}")
    for name, (pictures, sounds) in {"model": model, "random weights": random, "chance": (flat, flat)}.items():
        row = scores(pictures, sounds, heard, seen)
        print(f"{name:15}", "  ".join(f"{way} {value:.3f}" for way, value in row.items()))


if __name__ == "__main__":
    main()
