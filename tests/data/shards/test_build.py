"""Building shards: whole or not at all, resumable, nothing lost in silence, readable by others."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
import webdataset

from mmssl.data.corpora.source import Source
from mmssl.data.shards import BuildSettings, build
from mmssl.data.shards.build_pool import BuildPool
from mmssl.data.shards.clips import Failure
from mmssl.data.shards.index import read_index, read_members
from mmssl.errors import UserError
from tests import media

SETTINGS = BuildSettings(short_side=32, clip_seconds=1.0, min_seconds=0.5, samples_per_shard=4, processes=1)


def film(path, seconds=1.0, seed=0, **options):
    return media.flash_and_click(path, seconds=seconds, at=(0.4,), size=(32, 48), seed=seed, **options)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Nine videos in three folders, some with subtitles, and four files that cannot be used."""
    root = tmp_path_factory.mktemp("corpus")
    for i in range(9):
        label = ("dog", "drum", "rain")[i % 3]
        path = film(root / label / f"{label} {i}.mp4", seconds=2.0, seed=i, audio_codec=None if i == 4 else "aac")
        if i % 2:
            path.with_suffix(".en.vtt").write_text(
                f"WEBVTT\n\n00:00.200 --> 00:00.800\nthis is number {i}\n\n00:01.900 --> 00:02.000\nend\n"
            )
    (root / "text.mp4").write_text("a text file, whatever its name says\n" * 30)
    (root / "empty.mkv").write_bytes(b"")
    media.truncated(root / "cut.mp4", root / "dog" / "dog 0.mp4", 0.3)
    (root / "frames").mkdir()
    for i in range(4):
        (root / "frames" / f"{i:03d}.jpg").write_bytes(b"\xff\xd8")
    (root / "notes.txt").write_text("not a video")
    return root


@pytest.fixture(scope="module")
def built(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("shards") / "out"
    progress = []
    return build(corpus, out, replace(SETTINGS, processes=2), progress.append), progress


def keys_of(folder):
    return [sample.key for path in sorted(Path(folder).glob("*.tar")) for sample in read_index(path).samples]


def failures_of(folder):
    return [json.loads(line) for line in (Path(folder) / "failures.jsonl").read_text().splitlines()]


def test_summary_and_failures(built):
    summary, progress = built
    assert (summary.sources, summary.made, summary.clips) == (12, 18, 18)
    assert (summary.with_sound, summary.with_sentences) == (16, 8)
    assert [path.name for path in summary.shards] == [f"clips-{i:06d}.tar" for i in range(5)]
    assert summary.causes == {
        "folder of frames": 1,
        "not a known container": 1,
        "empty file": 1,
        "unreadable": 1,
    }
    assert summary.ignored == {".txt": 1}
    rows = {row["path"]: row["cause"] for row in failures_of(summary.folder)}
    assert rows == {
        "frames": "folder of frames",
        "text.mp4": "not a known container",
        "empty.mkv": "empty file",
        "cut.mp4": "unreadable",
    }
    assert (progress[-1].sources_done, progress[-1].sources, progress[-1].clips) == (12, 12, 18)


def test_members_and_index_agree(built):
    summary, _ = built
    for path in summary.shards:
        with tarfile.open(path) as tar:
            headers = {m.name: (m.offset_data, m.size) for m in tar}
            assert tar.format == tarfile.USTAR_FORMAT or all(m.isfile() for m in tar)
        index = read_index(path)
        listed = {f"{s.key}.{name}": place for s in index.samples for name, place in s.members.items()}
        assert listed == headers
        assert list(listed) == list(headers), "members of a sample follow each other"
        for sample in index.samples:
            meta = json.loads(read_members(path, sample, ["json"])["json"])
            assert meta["key"] == sample.key
            assert meta["label"] == sample.label == meta["source"].split("/")[0]
            assert (meta["duration"], meta["has_audio"]) == (sample.duration, sample.has_audio)
            assert sample.n_sentences == meta["n_sentences"]
            assert ("vtt" in sample.members) == (sample.n_sentences > 0)


def content_of(folder):
    """Every sample in order: (shard, key, description, subtitles, frames, sound)."""
    rows = []
    for path in sorted(Path(folder).glob("*.tar")):
        for sample in read_index(path).samples:
            members = read_members(path, sample)
            seen = media.measure(members["mp4"])
            decoded = (len(seen.frame_times), seen.flashes, seen.samples, seen.clicks)
            rows.append((path.name, sample.key, json.loads(members["json"]), members.get("vtt"), decoded))
    return rows


def test_the_same_corpus_gives_the_same_shards(corpus, built, tmp_path):
    """Whatever the number of workers: the fixture had two."""
    build(corpus, tmp_path / "again", SETTINGS)
    assert content_of(tmp_path / "again") == content_of(built[0].folder)


def test_plain_webdataset_reads_them(built):
    summary, _ = built
    samples = list(webdataset.WebDataset([str(path) for path in summary.shards], shardshuffle=False))
    assert sorted(sample["__key__"] for sample in samples) == sorted(keys_of(summary.folder))
    assert all(sample["mp4"][4:8] == b"ftyp" for sample in samples)


def test_timm_info(built):
    summary, _ = built
    for name in ("clips_info.json", "_info.json"):
        split = json.loads((summary.folder / name).read_text())["splits"]["clips"]
        assert split == {
            "name": "clips",
            "filenames": [path.name for path in summary.shards],
            "shard_lengths": [4, 4, 4, 4, 2],
            "num_samples": 18,
        }


def test_a_second_run_makes_only_what_is_missing(corpus, built, tmp_path):
    root, out = tmp_path / "corpus", tmp_path / "out"
    shutil.copytree(corpus, root)
    first = build(root, out, SETTINGS)
    before = {path: path.stat().st_mtime_ns for path in first.shards}
    film(root / "rain" / "new.mp4", seconds=1.0, seed=77)
    film(root / "text.mp4", seconds=1.0, seed=78)  # mended
    second = build(root, out, SETTINGS)
    assert (second.made, second.clips) == (2, 20)
    assert second.sources_present == 11
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    assert {row["path"] for row in failures_of(out)} == {"frames", "empty.mkv", "cut.mp4"}
    third = build(root, out, SETTINGS)
    assert (third.made, third.clips) == (0, 20)
    assert len(set(keys_of(out))) == 20


KILLED = """
import sys
from pathlib import Path
from mmssl.data.shards import BuildSettings, build
build(Path(sys.argv[1]), Path(sys.argv[2]),
      BuildSettings(short_side=32, clip_seconds=1.0, min_seconds=0.5, samples_per_shard=4))
"""


def test_killed_and_run_again(corpus, built, tmp_path):
    """SIGKILL in mid-run leaves whole tars and temporary files; the next run completes them without repeats."""
    out = tmp_path / "out"
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(corpus), str(out)], env=environment)
    deadline = time.monotonic() + 60
    while not (out / "clips-000000.tar").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = sorted(out.glob("*.tar"))
    assert done, "killed after the first shard"
    for path in done:
        with tarfile.open(path) as tar:
            assert len(tar.getmembers()) >= 8
    (out / "clips-000009.idx").write_text("left by a kill between index and rename")
    (out / ".clips-000009.tar.tmp").write_bytes(b"half a tar")
    with open(out / "progress.jsonl", "a") as file:
        file.write('{"source": "torn li')
    summary = build(corpus, out, SETTINGS)
    assert sorted(keys_of(out)) == sorted(keys_of(built[0].folder))
    assert summary.clips == 18
    assert not list(out.glob(".*.tmp"))
    assert not (out / "clips-000009.idx").exists()
    assert summary.causes == built[0].causes


def test_keys_that_collide(tmp_path):
    for name in ("a b.mp4", "a_b.mp4", "A_B.mkv", "ü.mp4", "日本.mp4", "x" * 120 + ".mp4", "c.mp4"):
        film(tmp_path / "in" / name)
    build(tmp_path / "in", tmp_path / "out", SETTINGS)
    keys = keys_of(tmp_path / "out")
    assert len({key.lower() for key in keys}) == 7
    assert "c-0000" in keys
    assert "u-0000" in keys
    assert sum(key.startswith(("a_b-", "A_B-")) for key in keys) == 3
    for key in keys:
        assert len(key) < 80
        assert set(key) <= set("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-")


def test_number_of_one_source_spelt_by_another(tmp_path):
    film(tmp_path / "in" / "a.mp4", seconds=2.0)
    manifest = tmp_path / "in" / "m.csv"
    film(tmp_path / "in" / "b.mp4")
    manifest.write_text("path,key\na.mp4,k\nb.mp4,k-0001\n")
    build(manifest, tmp_path / "out", SETTINGS)
    keys = keys_of(tmp_path / "out")
    assert len(set(keys)) == 3
    assert {"k", "k-0001"} < set(keys)
    again = build(manifest, tmp_path / "out", SETTINGS)
    assert again.made == 0


def test_soundstage_folder_with_splits_and_truth(tmp_path):
    root = tmp_path / "stage"
    rows = []
    for i in range(5):
        film(root / "clips" / f"s{i}.mp4", seed=i)
        (root / "clips" / f"s{i}.vtt").write_text("WEBVTT\n\n00:00.100 --> 00:00.500\nthe red ball rolls\n")
        rows.append(
            {
                "path": f"clips/s{i}.mp4",
                "key": f"stage-{i:03d}",
                "label": "roll",
                "split": "test" if i == 2 else "train",
                "subtitles": f"clips/s{i}.vtt",
                "truth": {"action": "roll", "boxes": [[0.1, 0.2, 0.3, 0.4]]},
                "seed": i,
            }
        )
    (root / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = build(root, tmp_path / "out", replace(SETTINGS, clip_seconds=None))
    assert [path.name for path in summary.shards] == ["test-000000.tar", "train-000000.tar"]
    test, train = (read_index(path).samples for path in summary.shards)
    assert [sample.key for sample in test] == ["stage-002"]
    assert sorted(sample.key for sample in train) == ["stage-000", "stage-001", "stage-003", "stage-004"]
    meta = json.loads(read_members(summary.shards[0], test[0])["json"])
    assert meta["truth"] == rows[2]["truth"]
    assert (meta["split"], meta["extra"], meta["n_sentences"]) == ("test", {"seed": 2}, 1)
    info = json.loads((tmp_path / "out" / "_info.json").read_text())["splits"]
    assert {name: split["num_samples"] for name, split in info.items()} == {"train": 4, "test": 1}


def test_a_worker_that_dies_costs_one_source(corpus, tmp_path, monkeypatch):
    submit = BuildPool.submit
    killed = []

    def submit_and_kill(self, task, source, present):
        submit(self, task, source, present)
        if source.name == "dog/dog 3.mp4":
            slot = next(slot for slot in self._slots if slot.task == task)
            os.kill(slot.process.pid, signal.SIGSEGV)
            killed.append(source.name)

    monkeypatch.setattr(BuildPool, "submit", submit_and_kill)
    summary = build(corpus, tmp_path / "out", SETTINGS)
    assert summary.causes["worker died"] == 1
    assert summary.clips == 16
    row = next(row for row in failures_of(tmp_path / "out") if row["cause"] == "worker died")
    assert row["path"] == "dog/dog 3.mp4"
    assert "ended by SIGSEGV" in row["message"]
    monkeypatch.undo()
    assert build(corpus, tmp_path / "out", SETTINGS).made == 0, "the file has not changed"
    assert build(corpus, tmp_path / "out", replace(SETTINGS, retry_failed=True)).clips == 18


def test_a_worker_that_hangs_is_given_up(tmp_path):
    path = film(tmp_path / "a.mp4")
    with BuildPool(BuildSettings(processes=1, stall_seconds=1.0)) as pool:
        source = Source(path, "a.mp4", "a")
        pool.submit(0, source, frozenset())
        os.kill(pool._slots[0].process.pid, signal.SIGSTOP)
        events = []
        while not events:
            events = pool.events()
        assert isinstance(events[0][1], Failure)
        assert (events[0][0], events[0][1].cause) == (0, "timed out")
        pool.settings = replace(pool.settings, stall_seconds=120.0)  # its successor gets the time it needs
        pool.submit(1, source, frozenset())
        while pool.busy:
            events += pool.events()
    assert events[-1][1].clips == 1


def test_errors_that_name_the_way_out(corpus, built, tmp_path):
    out = built[0].folder
    with pytest.raises(UserError, match=r"built with other settings \(crf was 23 and is 30\)"):
        build(corpus, out, replace(SETTINGS, crf=30))
    with pytest.raises(UserError, match=r"holds shards built from '.*corpus.*', not from"):
        build(tmp_path_with_film(tmp_path), out, SETTINGS)
    with pytest.raises(UserError, match=r"source '.*/nothing' does not exist"):
        build(tmp_path / "nothing", tmp_path / "o", SETTINGS)
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match=r"empty corpus: .* lists no video"):
        build(tmp_path / "bare", tmp_path / "o", SETTINGS)
    assert not (tmp_path / "o").exists()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "x-000000.tar").write_bytes(b"")
    with pytest.raises(UserError, match="no build of mmssl recorded"):
        build(corpus, tmp_path / "foreign", SETTINGS)
    with pytest.raises(UserError, match="is a file; name a folder"):
        build(corpus, corpus / "notes.txt", SETTINGS)


def tmp_path_with_film(tmp_path):
    film(tmp_path / "other" / "a.mp4")
    return tmp_path / "other"


def test_nothing_decodable_is_an_empty_corpus(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").write_text("text " * 100)
    with pytest.raises(UserError, match=r"empty corpus: no clip could be made of the 1 sources .*a\.mp4: not a known"):
        build(tmp_path / "in", tmp_path / "out", SETTINGS)
    assert [path.name for path in (tmp_path / "out").glob("*.tar")] == []
    film(tmp_path / "in" / "b.mp4")
    assert build(tmp_path / "in", tmp_path / "out", SETTINGS).clips == 1


def test_two_builds_do_not_write_to_one_folder(corpus, tmp_path):
    (tmp_path / "out").mkdir()
    with open(tmp_path / "out" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another build is writing"):
            build(corpus, tmp_path / "out", SETTINGS)


def test_limit_and_going_on(corpus, tmp_path):
    assert build(corpus, tmp_path / "out", replace(SETTINGS, limit=3)).sources == 3
    assert build(corpus, tmp_path / "out", SETTINGS).clips == 18


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"clip_seconds": -1, "crf": 99}, "clip_seconds=-1 must be above 0.*crf=99 must lie in 0 to 51"),
        ({"size": (64, 64)}, "size needs 'crop' or 'stretch'"),
        ({"size": (63, 64), "fit": "crop"}, "must be even"),
        ({"prefix": "a/b"}, "prefix='a/b' may hold letters"),
        ({"clip_seconds": None, "stride": 1.0}, "stride needs clip_seconds"),
        ({"audio_rate": 12345}, "no rate of AAC"),
    ],
)
def test_settings_that_make_no_sense(values, message):
    with pytest.raises(UserError, match=message):
        BuildSettings(**values)


def test_workers_do_not_import_torch():
    code = "import sys, mmssl.data.shards.build_worker; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)))
