"""Planted misalignment: the true caption stands somewhere in a bag of four, as subtitles come early or late.

Plain NCE takes the nearest sentence for the true one and is wrong three times out of four; MIL-NCE is told only that
one of the four fits; the ranking learns which pairs to trust.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mmssl.batch import Batch
from mmssl.metrics.retrieval import recall_at
from mmssl.randomness import Draws
from mmssl.tasks.base import Moment, MultiTask
from mmssl.tasks.cross_modal.subtitle_matching import SubtitleMatching
from tests.batches import MATERIALS, TRUE, WORD_IDS, World
from tests.tasks.cross_modal.test_subtitle_matching import saying
from tests.tasks.cross_modal.trained import multitask_of
from tests.tasks.fitting import fit

BAG = 4
CAPTIONS = [TRUE.format(material=material, drift=drift) for drift in ("left", "right") for material in MATERIALS]


def planted(world: World, rows: list[int], epoch: int) -> Batch:
    """Each clip's caption at a drawn place among those of three other scenes."""
    batch = world.batch(rows, epoch)
    index = torch.tensor(rows) % world.count
    true = (world.drift[index] * len(MATERIALS) + world.material[index]).tolist()
    draws = Draws(batch.seeds, "planted")
    place = draws.integers("place", BAG).tolist()
    wrong = draws.permutation("wrong", len(CAPTIONS)).tolist()
    bags = []
    for i, own in enumerate(true):
        bag = [CAPTIONS[w] for w in wrong[i] if w != own][: BAG - 1]
        bag.insert(place[i], CAPTIONS[own])
        bags.append(bag)
    return saying(batch, bags)


def trained_on_planted(task: SubtitleMatching, steps: int, clips: int = 256, batch_size: int = 32) -> MultiTask:
    world = World(clips, task.window, seed=0)
    generator = torch.Generator().manual_seed(0)
    # A clip's subtitles are what they are: the same bag whenever it is seen.
    whole = planted(world, list(range(clips)), 0)

    def batch_of(step: int) -> Batch:
        rows = torch.randperm(clips, generator=generator)[:batch_size].tolist()
        return saying(world.batch(rows, step), [[s.text for s in whole.sentences[i]] for i in rows])

    return fit(multitask_of(task), batch_of, steps)


def recall(multitask: MultiTask, clips: int = 256) -> float:
    """R@1 of held-out clips among the 16 captions that there are."""
    task: Any = multitask.tasks["task"]
    world = World(clips, task.window, seed=1)
    batch = world.batch(range(clips))
    ids = torch.zeros(len(CAPTIONS), 12, dtype=torch.int64)
    for row, caption in enumerate(CAPTIONS):
        words = ["[CLS]", *caption.split()]
        ids[row, : len(words)] = torch.tensor([WORD_IDS[word] for word in words])
    with torch.no_grad():
        example = task.pretext(batch, batch.draws("task"), Moment(0, 1, 0, 0.0))
        video = task.matcher.embed("picture", multitask.encoders["video"](example.clip))
        text = task.matcher.embed("text", multitask.encoders["text"](ids, ids > 0))
        similarity = task.matcher.similarity(video, text)
    true = world.drift * len(MATERIALS) + world.material
    return recall_at(similarity.numpy(), true.numpy(), 1)


def settings(**more: Any) -> SubtitleMatching:
    return SubtitleMatching(size=(32, 32), clip_seconds=1.0, augment=False, **more)


def test_the_caption_lies_anywhere_in_its_bag() -> None:
    world = World(64, settings().window, seed=0)
    batch = planted(world, list(range(64)), 0)
    true = [CAPTIONS[int(d * 8 + m)] for d, m in zip(world.drift, world.material, strict=True)]
    places = [[s.text for s in row].index(own) for row, own in zip(batch.sentences, true, strict=True)]
    assert set(places) == {0, 1, 2, 3}
    assert all(len({s.text for s in row}) == BAG for row in batch.sentences)


def trust_of(multitask: MultiTask) -> tuple[float, float]:
    """Mean weight that a trained ranking gives the true pairs of its training clips, and the wrong ones."""
    task: Any = multitask.tasks["task"]
    world = World(256, task.window, seed=0)
    batch = planted(world, list(range(256)), 0)
    true = [CAPTIONS[int(d * len(MATERIALS) + m)] for d, m in zip(world.drift, world.material, strict=True)]
    fits = torch.tensor([[s.text == own for s in row] for row, own in zip(batch.sentences, true, strict=True)])
    with torch.no_grad():
        example = task.pretext(batch, batch.draws("task"), Moment(1, 1, 0, 1.0))
        video = task.matcher.embed("picture", multitask.encoders["video"](example.clip))
        ids, mask = example.token_ids.flatten(0, 1), example.token_mask.flatten(0, 1)
        text = task.matcher.embed("text", multitask.encoders["text"](ids, mask))
        clips = video.repeat_interleave(BAG, dim=0)
        weights = task.quality(clips, text, torch.ones(len(text), dtype=torch.bool), task.trusted).reshape(256, BAG)
    assert float(weights.mean()) == pytest.approx(task.trusted, abs=1e-4)
    return float(weights[fits].mean()), float(weights[~fits].mean())


STEPS = 150


@pytest.mark.slow
def test_a_bag_finds_what_the_nearest_sentence_alone_does_not() -> None:
    nearest = recall(trained_on_planted(settings(bag=1), STEPS))
    bag = recall(trained_on_planted(settings(bag=BAG), STEPS))
    assert bag > nearest + 0.10, (bag, nearest)


@pytest.mark.slow
def test_the_learned_trust_finds_the_true_pairs() -> None:
    alike = recall(trained_on_planted(settings(bag=BAG, rule="ranking", trusted=1.0), STEPS))
    multitask = trained_on_planted(settings(bag=BAG, rule="ranking", trusted=0.3), STEPS)
    true, wrong = trust_of(multitask)
    assert true > 2 * wrong, (true, wrong)
    assert recall(multitask) > alike + 0.03, alike
