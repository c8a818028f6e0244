"""Local members are read at their places by files that stay open, and a file that was replaced is opened anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmssl.data.shards.local_reader import LocalReader
from mmssl.errors import UserError

CONTENT = os.urandom(200_000)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("files") / "bytes"
    path.write_bytes(CONTENT)
    return path


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 210_000), st.integers(0, 90_000)), max_size=8))
def test_every_member_is_the_bytes_at_its_place(file, places):
    named = {str(number): place for number, place in enumerate(places)}
    found = LocalReader().read(file, named)
    assert list(found) == list(named)
    assert found == {name: CONTENT[at : at + size] for name, (at, size) in named.items()}


def test_small_neighbours_are_one_read(file, monkeypatch):
    calls = []
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda *asked: calls.append(asked[1:]) or real(*asked))
    LocalReader().read(file, {"json": (90_000, 300), "mp4": (10_000, 80_000), "vtt": (90_512, 40), "pkt": (91_000, 10)})
    assert sorted(calls) == [(1010, 90_000), (80_000, 10_000)]


def test_files_stay_open_and_no_more_than_were_allowed(tmp_path):
    def opened() -> int:
        return len(os.listdir("/proc/self/fd"))

    paths = []
    for number in range(9):
        paths.append(tmp_path / str(number))
        paths[-1].write_bytes(bytes([number]) * 10)
    before = opened()
    reader = LocalReader(keep=3)
    for _ in range(2):
        for number, path in enumerate(paths):
            assert reader.read(path, {"x": (2, 3)}) == {"x": bytes([number]) * 3}
    assert opened() == before + 3
    reader.close()
    assert opened() == before


def test_a_file_that_was_replaced_or_removed_is_noticed(tmp_path):
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"old bytes")
    other.write_bytes(b"new bytes")
    reader = LocalReader()
    assert reader.read(path, {"x": (0, 3)}) == {"x": b"old"}
    os.replace(other, path)
    assert reader.read(path, {"x": (0, 3)}) == {"x": b"new"}
    path.unlink()
    with pytest.raises(UserError, match="does not exist any more"):
        reader.read(path, {"x": (0, 3)})
