"""What `mmssl pretrain` checks and builds before the first step: shards, sizes, tokenizer, encoders, the plan."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmssl.data import Source, Stream
from mmssl.data.sentences import first_sentences
from mmssl.data.shards.catalog import read_catalog
from mmssl.data.shards.index import expand_shards
from mmssl.data.shards.truth import check_truth, without_truth
from mmssl.errors import UserError, nearest
from mmssl.nn.build import SETTINGS, Build
from mmssl.nn.encoders import Encoders, encoders_folder, load_part, saved_build
from mmssl.nn.tokenizer import Kind, Tokenizer
from mmssl.tasks.base import Control, MultiTask, PretextTask
from mmssl.training.checkpoint import last_checkpoint as last_checkpoint
from mmssl.training.settings import TrainSettings

Tasks = Mapping[str, PretextTask[Any, Any]]

#: the encoder of a modality that a task uses and the settings leave out
DEFAULT_ENCODERS = {
    "image": "mmssl.nn.image.SmallImageEncoder",
    "video": "mmssl.nn.video.SmallVideoEncoder",
    "audio": "mmssl.nn.audio.SmallAudioEncoder",
    "flow": "mmssl.nn.flow.SmallFlowEncoder",
    "text": "mmssl.nn.text.TextEncoder",
}


def at_one_size(tasks: dict[str, PretextTask[Any, Any]], size: tuple[int, int] | None) -> Tasks:
    """The tasks with windows of one size: the given one, or their own where they agree.

    Raises:
        UserError: no size is given and the tasks want several.
    """
    if size is not None:
        for task in tasks.values():
            task.window = dataclasses.replace(task.window, size=(int(size[0]), int(size[1])))
    sizes = {name: task.window.size for name, task in tasks.items()}
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"{name}: {height}x{width}" for name, (height, width) in sizes.items())
        raise UserError(f"the tasks want frames of several sizes ({said}); set data.size to one for all")
    return tasks


def check_batch(batch_size: int, world: int, accumulate: int) -> None:
    """Refuse a global batch that does not divide by ranks times micro-batches."""
    shares = world * accumulate
    if batch_size % shares:
        nearest = max(shares, round(batch_size / shares) * shares)
        raise UserError(
            f"data.batch_size {batch_size} does not divide by {world} ranks x {accumulate} micro-batches "
            f"(train.accumulate); the nearest that does is {nearest}"
        )


def share_of(source: Source, accumulate: int) -> Source:
    """A source with the quota of one micro-batch."""
    quota = source.quota or 0
    if quota % accumulate:
        raise UserError(
            f"the quota {quota} of the source '{source.name}' does not divide by train.accumulate {accumulate}"
        )
    return dataclasses.replace(source, quota=quota // accumulate)


@dataclass(frozen=True)
class Contents:
    """What the indices say of some shards.

    Args:
        shards: the shards as they were given.
        samples: clips.
        silent: clips that are known to have no sound.
        wordless: clips that are known to have no sentence.
        truthless: clips without dense truth; counted where a task needs it.
    """

    shards: str
    samples: int
    silent: int
    wordless: int
    truthless: int = 0


def look_at_shards(sources: Sequence[Source], truth: bool = False) -> Contents:
    """Read the heads of all shards' indices (made and kept where missing); no media are touched.

    Raises:
        UserError: `truth` says that a task needs dense truth, and no clip of a source has any.
    """
    catalogs = [read_catalog(expand_shards(source.shards, source.remote)) for source in sources]
    samples = sum(int(catalog.lengths.sum()) for catalog in catalogs)
    silent, wordless = sum(c.silent for c in catalogs), sum(c.wordless for c in catalogs)
    said = ", ".join(s.shards if isinstance(s.shards, str) else " ".join(s.shards) for s in sources)
    truthless = 0
    if truth:
        for source, catalog in zip(sources, catalogs, strict=True):
            check_truth(source.name, catalog)
            truthless += without_truth(catalog)
    return Contents(said, samples, silent, wordless, truthless)


def check_shards(tasks: Tasks, about: Contents, batch_size: int) -> None:
    """Refuse shards that lack altogether what a task needs, or that do not fill a batch."""
    for what, missing, way in (
        ("sound", about.silent, "build shards from videos with sound"),
        ("text", about.wordless, "build shards from videos with subtitles"),
    ):
        needing = [name for name, task in tasks.items() if what in task.needs]
        if needing and missing == about.samples:
            things = "sound" if what == "sound" else "sentences"
            raise UserError(
                f"the task{'s' * (len(needing) > 1)} {', '.join(needing)} need{'s' * (len(needing) == 1)} {things}, "
                f"and none of the {about.samples} clips in {about.shards} has any; {way}, or leave out such tasks"
            )
    if about.samples < batch_size:
        raise UserError(
            f"{about.shards} holds {about.samples} clips, less than one batch of {batch_size}: a clip would stand in "
            f"it twice; set data.batch_size to at most {about.samples}, or build more shards"
        )


def train_tokenizer(sources: Sequence[Source], kind: Kind = "wordpiece") -> Tokenizer:
    """A tokenizer of the first 100,000 sentences in the shards' order."""
    sentences: list[str] = []
    for source in sources:
        sentences += first_sentences(source.shards, 100_000 - len(sentences), source.remote)
        if len(sentences) >= 100_000:
            break
    if not sentences:
        raise UserError("the shards hold no sentence to train a tokenizer on; leave out the tasks that need text")
    return Tokenizer.train(sentences, kind=kind)


def read_builds(
    given: Mapping[str, Mapping[str, Any]], resumed: Path | None = None
) -> tuple[dict[str, Build], dict[str, Path]]:
    """How each encoder is made, and its start weights if any: ``{class_path: ..., init_args: {...}, weights: PATH}``.

    Where the weights are a run (or its ``encoders`` folder), the class may be left out: it is that run's. A run that
    is resumed has its own weights, and does not need those that it started from.

    Args:
        given: the settings.
        resumed: the run folder that is gone on with.
    """
    builds, weights = {}, {}
    for name, about in given.items():
        for key in about:
            if key not in SETTINGS:
                raise UserError(f"encoders.{name}: unknown setting '{key}'{nearest(str(key), SETTINGS)}")
        path = None if about.get("weights") is None else Path(str(about["weights"]))
        if path is not None and resumed is None:
            if not path.exists():
                raise UserError(f"encoders.{name}.weights: {path} is not there; name a run, its encoders, or a file")
            weights[name] = path
        if isinstance(about.get("class_path"), str):
            builds[name] = Build(about["class_path"], dict(about.get("init_args") or {}))
        elif path is not None and (resumed is not None or path.is_dir()):
            builds[name] = saved_build(resumed or path, name)
        else:
            raise UserError(f"encoders.{name} must be {{class_path: ..., init_args: ...}}, got {dict(about)!r}")
    return builds, weights


def load_start_weights(encoders: Encoders, weights: Mapping[str, Path]) -> None:
    """Give encoders of the bundle, those named in `weights`, what another training made of them.

    Raises:
        UserError: weights of another architecture, or of a text encoder that read by another tokenizer.
    """
    for name, path in weights.items():
        if name not in encoders:
            continue  # no task uses it
        spelling = encoders_folder(path) / "tokenizer.json" if path.is_dir() else None
        reads = "vocabulary" in encoders.builds[name].init_args
        if reads and encoders.tokenizer is not None and spelling is not None and spelling.is_file():
            other = Tokenizer.from_json(spelling.read_text(encoding="utf-8"))
            if other.to_json() != encoders.tokenizer.to_json():
                raise UserError(
                    f"encoders.{name}.weights: {path} read by another tokenizer; "
                    f"take its own: data.tokenizer {spelling}"
                )
        load_part(encoders[name], name, path)


def encoder_builds(given: Mapping[str, Build], tasks: Tasks, tokenizer: Tokenizer | None) -> dict[str, Build]:
    """How each encoder that a task uses is made; the text encoder gets the tokenizer's vocabulary."""
    wanted: dict[str, str] = {}
    for task in tasks.values():
        wanted |= task.uses
    builds = {}
    for name, modality in wanted.items():
        build = given.get(name)
        if build is None:
            if modality not in DEFAULT_ENCODERS:
                raise UserError(f"no encoder '{name}' is given and modality '{modality}' has no default; add it")
            build = Build(DEFAULT_ENCODERS[modality])
        if tokenizer is not None and _takes_vocabulary(build) and "vocabulary" not in build.init_args:
            build = Build(build.class_path, {**build.init_args, "vocabulary": tokenizer.size})
        builds[name] = build
    return builds


def _takes_vocabulary(build: Build) -> bool:
    module, _, name = build.class_path.rpartition(".")
    try:
        made = getattr(importlib.import_module(module), name)
    except (ImportError, ValueError, AttributeError):
        return False  # Build.make() names the fault
    return "vocabulary" in inspect.signature(made).parameters


def build_multitask(
    builds: Mapping[str, Build],
    tasks: Tasks,
    weights: Mapping[str, float],
    tokenizer: Tokenizer | None,
    seed: int,
    control: Control = "none",
    start: Mapping[str, Path] | None = None,
) -> MultiTask:
    """Encoders and heads with start weights from `seed`, or those of `start`; the caller's generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoders = Encoders(builds, tokenizer)
        load_start_weights(encoders, start or {})  # before the tasks copy them for their teachers
        return MultiTask(encoders, tasks, weights, control)


def plan_lines(
    multitask: MultiTask,
    stream: Stream,
    about: Contents,
    train: TrainSettings,
    precision: str,
    step: int,
    start: Mapping[str, Path] | None = None,
) -> list[str]:
    """The plan, line by line, before the first step: data, steps, negatives, encoders, tasks."""
    micro = stream.batch_size
    batch = micro * train.accumulate
    epochs = train.steps * batch / about.samples
    lines = [f"data      {line}" for line in stream.plan.describe(train.steps * train.accumulate).splitlines()]
    lines.append(f"steps     {step} -> {train.steps} of {batch} clips, {epochs:.1f} epochs, {precision}")
    if any(task.negatives for task in multitask.tasks.values()):
        lines.append(f"negatives {micro - 1} clips an anchor")
    for name in multitask.encoders.names():
        encoder = multitask.encoders[name]
        count = sum(p.numel() for p in encoder.parameters())
        lines.append(
            f"encoder   {name}: {type(encoder).__name__}, {encoder.width} wide, {count / 1e6:.2f} M parameters"
            + (f", starts from {start[name]}" if start and name in start else "")
        )
    for name, task in multitask.tasks.items():
        floor = "as the batch says" if task.score.floor is None else f"{task.score.floor:.3g}"
        truth = f", TRAINED WITH THE TRUTH: {', '.join(task.needs_truth)}" if task.needs_truth else ""
        lines.append(f"task      {name}: {task.score.metric}, floor {floor}, weight {multitask.weights[name]:g}{truth}")
    for what, missing in (("sound", about.silent), ("text", about.wordless), ("dense truth", about.truthless)):
        needing = [name for name, task in multitask.tasks.items() if what in task.needs]
        if what == "dense truth":
            needing = list(multitask.truths)
        if missing and needing:
            lines.append(
                f"note      {missing} of {about.samples} clips have no {what}: no part in {', '.join(needing)}"
            )
    return lines
