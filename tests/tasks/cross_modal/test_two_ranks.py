"""The same global batch on one and on two ranks, with unequal masks: same losses, same gradients, same metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from mmssl.batch import Batch
from mmssl.distributed import sum_over_ranks
from mmssl.tasks.base import MultiTask
from mmssl.tasks.cross_modal.av_correspondence import AVCorrespondence
from mmssl.tasks.cross_modal.av_embedding import AVEmbedding
from mmssl.tasks.cross_modal.av_localization import AVLocalization
from mmssl.tasks.cross_modal.av_sync import AVSync
from mmssl.tasks.cross_modal.localization_rules import Fnac, Lvs, Slavc
from mmssl.tasks.cross_modal.rgb_flow import RGBFlow
from mmssl.tasks.cross_modal.subtitle_matching import SubtitleMatching
from tests.batches import World, small_encoders
from tests.tasks.cross_modal.trained import LATE, changed

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
    return MultiTask(small_encoders(0, width=32), tasks).eval()


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
    ranks = dist.get_world_size() if dist.is_initialized() else 1
    found = {f"gradient {n}": p.grad for n, p in multitask.named_parameters() if p.grad is not None}
    found |= {f"loss {name}": outcome.loss for name, outcome in outcomes.items()}
    found = {name: sum_over_ranks(value) / ranks for name, value in found.items()}
    for name, outcome in outcomes.items():
        for metric, values in outcome.metrics.items():
            found[f"metric {name}/{metric}"] = sum_over_ranks(torch.stack(values))
    return found


def one_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        found = learn(range(rank * CLIPS // 2, (rank + 1) * CLIPS // 2))
        if rank == 0:
            torch.save(found, Path(folder) / "found.pt")
    finally:
        dist.destroy_process_group()


def test_two_ranks_learn_what_one_process_learns(tmp_path: Path) -> None:
    multiprocessing.spawn(one_rank, (str(tmp_path),), nprocs=2)  # type: ignore[no-untyped-call]
    apart, together = torch.load(tmp_path / "found.pt", weights_only=True), learn(range(CLIPS))
    assert apart.keys() == together.keys()
    for name, value in together.items():
        scale = float(value.abs().max())
        if name.startswith("loss") or name.endswith("/accuracy"):
            assert scale > 0, name
        # A gradient of a first layer adds up thousands of float32 terms, in another order.
        tolerance = (1e-4 if name.startswith("gradient") else 1e-5) * max(scale, 1e-3)
        assert torch.allclose(apart[name], value, rtol=0, atol=tolerance), name
