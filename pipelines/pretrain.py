"""`mmssl pretrain`: train encoders with pretext tasks on shards, in one process or under torchrun."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import yaml
from rich.console import Console

from mmssl import distributed
from mmssl.clip import Pixels
from mmssl.data import RemoteSettings, Source, Stream
from mmssl.errors import UserError
from mmssl.nn.tokenizer import Kind, Tokenizer
from mmssl.tasks.base import PretextTask
from mmssl.training.environment import environment
from mmssl.training.files import write_whole
from mmssl.training.optim import OptimizerSettings
from mmssl.training.settings import TrainSettings
from mmssl.training.trainer import Trainer
from pipelines import pretrain_setup as setup

T = TypeVar("T")


@dataclass(frozen=True)
class DataSettings:
    """What is trained on.

    Args:
        shards: shard specification ('corpus/train-{000000..000009}.tar', a glob, a folder) or a list of them.
        sources: several sources with names and quotas instead of `shards`; the quotas sum to batch_size.
        heldout: shards that are never trained on: scores and the monitor are measured on them.
        batch_size: clips of a global batch, over all ranks.
        workers: decode processes of each rank; 0 decodes in the training process.
        size: height and width of the frames of all tasks; theirs when left out.
        shuffle_shards: shards whose samples are mixed.
        max_sentences: sentences kept of a clip, nearest to its anchor.
        decoder: pyav, torchcodec, decord, nvdec (pictures on the GPU), or auto for the first that works here.
        pixels: rgb, or yuv for planes that the device turns into RGB: half the bytes between workers and a GPU.
        tokenizer: tokenizer.json to use; trained on the first 100,000 sentences when left out.
        tokenizer_kind: of the one that is trained: wordpiece, or bpe over bytes.
        remote: how shards at addresses (http, https, s3, gs) are read.
    """

    shards: str | list[str] | None = None
    sources: list[Source] = field(default_factory=list)
    heldout: str | list[str] | None = None
    batch_size: int = 32
    workers: int = 2
    size: tuple[int, int] | None = None
    shuffle_shards: int = 8
    max_sentences: int = 8
    decoder: str = "pyav"
    pixels: Pixels = "rgb"
    tokenizer: Path | None = None
    tokenizer_kind: Kind = "wordpiece"
    remote: RemoteSettings = field(default_factory=RemoteSettings)

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError(f"data.workers must be at least 0, got {self.workers}")
        if self.batch_size < 2:
            raise ValueError(f"data.batch_size must be at least 2, got {self.batch_size}")

    def all_sources(self) -> list[Source]:
        """The sources, or the shards as one source named "data".

        Raises:
            UserError: none is given, or both are.
        """
        if bool(self.shards) == bool(self.sources):
            what = "both are given" if self.shards else "neither is given"
            raise UserError(f"give data.shards or data.sources ({what})")
        given = list(self.sources) if self.shards is None else [Source("data", self.shards)]
        return [dataclasses.replace(source, remote=source.remote or self.remote) for source in given]


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of `mmssl pretrain`.

    Args:
        run: the run folder; new, or with --resume that of an interrupted run.
        tasks: the pretext tasks by name.
        data: what is trained on.
        encoders: how encoders are made, by name, each {class_path: ..., init_args: {...}, weights: PATH}; those left
            out that a task uses are the small ones. The weights to start from are a file, or a run, whose encoder of
            this name is taken (and is then the class, where none is given).
        weights: weight of each task's loss, 1 where left out.
        optimizer: optimizer and learning rate.
        train: the loop.
        seed: seed of start weights, order of the data and all draws.
    """

    run: Path
    tasks: dict[str, PretextTask]  # type: ignore[type-arg]  # jsonargparse takes a bare class for "a subclass of it"
    data: DataSettings = field(default_factory=DataSettings)
    encoders: dict[str, dict[str, Any]] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    seed: int = 0


def on_main(make: Callable[[], T]) -> T:
    """What `make` gives on rank 0, on all ranks; its UserError is raised on all of them."""
    if not distributed.is_distributed():
        return make()
    box: list[Any] = [None]
    if distributed.is_main():
        try:
            box[0] = (make(), "")
        except UserError as error:
            box[0] = (None, str(error))
    dist.broadcast_object_list(box)
    made, wrong = box[0]
    if wrong:
        raise UserError(wrong)
    return made  # type: ignore[no-any-return]


def check_run_folder(run: Path, resume: bool) -> None:
    """Refuse to write over a run, or to resume where nothing is."""
    if resume:
        setup.last_checkpoint(run)
    elif run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise UserError(f"run folder {run} exists already; go on with --resume, or name another --run")


def plain_config(config: PretrainConfig) -> str:
    """The settings as YAML, for a config that was not read from YAML: tasks by their class only."""
    tasks = {n: {"class_path": f"{type(t).__module__}.{type(t).__qualname__}"} for n, t in config.tasks.items()}
    rest = dataclasses.asdict(dataclasses.replace(config, tasks={})) | {"tasks": tasks}
    return yaml.safe_dump(json.loads(json.dumps(rest, default=str)), sort_keys=False)


def run(
    config: PretrainConfig, resume: bool = False, resolved: str | None = None, console: Console | None = None
) -> Path:
    """Train, or go on with a run; returns the run folder.

    Args:
        config: the settings.
        resume: whether to go on from the run folder's last checkpoint.
        resolved: the settings as YAML, saved as config.yaml.
        console: where progress is shown; standard error by default.

    Raises:
        UserError: the settings, the shards or the run folder cannot be used; nothing has been written then.
    """
    device = distributed.start()
    try:
        return _run(config, resume, resolved or plain_config(config), console or Console(stderr=True), device)
    finally:
        distributed.stop()


def _run(config: PretrainConfig, resume: bool, resolved: str, console: Console, device: torch.device) -> Path:
    data, train = config.data, config.train
    on_main(lambda: check_run_folder(config.run, resume))
    tasks = setup.at_one_size(copy.deepcopy(config.tasks), data.size)
    train.check_tasks(tasks)
    setup.check_batch(data.batch_size, distributed.world_size(), train.accumulate)
    sources = data.all_sources()
    for number, source in enumerate(sources):
        if source.quota is not None:
            sources[number] = setup.share_of(source, train.accumulate)
    truth = any(task.needs_truth for task in tasks.values())
    about = setup.look_at_shards(sources, truth)
    setup.check_shards(tasks, about, data.batch_size)
    if data.heldout is not None:
        held = setup.look_at_shards([Source("held-out", data.heldout, remote=data.remote)], truth)
        setup.check_shards(tasks, held, 1)

    tokenizer = _tokenizer(config, tasks, resume)
    given, start = setup.read_builds(config.encoders, config.run if resume else None)
    builds = setup.encoder_builds(given, tasks, tokenizer)
    multitask = setup.build_multitask(builds, tasks, config.weights, tokenizer, config.seed, train.control, start)

    def stream(sources: Sequence[Source], batch_size: int, once: bool) -> Stream:
        return Stream(
            sources,
            multitask.window,
            batch_size,
            seed=config.seed,
            workers=data.workers,
            tokenizer=tokenizer,
            max_sentences=data.max_sentences,
            shuffle=not once,
            shuffle_shards=data.shuffle_shards,
            repeat=not once,
            anchor="centre" if once else "random",
            decoder=data.decoder,
            pixels=data.pixels,
            device=device,
        )

    def heldout() -> Stream:
        return stream([Source("held-out", data.heldout or "", remote=data.remote)], data.batch_size, once=True)

    def first_clips() -> Stream:
        return stream([dataclasses.replace(sources[0], quota=None)], data.batch_size, once=True)

    with stream(sources, data.batch_size // train.accumulate, once=False) as training:
        trainer = Trainer(
            multitask,
            training,
            train,
            config.optimizer,
            run=config.run,
            seed=config.seed,
            device=device,
            heldout=heldout if data.heldout is not None else None,
            monitored=heldout if data.heldout is not None else first_clips,
            console=console,
        )
        step = trainer.resume() if resume else 0
        precision = trainer.precision.name
        if distributed.is_main():
            _start_folder(config, resolved, environment(device, precision), tokenizer, step)
            lines = setup.plan_lines(multitask, training, about, train, precision, step, start)
            console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
        distributed.barrier()
        trainer.train()
    return config.run


def _tokenizer(config: PretrainConfig, tasks: Mapping[str, PretextTask[Any, Any]], resume: bool) -> Tokenizer | None:
    """The run's tokenizer where a task needs text: the run folder's, the given one, or one trained now."""
    if not any(task.window.text for task in tasks.values()):
        return None

    def make() -> str:
        saved = config.run / "tokenizer.json"
        if resume and saved.is_file():
            return saved.read_text()
        if config.data.tokenizer is not None:
            try:
                return config.data.tokenizer.read_text()
            except OSError as error:
                raise UserError(f"data.tokenizer {config.data.tokenizer}: {error.strerror}") from error
        return setup.train_tokenizer(config.data.all_sources(), config.data.tokenizer_kind).to_json()

    return Tokenizer.from_json(on_main(make))


def _start_folder(
    config: PretrainConfig, resolved: str, about: Mapping[str, Any], tokenizer: Tokenizer | None, step: int
) -> None:
    """Write what the run is; a resumed one keeps its first settings and lays the new ones beside them."""
    config.run.mkdir(parents=True, exist_ok=True)
    first = config.run / "config.yaml"
    if not first.exists():
        write_whole(first, resolved)
    elif first.read_text() != resolved:
        write_whole(config.run / f"config.resumed-at-{step}.yaml", resolved)
    name = "environment.json" if not step else f"environment.resumed-at-{step}.json"
    write_whole(config.run / name, json.dumps(about, indent=2))
    if tokenizer is not None:
        write_whole(config.run / "tokenizer.json", tokenizer.to_json())


def main(arguments: Sequence[str], prog: str = "mmssl pretrain") -> None:
    """The command: settings from files and flags, `--resume` to go on with a run.

    ``--resume --run FOLDER`` without ``--config`` takes the settings that the run was started with.
    """
    from pipelines.config import parse_settings

    arguments = list(arguments)
    given = {a.partition("=")[0] for a in arguments}
    if "--resume" in given and "--config" not in given and "--run" in given:
        position = next(n for n, a in enumerate(arguments) if a.partition("=")[0] == "--run")
        folder = arguments[position].partition("=")[2] or next(iter(arguments[position + 1 :]), "")
        if folder and (Path(folder) / "config.yaml").is_file():
            arguments = ["--config", str(Path(folder) / "config.yaml"), *arguments]
    flags = {"resume": "go on from the last checkpoint of the run folder"}
    config, switches, resolved = parse_settings(PretrainConfig, arguments, prog, flags)
    print(run(config, switches["resume"], resolved))
