"""The stream: sharded clips, decoded once, as batches in an order that ranks and workers do not change."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mmssl import distributed
from mmssl.batch import Batch, Truth
from mmssl.clip import Pixels, Window
from mmssl.data.budget import Budget
from mmssl.data.collate import Tokenizes, collate
from mmssl.data.decode.choose import choose
from mmssl.data.order import OrderName
from mmssl.data.plan import Plan, SourcePlan, check_world, quotas, rank_batch
from mmssl.data.pool import Pool, decode_here
from mmssl.data.shards.truth import check_truth
from mmssl.data.sources import IndexedSource, Place, Source, as_sources
from mmssl.data.storage.settings import RemoteSettings
from mmssl.data.worker import MEMORY, Anchor, Decoded, Failure, Job, Row, Settings
from mmssl.errors import UserError
from mmssl.randomness import sample_seed

FORMAT = "mmssl-stream-2"
AHEAD = 2  # batches a worker may be ahead


class Stream:
    """Batches of decoded clips with their truth apart: ``for batch, truth in stream``.

    Args:
        sources: shards (a specification or a list of them), or sources with names and quotas.
        window: what is decoded.
        batch_size: clips of a *global* batch; each rank gets its slice.
        seed: seed of the order and of all draws.
        workers: decode processes; 0 decodes in this one. With decoder "nvdec" its threads in this process.
        rank, world: this rank and their number, by default those of the process group.
        tokenizer: makes token ids of the sentences.
        max_sentences: sentences kept a clip.
        shuffle: whether epochs are permuted.
        shuffle_shards: shards whose samples are mixed.
        order: "epochs" (every sample once an epoch) or "resampled" (drawn with replacement); a source may say its own.
        repeat: epoch after epoch without end; else one pass, every sample once, the last batch filled up with rows
            of weight 0.
        anchor: where views lie: drawn, in the middle, or evenly spread.
        decoder: name of the decoder, or "auto" for the first that works here.
        pixels: "rgb", or "yuv": planes stay as they come (half the bytes) until the device turns them into RGB.
        device: where the batches are put.
        timeout: seconds that one sample may take before its worker counts as hung.
        remote: how shards at addresses (http, https, s3, gs) are read.
        progress: called with (shards indexed, shards to index) while indices are made that foreign tars lack.
        memory: bytes that a worker may take beyond its start; a sample that needs more is a hole.

    Raises:
        UserError: no shards, an empty corpus, a batch size that does not divide by the ranks, or (while iterating)
            more failing samples than the budget allows.
    """

    def __init__(
        self,
        sources: str | Path | Source | Sequence[str | Path | Source],
        window: Window,
        batch_size: int,
        *,
        seed: int = 0,
        workers: int = 2,
        rank: int | None = None,
        world: int | None = None,
        tokenizer: Tokenizes | None = None,
        max_sentences: int = 8,
        shuffle: bool = True,
        shuffle_shards: int = 8,
        order: OrderName = "epochs",
        repeat: bool = True,
        anchor: Anchor = "random",
        decoder: str = "pyav",
        pixels: Pixels = "rgb",
        device: torch.device | str = "cpu",
        timeout: float = 60.0,
        remote: RemoteSettings | None = None,
        progress: Callable[[int, int], None] | None = None,
        memory: int = MEMORY,
    ) -> None:
        given = [replace(source, remote=source.remote or remote) for source in as_sources(sources)]
        self.rank = distributed.rank() if rank is None else rank
        self.world = distributed.world_size() if world is None else world
        check_world(batch_size, self.rank, self.world)
        if workers < 0:
            raise UserError(f"workers must be at least 0 (0 decodes in the main process), got {workers}")
        if shuffle_shards < 1:
            raise UserError(f"shuffle_shards must be at least 1, got {shuffle_shards}; shuffle=False keeps the order")
        if pixels == "yuv" and any(side % 2 for side in window.size):
            raise UserError(f"pixels='yuv' needs a window of even height and width, got {window.size}")
        self.decoder = choose(decoder, pixels)
        self.quotas = quotas(given, batch_size)
        self.shuffle_shards = shuffle_shards if shuffle else 0
        self.sources = [IndexedSource(source, seed, self.shuffle_shards, order, progress) for source in given]
        if window.truth:
            for indexed in self.sources:
                check_truth(indexed.name, indexed.catalog)
        self.window = window
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers
        self.tokenizer = tokenizer
        self.max_sentences = max_sentences
        self.repeat = repeat
        self.device = device
        self.timeout = timeout
        self.settings = Settings(window, anchor, self.decoder.name, batch_size // self.world, AHEAD, pixels, memory)
        self.positions = [0] * len(given)  # samples of each source handed out
        self.places: tuple[Place | None, ...] = ()  # where the rows of the batch handed out last come from
        self.counters: Counter[str] = Counter()
        if cut := sum(len(source.catalog.cut_short) for source in self.sources):
            self.counters["shards cut short"] = cut
        self.failures: deque[str] = deque(maxlen=200)  # messages of the last samples that failed
        self._budget: Budget | None = Budget()
        self._outcomes: list[int] = []  # of rows not yet taken by whoever has taken the budget over
        self.quarantine: dict[str, str] = {}  # "source/key" -> cause: samples that killed or hung a worker
        self._iteration: Generator[tuple[Batch, Truth], None, None] | None = None
        if not repeat and len(given) > 1:
            raise UserError("one pass over several sources is several streams; give one source, or repeat")
        if not repeat and self.sources[0].order_name == "resampled":
            raise UserError("samples drawn with replacement make no pass; leave repeat=True")

    @property
    def plan(self) -> Plan:
        """What will be read, as numbers and as text."""
        rows = [
            SourcePlan(s.name, len(s.catalog.shards), len(s), quota, s.order_name, s.catalog.cut_short)
            for s, quota in zip(self.sources, self.quotas, strict=True)
        ]
        decoder = f"{self.decoder.name} ({self.decoder.why})"
        return Plan(tuple(rows), self.batch_size, self.world, self.repeat, decoder)

    @property
    def coverage(self) -> dict[str, float]:
        """Share of each source's samples that was handed out (to all ranks, holes too) in its epoch begun.

        Where samples are drawn with replacement it is the share that was drawn at least once.
        """
        return {s.name: s.seen(at) / len(s) for s, at in zip(self.sources, self.positions, strict=True)}

    @property
    def epoch(self) -> int:
        """Passes over the first source that are complete."""
        return self.positions[0] // len(self.sources[0])

    def __len__(self) -> int:
        """Batches of one pass over the first source, the last one filled up."""
        return -(-len(self.sources[0]) // self.quotas[0])

    def _seed_of(self, place: Place | None) -> int:
        if place is None:
            return 0
        return sample_seed(self.seed, place.epoch, place.source, place.entry.key, place.visit)

    def _jobs(self) -> Iterator[Job]:
        """This rank's batches from the position on."""
        positions = list(self.positions)
        number = 0
        while self.repeat or positions[0] < len(self.sources[0]):
            mine = tuple(rank_batch(self.sources, self.quotas, positions, self.repeat, self.rank, self.world))
            yield Job(number, mine, tuple(self._seed_of(place) for place in mine))
            positions = [p + q for p, q in zip(positions, self.quotas, strict=True)]
            number += 1

    def __iter__(self) -> Iterator[tuple[Batch, Truth]]:
        self.close()
        self._iteration = self._run()
        return self._iteration

    def _run(self) -> Generator[tuple[Batch, Truth], None, None]:
        batches: Generator[tuple[Job, Decoded], None, None]
        if self.decoder.name == "nvdec":
            batches = self._decoded_on_device()
        elif self.workers:
            batches = Pool(self.settings, self.workers, self.timeout, self.quarantine).decode(self._jobs())
        else:
            batches = decode_here(self._jobs(), self.settings, self.quarantine)
        with closing(batches):
            for job, decoded in batches:
                self._count_sources(job.places, decoded.rows)
                self._count(decoded.rows)
                batch, truth = collate(
                    decoded,
                    job.places,
                    job.seeds,
                    self.window,
                    tokenizer=self.tokenizer,
                    max_sentences=self.max_sentences,
                )
                self.counters.update(batch.counters)
                self.counters["batches"] += 1
                batch, truth = batch.to(self.device), truth.to(self.device)
                self.positions = [p + q for p, q in zip(self.positions, self.quotas, strict=True)]
                self.places = job.places
                yield batch, truth
        self.positions = [0] * len(self.sources)  # one pass is over: the next begins anew

    def _decoded_on_device(self) -> Generator[tuple[Job, Decoded], None, None]:
        """Batches decoded in this process on the device; `workers` are its threads."""
        from mmssl.data.decode.nvdec import NVDECDecoder
        from mmssl.data.on_device import THREADS, decode_on_device

        device = torch.device(self.device)
        if device.type != "cuda":
            raise UserError(f"decoder 'nvdec' puts frames on a CUDA device, not on '{device}'; set device='cuda'")
        return decode_on_device(
            self._jobs(),
            self.settings,
            self.quarantine,
            lambda: NVDECDecoder(device),
            device,
            threads=self.workers or THREADS,
            timeout=self.timeout,
        )

    def _count_sources(self, places: Sequence[Place | None], rows: Sequence[Row | Failure | None]) -> None:
        """Count this rank's samples and failures, and everyone's passes, by source."""
        for place, row in zip(places, rows, strict=True):
            if place is not None:
                self.counters[f"samples of {place.source}"] += 1
                if isinstance(row, Failure):
                    self.counters[f"failed of {place.source}"] += 1
        for source, position, quota in zip(self.sources, self.positions, self.quotas, strict=True):
            passes = (position + quota) // len(source)
            self.counters[f"passes of {source.name}"] = passes if self.repeat else min(passes, 1)

    def _count(self, rows: Sequence[Row | Failure | None]) -> None:
        """Count samples and failures by cause; stop past the budget."""
        for row in rows:
            if row is None:
                continue
            self.counters["samples"] += 1
            if isinstance(row, Failure):
                self.counters[f"failed: {row.cause}"] += 1
                self.failures.append(row.message)
            else:
                self.counters.update(row.clip.left_out)
            if self._budget is not None and self._budget.note([isinstance(row, Failure)]):
                causes = {k.removeprefix("failed: "): n for k, n in self.counters.items() if k.startswith("failed: ")}
                raise self._budget.error(causes, list(self.failures)[-3:])
        if self._budget is None:
            self._outcomes += [-1 if row is None else int(isinstance(row, Failure)) for row in rows]

    def share_budget(self) -> None:
        """Leave the budget to the caller, who adds up the ranks with `take_outcomes`: one rank must not stop alone."""
        self._budget = None

    def take_outcomes(self) -> list[int]:
        """1 for each row handed out since the last call whose sample failed, 0 for a good one, -1 for no sample."""
        taken, self._outcomes = self._outcomes, []
        return taken

    def state_dict(self) -> dict[str, Any]:
        """The position after the batches handed out, as plain numbers and strings; any rank's will do.

        `next` counts samples within the `epoch` of each source. `quarantine` names the samples that killed or hung
        a worker of this rank; they are not tried again.
        """
        sources = [
            {
                "name": source.name,
                "samples": len(source),
                "order": source.order_name,
                "fingerprint": source.fingerprint,
                "epoch": position // len(source),
                "next": position % len(source),
            }
            for source, position in zip(self.sources, self.positions, strict=True)
        ]
        return {
            "format": FORMAT,
            "seed": self.seed,
            "shuffle_shards": self.shuffle_shards,
            "batches": self.counters["batches"],
            "sources": sources,
            "quarantine": dict(self.quarantine),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on at a saved position; ranks, workers and batch size may be others than when it was saved.

        Raises:
            UserError: the position belongs to another order: another seed, other sources or other samples in them.
        """
        if state.get("format") != FORMAT:
            raise UserError(f"the saved data position has the format {state.get('format')!r}, not {FORMAT!r}")
        for name in ("seed", "shuffle_shards"):
            if state[name] != getattr(self, name):
                raise UserError(
                    f"the saved data position is of {name} {state[name]}, this run has {getattr(self, name)}; "
                    "resume with the same"
                )
        saved = {row["name"]: row for row in state["sources"]}
        names = {source.name for source in self.sources}
        if set(saved) != names:
            raise UserError(
                f"the saved data position is of the sources {', '.join(sorted(saved))}, this run has "
                f"{', '.join(sorted(names))}; resume with the same"
            )
        for source in self.sources:
            row = saved[source.name]
            if row["order"] != source.order_name:
                raise UserError(
                    f"the saved data position is of the order '{row['order']}' of the source '{source.name}', this "
                    f"run has '{source.order_name}'; resume with the same"
                )
            if (row["samples"], row["fingerprint"]) != (len(source), source.fingerprint):
                raise UserError(
                    f"the source '{source.name}' has changed: {row['samples']} samples when the data position was "
                    f"saved, {len(source)} now (or other keys, or another order); resume on the same shards"
                )
        self.close()
        self.positions = [saved[s.name]["epoch"] * len(s) + saved[s.name]["next"] for s in self.sources]
        self.counters["batches"] = int(state["batches"])
        self.quarantine.update(state["quarantine"])

    def close(self) -> None:
        """End the workers; iterating again starts new ones where this iteration stopped."""
        if self._iteration is not None:
            self._iteration.close()
            self._iteration = None

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
