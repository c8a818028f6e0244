"""Packet tables beside tars by others: made by the console script, used by the stream; damaged clips go without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmssl.data import Span, Stream, Window
from mmssl.data.packets import PacketTable
from mmssl.data.packets_make import checked_table
from mmssl.data.shards.check import check_shards
from mmssl.data.shards.index import read_index, read_members
from mmssl.data.shards.tables import make_tables, tables_path
from tests.corpora import sample, write_tar

WINDOW = Window(Span(0.5, 5), sound=Span(0.5, 16000), size=(64, 96))


@pytest.fixture
def foreign(tmp_path):
    """A tar of four clips by another program; one is garbage."""
    samples = [sample(tmp_path, f"clip{n}", n, audio_codec="aac") for n in range(3)]
    return write_tar(tmp_path / "foreign-000000.tar", [*samples, ("clip3", {"mp4": b"\0\0\0\x20ftypisom" * 40})])


def batches(path: Path) -> list:
    with Stream(str(path), WINDOW, 4, workers=0) as stream:
        return [next(iter(stream))[0]]


def test_tables_are_made_beside_the_tar_and_give_the_same_batches(foreign):
    before = batches(foreign)[0]
    script = Path(sys.executable).with_name("mmssl")
    done = subprocess.run([script, "shards", "index", str(foreign)], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert "4 clips: 3 with packet tables" in done.stdout
    assert "1 without" in done.stdout
    entries = read_index(foreign).samples
    held = tables_path(foreign).read_bytes()
    for entry in entries[:3]:
        at, size = entry.packets
        media = read_members(foreign, entry, ["mp4"])["mp4"]
        assert PacketTable.from_bytes(held[at : at + size], len(media)).video is not None
    assert entries[3].packets is None
    after = batches(foreign)[0]
    assert after.keys == before.keys
    assert torch.equal(after.frames, before.frames)
    assert torch.equal(after.frame_times, before.frame_times)
    assert (after.audio - before.audio).abs().max() < 0.05


def test_the_stream_uses_the_tables_beside_a_tar(foreign, monkeypatch):
    make_tables([foreign], processes=1)
    from mmssl.data.decode import pyav

    opened = []
    original = pyav.open_media
    monkeypatch.setattr(pyav, "open_media", lambda media: opened.append(1) or original(media))
    batch = batches(foreign)[0]
    assert batch.weight.sum() == 3
    assert len(opened) <= 2, "only the clip without a table is opened as a container"


def test_tables_within_a_tar_that_cannot_be_read_are_told_and_made_anew_beside_it(tmp_path):
    """Those of an older form, say."""
    samples = [sample(tmp_path, f"clip{n}", n, audio_codec="aac") for n in range(3)]
    tables = [checked_table(members["mp4"]) for _, members in samples]
    older = tables[1].replace(b"mmssl-pk", b"mmssl-po")
    for (_, members), table in zip(samples, [tables[0], older, tables[2]], strict=True):
        members["pkt"] = table
    tar = write_tar(tmp_path / "built-000000.tar", samples)

    def fallbacks() -> int:
        with Stream(str(tar), WINDOW, 3, workers=0, repeat=False) as stream:
            assert [batch.weight.sum() for batch, _ in stream] == [3]
            return stream.counters["fallback: pyav: packet table"]

    assert fallbacks() == 1
    report = check_shards(str(tar), decode=True, processes=1)
    assert [note.cause for note in report.notes] == ["packet table"]
    assert report.ok
    assert make_tables([tar], processes=1).tables == 3
    assert fallbacks() == 0


def test_tables_of_another_tar_cost_nothing(foreign):
    make_tables([foreign], processes=1)
    tables_path(foreign).unlink()
    assert batches(foreign)[0].weight.sum() == 3
