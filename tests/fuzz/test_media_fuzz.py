"""Thousands of broken films through the real path: each a row or a counted hole, and nothing else happens."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mmssl.clip import Span, Window
from mmssl.data import Stream
from mmssl.data.shards.index import read_index
from tests.corpora import write_tar
from tests.fuzz.mutations import mutated, retyped
from tests.fuzz.seeds import JSON, MUTATED, films, members

WINDOW = Window(Span(0.6, 5), Span(0.4, 16000), text=True, size=(32, 32))
BATCH = 20
SEED = 20


def corpus(folder: Path, count: int, seed: int) -> str:
    """A shard of mutated films; every tenth is whole, so that no batch is without a valid row."""
    rng = np.random.default_rng(seed)
    seeds = films(folder)
    names, every = list(seeds), list(seeds.values())
    whole = {name: members(film) for name, film in seeds.items()}
    assert sum("pkt" in sample for sample in whole.values()) >= 3
    samples = []
    for number in range(count):
        name = names[number % len(names)]
        sample = dict(whole[name])
        if number % 10 != 9:
            member = rng.choice(list(MUTATED), p=list(MUTATED.values()))
            member = member if member in sample else "mp4"
            if member in ("json", "pkt") and rng.random() < 0.6:
                sample[member] = retyped(sample[member], rng)
            else:
                sample[member] = mutated(sample[member], rng, every)
        if rng.random() < 0.5 and sample["json"] == JSON:  # foreign shards do not say how long a clip is
            del sample["json"]
        samples.append((f"{name.replace('.', '-')}-{number:05d}", sample))
    return str(write_tar(folder / "fuzz-000000.tar", samples))


def fuzz(folder: Path, count: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Run `count` films through a stream with a worker; returns the causes of the holes."""
    monkeypatch.setattr("mmssl.data.budget.BUDGET_OF", 10 * count)
    monkeypatch.setattr("mmssl.data.budget.BUDGET_SHARE", 1.0)
    canary = folder / "canary"
    canary.mkdir()
    (canary / "a.mp4").write_bytes(b"untouched")
    shards = folder / "shards"
    shards.mkdir()
    spec = corpus(shards, count, seed)
    monkeypatch.chdir(canary)  # where relative names would lead
    stream = Stream(spec, WINDOW, BATCH, workers=1, shuffle=False, repeat=False, timeout=30.0)
    before = sorted((path, path.stat().st_size) for path in folder.rglob("*"))
    rows: list[tuple[str, float]] = []
    with stream:
        for batch, _ in stream:
            assert batch.frames.shape[0] == BATCH
            rows += zip(batch.keys, batch.weight.tolist(), strict=True)
    assert sorted((path, path.stat().st_size) for path in folder.rglob("*")) == before
    assert [key for key, _ in rows if key] == [entry.key for entry in read_index(Path(spec)).samples]
    holes = [key for key, weight in rows if key and not weight]
    causes = Counter({k.removeprefix("failed: "): n for k, n in stream.counters.items() if k.startswith("failed: ")})
    assert sum(causes.values()) == len(holes)
    assert stream.counters["samples"] == count
    assert not any(int(key[-1]) == 9 for key in holes)  # the whole ones
    return causes


def test_some_broken_films(tmp_path, monkeypatch):
    causes = fuzz(tmp_path, 200, SEED, monkeypatch)
    assert sum(causes.values()) > 40  # else the mutations are harmless
    assert len(causes) >= 4


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(5))
def test_thousands_of_broken_films(tmp_path, monkeypatch, seed):
    began = time.monotonic()
    causes = fuzz(tmp_path, 500, seed, monkeypatch)
    print(f"\n500 films in {time.monotonic() - began:.0f} s: {dict(causes.most_common())}")


def test_a_packet_table_that_lies_never_costs_the_clip(tmp_path):
    """It is the demuxer's then; the film itself is whole."""
    rng = np.random.default_rng(SEED)
    whole = members(films(tmp_path)["mp4"])
    samples = [("clip-00000", dict(whole))]
    samples += [(f"clip-{n:05d}", {**whole, "pkt": retyped(whole["pkt"], rng)}) for n in range(1, 100)]
    spec = str(write_tar(tmp_path / "tables.tar", samples))
    with Stream(spec, WINDOW, 100, workers=1, shuffle=False, repeat=False, anchor="centre") as stream:
        ((batch, _),) = list(stream)
    assert batch.weight.all()
    same = [bool((batch.frames[row] == batch.frames[0]).all()) for row in range(100)]
    assert sum(same) > 90  # a table may still name another rotation or matrix, rightly formed
