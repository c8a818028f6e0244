"""The loop on a tiny task: it learns, resumes to the bit, stops when asked, refuses what would be wrong."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mmssl.batch import Batch, Truth
from mmssl.errors import UserError
from mmssl.nn.encoders import encoders_folder
from mmssl.training.log import RunLog
from mmssl.training.optim import OptimizerSettings
from mmssl.training.schedule import ScheduleSettings
from mmssl.training.settings import TrainSettings
from mmssl.training.trainer import Finished, Trainer, sample_tasks
from tests.training.stand_ins import Pairs, TinyStream, UpOrDown, tiny_multitask

QUICK = TrainSettings(
    steps=12, checkpoint_every=5, log_every=1, monitor_every=6, heldout_every=6, tensorboard=False, gradients_every=12
)
RATE = OptimizerSettings(lr=3e-3, schedule=ScheduleSettings(warmup=0.2))
TIMES = {"seconds_per_step", "clips_per_second", "data_wait"}


def heldout() -> TinyStream:
    return TinyStream(clips=16, repeat=False, name="held-out")


def trainer(run: Path, settings: TrainSettings = QUICK, stream: TinyStream | None = None, **changes: Any) -> Trainer:
    run.mkdir(exist_ok=True)
    multitask = changes.pop("multitask", None) or tiny_multitask()
    return Trainer(multitask, stream or TinyStream(), settings, RATE, run=run, heldout=heldout, **changes)


def rows(run: Path, event: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in found if row["event"] == event]


def test_it_learns_and_writes_everything_down(tmp_path: Path) -> None:
    settings = replace(QUICK, steps=150, heldout_every=150, monitor_every=150, checkpoint_every=100, log_every=5)
    assert trainer(tmp_path, settings).train() == Finished(150)
    (score,) = rows(tmp_path, "heldout")
    assert score["score"] > 0.9
    assert 0.2 < score["ablated"] < 0.8  # black pictures say nothing
    assert (score["floor"], score["ceiling"], score["count"]) == (0.5, 1.0, 15)  # one of 16 clips is a hole
    steps = rows(tmp_path, "step")
    assert [row["step"] for row in steps] == list(range(5, 151, 5))
    assert steps[-1]["loss"] == pytest.approx(steps[-1]["turn/loss"])
    assert steps[-1]["loss"] < 0.5 * steps[0]["loss"]
    assert (steps[0]["decoder_calls"], steps[0]["decoded_pictures"]) == (8, 24)
    first, last = rows(tmp_path, "monitor")
    assert (first["step"], last["step"]) == (0, 150)
    assert last["image/samples"] == 15
    assert last["image/gradient/turn"] > 0
    assert json.loads((tmp_path / "spectrum.json").read_text())["encoders"]["image"]["singular_values"][0] == 1.0
    assert (tmp_path / "checkpoints" / "last").read_text() == "step-0000150\n"
    assert encoders_folder(tmp_path) == tmp_path / "encoders"


def test_a_task_without_a_held_out_score_is_named(tmp_path: Path) -> None:
    class Silent(UpOrDown):
        needs = ("sound",)

    trainer(tmp_path, multitask=tiny_multitask(turn=UpOrDown(), heard=Silent())).train()
    said = {row["text"].split(" has ")[0] for row in rows(tmp_path, "warning") if "no held-out score" in row["text"]}
    assert said == {"heard"}


def test_resumed_run_is_the_same_to_the_bit(tmp_path: Path) -> None:
    trainer(tmp_path / "whole").train()

    class Dies(TinyStream):
        def batch(self, numbers: Any) -> Batch:
            if numbers[0] >= 8 * 8:
                raise KeyboardInterrupt
            return super().batch(numbers)

    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "broken", stream=Dies()).train()
    assert rows(tmp_path / "broken", "step")[-1]["step"] == 8  # beyond the checkpoint: to be cut off
    resumed = trainer(tmp_path / "broken", multitask=tiny_multitask(seed=99))
    assert resumed.resume() == 5
    resumed.train()
    for event in ("step", "heldout", "monitor"):
        assert rows(tmp_path / "broken", event) == rows(tmp_path / "whole", event)
    a, b = (
        torch.load(tmp_path / run / "checkpoints" / "step-0000012" / "model.pt", weights_only=True)
        for run in ("whole", "broken")
    )
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert a["heads.turn.steps_made"] == 12


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_and_leaves(tmp_path: Path, number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    class Signals(TinyStream):
        def batch(self, numbers: Any) -> Batch:
            if numbers[0] == 8 * 6:
                os.kill(os.getpid(), number)
            return super().batch(numbers)

    before = signal.getsignal(number)
    assert trainer(tmp_path, stream=Signals()).train() == Finished(7, number.name)
    assert signal.getsignal(number) == before
    assert f"stopped by {number.name} after step 7, saved; resume with --resume" in capfd.readouterr().err
    assert encoders_folder(tmp_path)
    again = trainer(tmp_path)
    assert again.resume() == 7
    assert again.train() == Finished(12)
    assert [row["step"] for row in rows(tmp_path, "step")] == list(range(1, 13))


def test_nan_names_the_task_and_keeps_the_clips(tmp_path: Path) -> None:
    poisoned = tiny_multitask(turn=UpOrDown(), poisoned=UpOrDown(poison_at=6))
    with pytest.raises(UserError, match=r"step 7: the loss of poisoned is not a finite number.*nan_step_7\.json"):
        trainer(tmp_path, multitask=poisoned).train()
    found = json.loads((tmp_path / "nan_step_7.json").read_text())
    assert found["tasks"] == ["poisoned"]
    assert [clip["key"] for clip in found["ranks"][0]["clips"]] == [f"clip{n:03d}" for n in range(8, 16)]
    assert found["ranks"][0]["losses"]["poisoned"] == "nan"
    assert (tmp_path / "checkpoints" / "last").read_text() == "step-0000005\n"


def test_accumulated_micro_batches_are_the_big_batch(tmp_path: Path) -> None:
    def losses(run: Path, settings: TrainSettings, batch: int) -> list[float]:
        stream = TinyStream(clips=64, batch_size=batch)
        stream.position = 8  # past the hole: a mean of means is the mean only with equal weights
        trainer(run, settings, stream, multitask=tiny_multitask(dropout=0.0)).train()
        return [row["loss"] for row in rows(run, "step")]

    settings = replace(QUICK, steps=5, clip_norm=None)
    whole = losses(tmp_path / "one", settings, 8)
    parts = losses(tmp_path / "four", replace(settings, accumulate=4), 2)
    assert parts == pytest.approx(whole, rel=1e-5)


def test_accumulation_is_refused_where_rows_are_compared(tmp_path: Path) -> None:
    settings = replace(QUICK, accumulate=2)
    with pytest.raises(UserError, match=r"train\.accumulate is 2, but the task pairs compares the clips of a batch"):
        trainer(tmp_path, settings, multitask=tiny_multitask(pairs=Pairs()))
    trainer(tmp_path, replace(settings, allow_accumulated_negatives=True), multitask=tiny_multitask(pairs=Pairs()))


def test_sampled_tasks_depend_on_the_step_alone(tmp_path: Path) -> None:
    names = ["a", "b", "c", "d"]
    drawn = [sample_tasks(names, 2, 0, step) for step in range(400)]
    assert drawn == [sample_tasks(names, 2, 0, step) for step in range(400)]
    assert all(len(chosen) == 2 and chosen == sorted(chosen) for chosen in drawn)
    assert all(150 < sum(name in chosen for chosen in drawn) < 250 for name in names)
    assert sample_tasks(names, None, 0, 3) == names
    multitask = tiny_multitask(a=UpOrDown(), b=UpOrDown())
    trainer(tmp_path, replace(QUICK, sampled_tasks=1), multitask=multitask).train()
    made = [int(multitask.tasks[name].steps_made) for name in ("a", "b")]
    assert sum(made) == 12
    assert min(made) > 0


def test_bf16_trains_too(tmp_path: Path) -> None:
    trainer(tmp_path, replace(QUICK, precision="bf16")).train()
    assert len(rows(tmp_path, "step")) == 12


def test_a_run_of_another_seed_or_model_is_not_resumed(tmp_path: Path) -> None:
    trainer(tmp_path).train()
    with pytest.raises(UserError, match="was started with seed 0, now it is 1"):
        trainer(tmp_path, seed=1).resume()
    with pytest.raises(UserError, match=r"does not fit this run's encoders and tasks .*heads\.other"):
        trainer(tmp_path, multitask=tiny_multitask(turn=UpOrDown(), other=UpOrDown())).resume()


def test_fp16_needs_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.precision 'fp16' needs a GPU"):
        trainer(tmp_path, replace(QUICK, precision="fp16"))


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match=r"train\.steps must be at least 1, got 0"):
        TrainSettings(steps=0)
    with pytest.raises(ValueError, match=r"train\.clip_norm must be > 0, or null for no clipping"):
        TrainSettings(clip_norm=0.0)
    with pytest.raises(ValueError, match=r"train\.heldout_every must be at least 0"):
        TrainSettings(heldout_every=-1)


def test_gradients_are_clipped_part_by_part(tmp_path: Path) -> None:
    made = trainer(tmp_path, replace(QUICK, steps=1, clip_norm=1e-3))
    seen: dict[str, float] = {}

    def watch(*_: Any) -> None:
        for name, part in made.multitask.parts():
            seen[name] = float(torch.stack([p.grad.norm() for p in part.parameters() if p.grad is not None]).norm())

    made.optimizer.register_step_pre_hook(watch)
    made.train()
    assert seen == pytest.approx({"encoders.image": 1e-3, "turn": 1e-3}, rel=1e-3)


def test_the_callers_generator_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trainer(tmp_path).train()
    assert torch.equal(torch.rand(3), expected)


def test_the_log_is_closed_when_the_stream_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fails(TinyStream):
        def __iter__(self) -> Iterator[tuple[Batch, Truth]]:
            raise UserError("too many samples failed")

    closed = []
    close = RunLog.close
    monkeypatch.setattr(RunLog, "close", lambda log: (closed.append(log), close(log)))
    with pytest.raises(UserError, match="too many samples failed"):
        trainer(tmp_path, stream=Fails()).train()
    assert len(closed) == 1


def test_failed_samples_are_written_down_by_cause(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Loses(TinyStream):
        def batch(self, numbers: Any) -> Batch:
            if numbers[0] in (16, 40):
                self.counters["failed: damaged"] = self.counters.get("failed: damaged", 0) + 2
            return super().batch(numbers)

    trainer(tmp_path, stream=Loses()).train()
    assert rows(tmp_path, "failures") == [
        {"event": "failures", "step": 3, "count": 2, "causes": {"damaged": 2}},
        {"event": "failures", "step": 6, "count": 4, "causes": {"damaged": 4}},
    ]
    assert "4 samples could not be read so far (damaged: 4)" in capfd.readouterr().err
