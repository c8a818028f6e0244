"""The same global batch on one and on two ranks, with unequal masks: same losses, same gradients, same metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mmssl.batch import Batch
from mmssl.distributed import gather, sum_over_ranks
from mmssl.tasks.base import MultiTask
from mmssl.tasks.context.rotation import Rotation
from mmssl.tasks.cross_modal.av_correspondence import AVCorrespondence
from mmssl.tasks.cross_modal.av_embedding import AVEmbedding
from mmssl.tasks.cross_modal.av_localization import AVLocalization
from mmssl.tasks.cross_modal.av_sync import AVSync
from mmssl.tasks.cross_modal.localization_rules import Fnac, Lvs, Slavc
from mmssl.tasks.cross_modal.rgb_flow import RGBFlow
from mmssl.tasks.cross_modal.subtitle_matching import SubtitleMatching
from tests.batches import World, small_encoders, training_undropped
from tests.tasks.cross_modal.trained import LATE, changed
from tests.two_ranks import assert_same, mean_over_ranks, on_two_ranks

CLIPS = 8


def multitask_of_all() -> MultiTask:
    tasks: dict[str, Any] = {
        "av_correspondence": AVCorrespondence(size=(32, 32)),
        "av_embedding": AVEmbedding(size=(32, 32), same_time=False),
        "av_localization": AVLocalization(size=(32, 32)),
        "av_localization_lvs": AVLocalization(size=(32, 32), rule=Lvs()),
        "av_localization_slavc": AVLocalization(size=(32, 32), rule=Slavc()),
        "av_localization_fnac": AVLocalization(size=(32, 32), rule=Fnac()),
        "av_sync": AVSync(size=(32, 32)),
        "av_sync_margin": AVSync(size=(32, 32), loss="margin", super_share=0.5),
        "rgb_flow": RGBFlow(size=(32, 32)),
        "subtitle_matching": SubtitleMatching(size=(32, 32), clip_seconds=1.0, candidates=4),
        "subtitle_ranking": SubtitleMatching(size=(32, 32), clip_seconds=1.0, rule="ranking"),
    }
    torch.manual_seed(0)
    return training_undropped(MultiTask(small_encoders(0, width=32), tasks))


def batch_of(multitask: MultiTask, rows: range) -> Batch:
    """Clips of which the second rank has but two with sound; one is a hole."""
    batch = World(CLIPS, multitask.window, seed=4).batch(rows)
    keep = torch.tensor([True, False, True, True, True, False, True, False])[list(rows)]
    weight = torch.tensor([1.0, 1, 1, 0, 1, 1, 1, 1])[list(rows)]
    return changed(batch, has_audio=keep, weight=weight)


def learn(rows: range) -> dict[str, torch.Tensor]:
    """Losses, gradients and summed metrics, averaged and summed over ranks as training does."""
    multitask = multitask_of_all()
    total, outcomes = multitask(batch_of(multitask, rows), LATE)
    total.backward()
    found = {f"gradient {n}": p.grad for n, p in multitask.named_parameters() if p.grad is not None}
    found |= {f"loss {name}": outcome.loss for name, outcome in outcomes.items()}
    found = mean_over_ranks(found)
    for name, outcome in outcomes.items():
        for metric, values in outcome.metrics.items():
            found[f"metric {name}/{metric}"] = sum_over_ranks(torch.stack(values))
    return found


def test_two_ranks_learn_what_one_process_learns(tmp_path: Path) -> None:
    apart, _ = on_two_ranks(learn, CLIPS, tmp_path)
    together = learn(range(CLIPS))
    for name, value in together.items():
        if name.startswith("loss") or name.endswith("/accuracy"):
            assert float(value.abs().max()) > 0, name
    assert_same(apart, together)


def broken_pairs(rows: range) -> dict[str, torch.Tensor]:
    """The paired fields of some tasks, taken apart, of all rows; each rank holds its part of them."""
    tasks: dict[str, Any] = {
        "av_correspondence": AVCorrespondence(size=(32, 32), augment=False),
        "subtitle_matching": SubtitleMatching(size=(32, 32), clip_seconds=1.0),
        "rotation": Rotation(size=(32, 32)),
    }
    multitask = MultiTask(small_encoders(0, width=32), tasks)
    batch, found = World(CLIPS, multitask.window, seed=4).batch(rows), {}
    for name, task in tasks.items():
        draws = batch.draws(name)
        example = task.pretext(batch, draws, LATE)
        for field in task.paired[:2]:
            side = getattr(task.break_pairs(example, draws), field)
            longest = torch.nn.functional.pad(side, (0, 64 - side.shape[-1])) if "token" in field else side
            found[f"{name} {field}"] = gather(longest)
    return found


def test_pairs_are_broken_over_all_ranks(tmp_path: Path) -> None:
    """With one clip a rank there is no other on the rank; the control must still be one."""
    for clips in (2, CLIPS):
        folder = tmp_path / str(clips)
        folder.mkdir()
        apart, other = on_two_ranks(broken_pairs, clips, folder)
        together = broken_pairs(range(clips))
        for name, value in together.items():
            assert torch.equal(apart[name], value), name
            assert torch.equal(other[name], value), name
