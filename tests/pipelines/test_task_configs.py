"""The configs of the tasks: every one can be read, every task has one, and `all` trains them all on one decode."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmssl.tasks import TASKS
from pipelines.config import parse_settings
from pipelines.pretrain import PretrainConfig

CONFIGS = Path(__file__).parents[2] / "configs" / "pretrain"


def read(name: str) -> PretrainConfig:
    arguments = ["--config", str(CONFIGS / f"{name}.yaml"), "--data.shards", "none.tar", "--run", "none"]
    return parse_settings(PretrainConfig, arguments, "mmssl pretrain")[0]


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.yaml")))
def test_a_config_names_tasks_by_their_names(name: str) -> None:
    for task, made in read(name).tasks.items():
        assert type(made) is TASKS[task]


@pytest.mark.parametrize("name", sorted(TASKS))
def test_a_task_has_a_config_of_its_own(name: str) -> None:
    assert list(read(name).tasks) == [name]


def test_all_is_all_that_need_no_truth() -> None:
    tasks = read("all").tasks
    assert not any(task.needs_truth for task in tasks.values())
    assert set(tasks) == set(TASKS) - {"flow_estimation"}  # nothing but a renderer knows that
    assert len({task.window.size for task in tasks.values()}) == 1
    assert set(read("all_soundstage").tasks) == set(TASKS)
