"""`mmssl pretrain`: what it refuses before anything is written, and what it builds from the settings."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mmssl.data import Source
from mmssl.errors import UserError
from mmssl.nn.encoders import Build, Encoders
from mmssl.nn.tokenizer import Tokenizer
from mmssl.tasks import TASKS
from pipelines import pretrain_setup as setup
from pipelines.cli import main
from pipelines.pretrain import DataSettings, PretrainConfig, plain_config, run
from tests.corpora import sample, write_corpus, write_tar
from tests.laws.runs import EndsEarly, settings, write_settings


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_corpus(tmp_path_factory.mktemp("corpus"), [9])


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Eight clips without sound and sentences, as the index knows."""
    folder = tmp_path_factory.mktemp("silent")
    samples = []
    for number in range(8):
        key, members = sample(folder, f"mute{number}", number, audio_codec=None)
        about = json.loads(members.pop("json")) | {"has_audio": False, "n_sentences": 0}
        members.pop("vtt")
        samples.append((key, {**members, "json": json.dumps(about).encode()}))
    return str(write_tar(folder / "mute-000000.tar", samples))


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the command with settings that cannot be used; gives its one message."""

    def call(given: dict[str, Any], *flags: str) -> str:
        run_folder = tmp_path / "run"
        was_there = run_folder.exists()
        config = write_settings(tmp_path / "settings.yaml", given)
        with pytest.raises(SystemExit) as caught:
            main(["pretrain", "--config", str(config), "--run", str(run_folder), *flags])
        assert caught.value.code == 2
        assert run_folder.exists() is was_there
        return capsys.readouterr().err

    return call


def test_shards_without_sound_name_task_and_shards(silent: str, refused: Callable[..., str]) -> None:
    given = settings(silent)
    text = refused(given)
    assert "the tasks av_localization, av_sync need sound, and none of the 8 clips in" in text
    assert "mute-000000.tar" in text
    for name in ("av_localization", "av_sync"):
        del given["tasks"][name]
    assert "the task subtitle_matching needs sentences, and none of the 8 clips" in refused(given)


def test_a_picture_task_trains_on_silent_shards(silent: str, tmp_path: Path) -> None:
    given = settings(silent, steps=1)
    given["tasks"] = {"rotation": given["tasks"]["rotation"]}
    main(["pretrain", "--config", str(write_settings(tmp_path / "s.yaml", given)), "--run", str(tmp_path / "run")])
    assert list(Encoders.from_pretrained(tmp_path / "run").names()) == ["image"]  # the others are used by no task
    assert not (tmp_path / "run" / "tokenizer.json").exists()


def test_an_existing_run_is_neither_overwritten_nor_resumed_from_nothing(
    corpus: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    assert "does not exist, there is nothing to resume" in refused(settings(corpus), "--resume")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert "exists already; go on with --resume, or name another --run" in refused(settings(corpus))
    assert "has no checkpoint yet" in refused(settings(corpus), "--resume")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_batches_that_do_not_fit(corpus: str, refused: Callable[..., str]) -> None:
    assert "holds 9 clips, less than one batch of 16" in refused(settings(corpus), "--data.batch_size=16")
    text = refused(settings(corpus), "--train.accumulate=3", "--train.allow_accumulated_negatives=true")
    assert "data.batch_size 8 does not divide by 1 ranks x 3 micro-batches" in text
    assert "the nearest that does is 9" in text
    text = refused(settings(corpus), "--train.accumulate=2")
    assert "the tasks av_localization, av_sync, subtitle_matching compare the clips of a batch" in text


def test_missing_shards_and_sources(corpus: str, refused: Callable[..., str]) -> None:
    assert "shard '/nowhere/a.tar' does not exist" in refused(settings("/nowhere/a.tar"))
    given = settings(corpus)
    del given["data"]["shards"]
    assert "give data.shards or data.sources (neither is given)" in refused(given)
    both = [{"name": "a", "shards": corpus, "quota": 8}]
    given = settings(corpus)
    given["data"]["sources"] = both
    assert "give data.shards or data.sources (both are given)" in refused(given)


def test_no_task_and_an_unknown_encoder_class(corpus: str, refused: Callable[..., str]) -> None:
    assert "no task to train" in refused(settings(corpus) | {"tasks": {}})
    given = settings(corpus)
    given["encoders"]["image"] = {"class_path": "mmssl.nn.image.SmallImageEncodr"}
    assert "SmallImageEncodr" in refused(given)


def test_frames_have_one_size(corpus: str, refused: Callable[..., str], tmp_path: Path) -> None:
    given = settings(corpus, steps=1)
    given["tasks"]["rotation"]["init_args"] = {"size": [24, 24]}
    text = refused(given)
    assert "the tasks want frames of several sizes" in text
    assert "rotation: 24x24" in text
    given["tasks"] = {name: given["tasks"][name] for name in ("rotation", "order_prediction")}
    config = write_settings(tmp_path / "one.yaml", given)
    main(["pretrain", "--config", str(config), "--run", str(tmp_path / "run"), "--data.size=[40,48]"])
    assert (tmp_path / "run" / "encoders" / "model.safetensors").is_file()


def test_two_sources_with_quotas(corpus: str, silent: str, tmp_path: Path) -> None:
    given = settings(corpus, steps=2, accumulate=2)
    given["tasks"] = {"rotation": given["tasks"]["rotation"]}
    given["data"] |= {
        "shards": None,
        "sources": [{"name": "a", "shards": corpus, "quota": 6}, {"name": "b", "shards": silent, "quota": 2}],
    }
    run_folder = tmp_path / "run"
    main(["pretrain", "--config", str(write_settings(tmp_path / "two.yaml", given)), "--run", str(run_folder)])
    state = json.loads((run_folder / "checkpoints" / "step-0000002" / "state.json").read_text())
    taken = {row["name"]: row["epoch"] * row["samples"] + row["next"] for row in state["stream"]["sources"]}
    assert taken == {"a": 12, "b": 4}


def test_run_folder_says_what_the_run_is(corpus: str, tmp_path: Path) -> None:
    config = write_settings(tmp_path / "s.yaml", settings(corpus, steps=2, checkpoint_every=1, tensorboard=True))
    run_folder = tmp_path / "run"
    main(["pretrain", "--config", str(config), "--run", str(run_folder), "--train.steps=1"])
    names = {p.name for p in run_folder.iterdir()}
    assert names == {
        "checkpoints", "config.yaml", "encoders", "environment.json", "metrics.jsonl", "spectrum.json", "tensorboard",
        "tokenizer.json",
    }  # fmt: skip
    environment = json.loads((run_folder / "environment.json").read_text())
    assert environment["versions"]["torch"] == importlib.metadata.version("torch")
    assert environment["precision"] == "fp32"
    main(["pretrain", "--resume", "--run", str(run_folder), "--train.steps=2"])  # a longer run than was planned
    assert "steps: 1\n" in (run_folder / "config.yaml").read_text()
    assert "steps: 2\n" in (run_folder / "config.resumed-at-1.yaml").read_text()
    heads = {p.stem for p in (run_folder / "encoders" / "heads").glob("*.json")}
    assert heads == {"av_localization", "av_sync", "subtitle_matching"}
    assert Encoders.load_head(run_folder, "av_localization").encoders == {"picture": "image", "sound": "audio"}


def test_the_same_settings_object_runs_twice(corpus: str, tmp_path: Path) -> None:
    train = dataclasses.replace(settings_of(settings(corpus, steps=1)["train"]))
    config = PretrainConfig(
        run=tmp_path / "a",
        tasks={"rotation": EndsEarly()},
        data=DataSettings(shards=corpus, batch_size=8, workers=0),
        encoders={"image": settings(corpus)["encoders"]["image"]},
        train=train,
    )
    run(config)
    run(dataclasses.replace(config, run=tmp_path / "b"))
    files = [(tmp_path / name / "encoders" / "model.safetensors").read_bytes() for name in "ab"]
    assert files[0] == files[1]
    assert "class_path: tests.laws.runs.EndsEarly" in (tmp_path / "a" / "config.yaml").read_text()
    assert "steps: 1" in plain_config(config)


def settings_of(train: dict[str, Any]) -> Any:
    from mmssl.training.settings import TrainSettings

    return TrainSettings(**train)


def test_the_vocabulary_comes_from_the_tokenizer() -> None:
    tokenizer = Tokenizer.train(["one two three", "three four"], vocabulary=60)
    tasks = {"subtitle_matching": TASKS["subtitle_matching"]()}
    builds = setup.encoder_builds({}, tasks, tokenizer)
    assert builds["text"] == Build("mmssl.nn.text.TextEncoder", {"vocabulary": tokenizer.size})
    given = {"text": Build("mmssl.nn.text.TextEncoder", {"vocabulary": 99, "width": 8})}
    assert setup.encoder_builds(given, tasks, tokenizer)["text"].init_args == {"vocabulary": 99, "width": 8}


def test_start_weights_are_a_function_of_the_seed() -> None:
    def weights(seed: int) -> torch.Tensor:
        tasks = {"rotation": EndsEarly()}
        multitask = setup.build_multitask(setup.encoder_builds({}, tasks, None), tasks, {}, None, seed)
        return torch.cat([p.flatten() for p in multitask.parameters()])

    before = torch.get_rng_state()
    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))
    assert torch.equal(before, torch.get_rng_state())


def test_a_run_starts_from_the_encoders_of_another(
    corpus: str, tmp_path: Path, refused: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = settings(corpus, steps=1)
    first, second = tmp_path / "first", tmp_path / "second"
    main(["pretrain", "--config", str(write_settings(tmp_path / "a.yaml", whole)), "--run", str(first)])

    def from_first(**more: Any) -> dict[str, Any]:
        about = {**settings(corpus, steps=2), "optimizer": {"lr": 1e-12}, "seed": 5}
        about["tasks"] = {"rotation": about["tasks"]["rotation"]}
        about["encoders"] = {"image": {"weights": str(first), **more}}
        return about

    config = write_settings(tmp_path / "b.yaml", from_first())
    capsys.readouterr()
    main(["pretrain", "--config", str(config), "--run", str(second), "--train.steps=1"])
    assert f"starts from {first}" in capsys.readouterr().err
    one, two = (Encoders.from_pretrained(run_folder)["image"].state_dict() for run_folder in (first, second))
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in one)  # it hardly moved

    first.rename(tmp_path / "elsewhere")  # what a run started from is not needed to go on with it
    main(["pretrain", "--resume", "--run", str(second), "--train.steps=2"])
    (tmp_path / "elsewhere").rename(first)

    assert "no encoder 'flow' in" in refused({**from_first(), "encoders": {"flow": {"weights": str(first)}}})
    assert "unknown setting 'encoders.image.weight'; did you mean 'weights'?" in refused(
        {**from_first(), "encoders": {"image": {"class_path": "mmssl.nn.image.SmallImageEncoder", "weight": "x"}}}
    )
    assert "nowhere is not there; name a run, its encoders, or a file" in refused(from_first(weights="nowhere"))
    other = {"class_path": "mmssl.nn.image.SmallImageEncoder", "init_args": {"channels": [8, 8, 12]}}
    assert "are of another architecture than SmallImageEncoder" in refused(from_first(**other))


def test_a_text_encoder_starts_with_the_tokenizer_that_it_read_by(
    corpus: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    first = tmp_path / "first"
    about = settings(corpus, steps=1)
    about["tasks"] = {"subtitle_matching": about["tasks"]["subtitle_matching"]}
    main(["pretrain", "--config", str(write_settings(tmp_path / "a.yaml", about)), "--run", str(first)])
    spelling = tmp_path / "other.json"
    spelling.write_text(Tokenizer.train(["quite other words"], vocabulary=60).to_json())
    about["encoders"] = {**about["encoders"], "text": {"weights": str(first)}}
    message = refused(about, f"--data.tokenizer={spelling}")
    assert f"take its own: data.tokenizer {first / 'encoders' / 'tokenizer.json'}" in message
    config, same = write_settings(tmp_path / "b.yaml", about), f"--data.tokenizer={first / 'tokenizer.json'}"
    main(["pretrain", "--config", str(config), "--run", str(tmp_path / "second"), same])


def test_quotas_divide_by_micro_batches() -> None:
    assert setup.share_of(Source("a", "x", 6), 2) == Source("a", "x", 3)
    with pytest.raises(UserError, match=r"the quota 5 of the source 'a' does not divide by train\.accumulate 2"):
        setup.share_of(Source("a", "x", 5), 2)
