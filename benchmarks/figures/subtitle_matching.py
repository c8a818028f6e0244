"""The figure of docs/tasks/subtitle_matching.md: clips and the bags of sentences around them.

python benchmarks/figures/subtitle_matching.py 'shards/test-*.tar' docs/figures/subtitle_matching.png
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import matplotlib

from mmssl.data import Source, Stream
from mmssl.data.sentences import first_sentences
from mmssl.nn.tokenizer import Tokenizer
from mmssl.tasks.base import Moment
from mmssl.tasks.cross_modal.subtitle_matching import SubtitleMatching

matplotlib.use("agg")
import matplotlib.pyplot as plt

CLIPS, SHOWN, SEED = 32, 3, 0


def draw(shards: str, out: str) -> None:
    """Three clips with sentences in common: each one's bag, and what of the next one's is no negative for it."""
    task = SubtitleMatching(augment=False)
    tokenizer = Tokenizer.train(first_sentences(shards))
    with contextlib.closing(
        Stream([Source("test", shards)], task.window, CLIPS, seed=SEED, workers=0, tokenizer=tokenizer)
    ) as stream:
        batch, _ = next(iter(stream))
    example = task.pretext(batch, batch.draws("subtitle_matching"), Moment(0, 1, 0, 0.0))
    meaning, there = example.meaning, example.sentences
    # Clips of which each says something that the next says too.
    shared = (meaning[:, None, :, None] == meaning[None, :, None, :]) & there[:, None, :, None] & there[None, :, None]
    links = shared.flatten(2).any(dim=2).fill_diagonal_(False)
    chain = [int(links.sum(dim=1).argmax())]
    while len(chain) < SHOWN:
        following = [int(i) for i in links[chain[-1]].nonzero()[:, 0] if int(i) not in chain]
        chain.append(following[0] if following else next(i for i in range(CLIPS) if i not in chain))
    figure, axes = plt.subplots(2, SHOWN, figsize=(11, 3.0), height_ratios=(1, 1), layout="constrained")
    for column, clip in enumerate(chain):
        frames = example.clip[clip, :, :: example.clip.shape[2] // 4][:, :4]
        axes[0, column].imshow(frames.permute(2, 1, 3, 0).flatten(1, 2))
        others = {int(m) for other in chain if other != clip for m in meaning[other][there[other]]}
        for k, sentence in enumerate(batch.sentences[clip][: task.bag]):
            colour = "darkorange" if int(meaning[clip, k]) in others else "green"
            colour = colour if bool(there[clip, k]) else "silver"
            when = f"{sentence.start:.1f} to {sentence.end:.1f} s: "
            axes[1, column].text(0.0, 0.85 - 0.28 * k, when + sentence.text, color=colour, fontsize=9)
        axes[0, column].set_title(f"clip {batch.keys[clip]}, its bag", fontsize=8)
    for place in axes.flat:
        place.axis("off")
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=75)


if __name__ == "__main__":
    draw(*sys.argv[1:3])
