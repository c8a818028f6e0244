"""`mmssl bench data` through the console script: parts sum to the whole, counts are right, nothing stays wrapped."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mmssl.clip import Span, Window
from mmssl.data import Source, Stream
from mmssl.data import worker as worker_module
from mmssl.data.bench import instrument, measure_parts
from mmssl.data.bench.memory import memory_of
from mmssl.data.bench.stopwatch import Stopwatch
from mmssl.data.decode import fitting, pyav, sound
from mmssl.data.packets_make import checked_table
from mmssl.data.shards.index import read_index
from pipelines.bench import worker_counts
from tests.corpora import write_corpus, write_tar

SCRIPT = Path(sys.executable).with_name("mmssl")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_corpus(tmp_path_factory.mktemp("corpus"), [6, 6])


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, "bench", "data", *arguments], capture_output=True, text=True, timeout=200, check=False
    )


@pytest.fixture(scope="module")
def results(shards: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    out = tmp_path_factory.mktemp("out") / "new" / "bench.json"
    window = ["--window.picture", '{"seconds": 1.0, "rate": 4.0}', "--window.size", "[32,32]"]
    done = bench("--data.shards", shards, "--data.batch_size", "4", "--batches", "3", *window, "--out", str(out))
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(out.read_text())


def test_parts_sum_to_the_whole(results: tuple[str, dict[str, Any]]) -> None:
    found = results[1]["in_this_process"]
    parts = found["parts"]
    assert sum(part["ms_a_clip"] for part in parts.values()) == pytest.approx(found["ms_a_clip"], rel=0.02)
    assert sum(part["share"] for part in parts.values()) == pytest.approx(1.0, abs=0.01)
    named = {"read", "open", "demux", "decode picture", "decode sound", "convert and scale", "place and copy"}
    assert named | {"subtitles and json", "collate", "rest"} == set(parts)
    assert all(part["ms_a_clip"] > 0 for part in parts.values())
    assert parts["rest"]["share"] < 0.4


def test_counts_are_right(results: tuple[str, dict[str, Any]], shards: str) -> None:
    found = results[1]["in_this_process"]
    samples = [s for p in Path(shards).parent.glob("*.tar") for s in read_index(p).samples]
    sizes = [sum(size for _, size in sample.members.values()) for sample in samples]
    assert found["clips"] == 12
    assert found["failed"] == 0
    assert found["decoder_calls_a_clip"] == 1
    assert found["wanted_pictures"] == 12 * 4
    assert min(sizes) <= found["bytes_a_clip"] <= max(sizes)
    assert 1.0 <= found["decoded_a_wanted_picture"] < 8


def test_loader_rows(results: tuple[str, dict[str, Any]]) -> None:
    text, found = results
    rows = found["loader"]
    assert [row["workers"] for row in rows] == [0, 1, 2]
    for row in rows:
        assert row["clips"] == 12
        assert row["clips_per_second"] > 0
        assert 0 <= row["index_seconds"] < row["start_seconds"]
        assert row["memory"]["processes"] == max(row["workers"], 1)
        assert 0 < row["memory"]["unique"] <= row["memory"]["proportional"] <= row["memory"]["resident"]
    assert rows[0]["wait_share"] == 0
    assert rows[0]["memory"]["unique"] > 2 * rows[1]["memory"]["unique"], "a worker has no torch"
    assert 0 < rows[1]["wait_share"] <= 1
    assert "decode picture" in text
    assert "kB read a clip" in text
    assert "\x1b[" not in text


def test_nothing_stays_wrapped_and_failures_are_counted(tmp_path: Path, shards: str) -> None:
    first = next(iter(Path(shards).parent.glob("*.tar")))
    sample = read_index(first).samples[0]
    data = first.read_bytes()
    members = {name: data[at : at + size] for name, (at, size) in sample.members.items()}
    tar = write_tar(tmp_path / "mixed.tar", [("good", members), ("bad", {**members, "mp4": b"nothing of the kind"})])
    steps = {
        (module, name): getattr(module, name)
        for module, name in [(worker_module, "read_clip"), (worker_module, "read_members"), (pyav, "open_media")]
    }
    methods = (fitting.PictureFitter.fit_into, sound.SoundPlacer.add, pyav.PyAVDecoder.decode)
    window = Window(picture=Span(1.0, 8.0), sound=Span(1.0, 16000.0), size=(16, 16))
    report = measure_parts(lambda workers: Stream([Source("data", str(tar))], window, 2, workers=workers), 4)
    assert (report.clips, report.failed) == (8, 4)
    assert report.wanted_pictures == 4 * 8
    assert all(getattr(module, name) is step for (module, name), step in steps.items())
    assert methods == (fitting.PictureFitter.fit_into, sound.SoundPlacer.add, pyav.PyAVDecoder.decode)
    assert report.parts[instrument.OPEN] > 0


def test_clips_with_packet_tables_open_no_container(tmp_path: Path, shards: str) -> None:
    first = next(iter(Path(shards).parent.glob("*.tar")))
    data = first.read_bytes()
    samples = []
    for sample in read_index(first).samples:
        members = {name: data[at : at + size] for name, (at, size) in sample.members.items()}
        samples.append((sample.key, members | {"pkt": checked_table(members["mp4"])}))
    tar = write_tar(tmp_path / "tables.tar", samples)
    window = Window(picture=Span(1.0, 8.0), sound=Span(1.0, 16000.0), size=(16, 16))
    report = measure_parts(lambda workers: Stream([Source("data", str(tar))], window, 2, workers=workers), 6)
    assert report.failed == 0
    assert instrument.DEMUX not in report.parts
    for part in (instrument.READ, instrument.OPEN, instrument.PICTURE, instrument.SOUND, instrument.CONVERT):
        assert report.parts[part] > 0
    assert sum(report.parts.values()) == pytest.approx(report.seconds, rel=0.01)


def test_the_stopwatch_gives_each_moment_to_one_part() -> None:
    watch = Stopwatch()

    def inner() -> None:
        time.sleep(0.03)

    def outer() -> None:
        time.sleep(0.02)
        watch.wrap("inner", inner)()

    def items():
        for number in range(3):
            time.sleep(0.01)
            yield number

    begin = time.perf_counter()
    watch.wrap("outer", outer)()
    with pytest.raises(ZeroDivisionError):
        watch.wrap("failing", lambda: (time.sleep(0.01), 1 / 0))()
    assert list(watch.each("items", items())) == [0, 1, 2]
    whole = time.perf_counter() - begin
    slept = {"inner": 0.03, "outer": 0.02, "items": 0.03, "failing": 0.01}
    assert set(watch.seconds) == set(slept)
    for part, least in slept.items():  # a busy machine sleeps longer; that nothing counts twice is told by the sum
        assert watch.seconds[part] >= 0.95 * least, part
    assert sum(watch.seconds.values()) == pytest.approx(whole, abs=0.005)
    assert watch.calls == {"outer": 1, "inner": 1, "failing": 1, "items": 4}


def test_memory_is_that_of_the_process() -> None:
    program = (  # a process of its own: what others have freed would be taken again
        "from mmssl.data.bench.memory import memory_of\n"
        "before = memory_of()\nkept = bytearray(b'x') * (64 << 20)\nprint(memory_of().unique - before.unique)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(64, abs=8)
    assert memory_of([2**22 + 1]).processes == 0


def test_worker_counts() -> None:
    assert [worker_counts(most) for most in (0, 1, 2, 3, 8)] == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 4, 8]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--data.shards", "nowhere.tar"), "nowhere.tar"),
        ((), "data.shards"),
        (("--data.shards", "x", "--batches", "0"), "batches=0"),
        (("--data.shards", "x", "--data.batchsize", "4"), "batchsize"),
    ],
)
def test_mistakes_are_said(arguments: tuple[str, ...], said: str) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
