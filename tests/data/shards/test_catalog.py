"""Plans of many shards: one line an index, indices made by processes, kept where they can be, entries when due."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from mmssl.data.shards import index_file
from mmssl.data.shards.catalog import read_catalog
from mmssl.data.shards.entry import SampleEntry, ShardIndex
from mmssl.data.shards.index import cached_index_path, index_path, read_index, status_of, write_index
from mmssl.data.shards.index_file import Header, StoredEntries, digest_of_keys, read_header
from mmssl.errors import UserError
from tests.data.shards.test_index import write_tar


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MMSSL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def shards(tmp_path) -> list[Path]:
    """Seven foreign tars of one to seven samples, none indexed."""
    (tmp_path / "corpus").mkdir()
    return [
        write_tar(
            tmp_path / "corpus" / f"{number:05d}.tar",
            {
                f"s{number}c{clip}.{end}": f"{clip}{end}".encode()
                for clip in range(number + 1)
                for end in ("mp4", "vtt")
            },
        )
        for number in range(7)
    ]


@pytest.fixture
def no_room(shards) -> list[Path]:
    """The same where no index can be written beside them: folders lie in its place (root may write anywhere)."""
    for path in shards:
        index_path(path).mkdir()
    return shards


def test_foreign_tars_are_indexed_in_processes_before_the_plan(shards, cache):
    told: list[tuple[int, int]] = []
    catalog = read_catalog(shards, lambda *progress: told.append(progress), processes=2)
    assert told == [(n, 7) for n in range(1, 8)]
    assert catalog.lengths.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert all(index_path(path).is_file() for path in shards)
    assert not cache.exists()
    told.clear()
    again = read_catalog(shards, lambda *progress: told.append(progress))
    assert told == []
    assert (again.digests, again.statuses) == (catalog.digests, catalog.statuses)
    for number, path in enumerate(shards):
        assert list(again.entries(number)) == read_index(path).samples


def test_where_the_folder_cannot_be_written_indices_go_to_the_cache(no_room, cache):
    catalog = read_catalog(no_room, processes=2)
    assert len(list((cache / "indices").glob("*.idx"))) == 7
    assert catalog.kept == {}
    assert [entry.key for entry in catalog.entries(2)] == ["s2c0", "s2c1", "s2c2"]
    # Another tar at the same place has an index of its own.
    os.utime(no_room[2], ns=(5, 5))
    assert read_catalog(no_room).lengths.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert len(list((cache / "indices").glob("*.idx"))) == 8


def test_where_nothing_can_be_written_indices_stay_in_memory(no_room, cache):
    cache.write_text("a file where the folder should be")
    catalog = read_catalog(no_room)
    assert set(catalog.kept) == set(range(7))
    assert [entry.key for entry in catalog.entries(1)] == ["s1c0", "s1c1"]


def test_a_plan_reads_one_line_of_each_index_and_entries_one_line_each(shards, cache, monkeypatch):
    read_catalog(shards)
    monkeypatch.setattr(index_file, "entry_of", lambda row: pytest.fail("a plan needs no entry"))
    catalog = read_catalog(shards)
    parsed: list[str] = []
    monkeypatch.setattr(index_file, "entry_of", lambda row: parsed.append(row["key"]))
    catalog.entries(6)[4]
    assert parsed == ["s6c4"]


def test_an_older_index_is_read_whole_and_gets_the_new_header(shards, cache):
    read_catalog(shards)
    for path in shards:  # as it was written before headers said what a plan needs
        header, *lines = index_path(path).read_text().splitlines()
        old = {name: json.loads(header)[name] for name in ("mmssl_index", "tar", "size", "mtime_ns", "without_media")}
        rows = [{**json.loads(line), "label": "known"} for line in lines]
        index_path(path).write_text("\n".join(json.dumps(row) for row in (old, *rows)) + "\n")
        assert read_header(index_path(path)) is None
    catalog = read_catalog(shards)
    assert catalog.lengths.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert {entry.label for n in range(7) for entry in catalog.entries(n)} == {"known"}
    assert all(read_header(index_path(path)) is not None for path in shards)


def test_a_header_says_what_tasks_need_and_a_digest_of_the_keys(tmp_path):
    tar = write_tar(tmp_path / "a.tar", {"x.mp4": b"1"})
    samples = [
        SampleEntry("x", {"mp4": (512, 1)}, has_audio=False, packets=(7, 9)),
        SampleEntry("y", {"mp4": (512, 1), "vtt": (0, 0)}, has_audio=True, n_sentences=2),
    ]
    write_index(tar, samples, cut_short="z.mp4")
    header = read_header(index_path(tar))
    assert header == Header(status_of(tar), 2, digest_of_keys("xy"), silent=1, wordless=1, cut_short="z.mp4")
    assert digest_of_keys("xy") != digest_of_keys("yx")
    assert digest_of_keys(["xy"]) != digest_of_keys("xy")
    catalog = read_catalog([tar])
    assert (catalog.silent, catalog.wordless, catalog.cut_short) == (1, 1, (str(tar),))
    assert list(catalog.entries(0)) == samples == read_index(tar).samples
    assert read_index(tar) == ShardIndex(tar, samples, 0, "z.mp4")


def test_names_that_are_no_unicode_and_lines_within_labels(tmp_path, cache):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in (b"caf\xe9".decode(errors="surrogateescape"), "two\u2028lines\x85"):
            tar.addfile(tarfile.TarInfo(f"{name}.mp4"))
    read_catalog([tmp_path / "a.tar"])
    stored = StoredEntries(index_path(tmp_path / "a.tar"))
    assert [entry.key for entry in stored] == ["caf\udce9", "two\u2028lines\x85"]
    assert len(stored) == 2
    assert stored[-1] == stored[1:][0]
    with pytest.raises(IndexError):
        stored[2]


def test_a_shard_that_changes_under_a_plan_is_said_and_one_that_goes_leaves_its_keys(shards, cache):
    catalog = read_catalog(shards)
    write_tar(shards[1], {"other.mp4": b"x" * 700})
    index_path(shards[1]).unlink()
    with pytest.raises(UserError, match=r"00001.tar' changed while it was being read; start again"):
        catalog.entries(1)
    shards[2].unlink()
    assert [entry.key for entry in catalog.entries(2)] == ["s2c0", "s2c1", "s2c2"]
    index_path(shards[2]).unlink()
    assert [(entry.key, entry.members) for entry in catalog.entries(2)] == [(f"00002/{n}", {}) for n in range(3)]


def test_a_tar_that_cannot_be_indexed_is_named(shards, cache):
    write_tar(shards[3], {"a.mp4": b"1" * 2000}, mode="w:gz")
    with pytest.raises(UserError, match=r"00003.tar' is not a readable, uncompressed tar .*gzip"):
        read_catalog(shards)


def test_a_cut_tar_is_named_in_the_catalog(shards, cache):
    content = shards[6].read_bytes()
    shards[6].write_bytes(content[: content.index(b"s6c5.mp4") + 514])
    catalog = read_catalog(shards)
    assert catalog.cut_short == (str(shards[6]),)
    assert catalog.lengths.tolist() == [1, 2, 3, 4, 5, 6, 5]
    assert read_catalog(shards).cut_short == (str(shards[6]),)  # from the header


def test_the_cache_is_named_after_place_size_and_time(shards, cache):
    status = status_of(shards[0])
    name = cached_index_path(shards[0], status)
    assert name.parent == cache / "indices"
    assert cached_index_path(shards[0], (status[0], 7)) != name
    assert cached_index_path(shards[0], (7, status[1])) != name
    assert cached_index_path(shards[1], status) != name
    shutil.rmtree(cache, ignore_errors=True)
