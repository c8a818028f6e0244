"""The index says where members lie, for our tars and for foreign ones, and notices when it is not of its tar."""

from __future__ import annotations

import io
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from mmssl.data.shards.index import index_path, read_index, read_members, write_index
from mmssl.errors import UserError


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_foreign_tar_is_indexed_by_its_headers(tmp_path):
    meta = json.dumps({"duration": 9.5, "label": 3, "caption": "a dog", "status": "success"}).encode()
    failed = json.dumps({"status": "failed_to_download"}).encode()
    path = write_tar(
        tmp_path / "00000.tar",
        {
            "000000001.mp4": b"video one",
            "000000001.txt": b"a dog",
            "000000001.json": meta,
            "000000002.json": failed,
            "dir.v2/clip.en.VTT": b"WEBVTT",
            "dir.v2/clip.mp4": b"video two",
            "__meta__.json": b"{}",
            "dir.v2/other.cls": b" 7\n",
            "dir.v2/other.webm": b"video three",
        },
    )
    index = read_index(path)
    assert [sample.key for sample in index.samples] == ["000000001", "dir.v2/clip", "dir.v2/other"]
    first, second, third = index.samples
    assert (first.duration, first.label, first.has_audio) == (9.5, "3", None)
    assert read_members(path, first) == {"mp4": b"video one", "txt": b"a dog", "json": meta}
    assert read_members(path, second, ["en.vtt", "absent"]) == {"en.vtt": b"WEBVTT"}
    assert (third.label, third.media) == ("7", "webm")
    assert index.without_media == 1
    assert read_index(path) == index, "the stored index says the same"
    assert index_path(path).exists()


def test_index_of_another_tar_is_made_anew(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"one.mp4": b"1", "two.mp4": b"22"})
    read_index(path)
    write_tar(path, {"three.mp4": b"333"})
    assert [sample.key for sample in read_index(path).samples] == ["three"]


def test_same_size_other_content_is_noticed(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"one.mp4": b"1", "two.mp4": b"22"})
    read_index(path)
    write_tar(path, {"six.mp4": b"1", "ten.mp4": b"22"})
    os.utime(path, ns=(1, 1))
    assert [sample.key for sample in read_index(path).samples] == ["six", "ten"]


def test_copied_shard_keeps_what_its_index_knows(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"one.mp4": b"1"})
    sample = read_index(path).samples[0]
    write_index(path, [replace(sample, duration=2.5, has_audio=True, label="dog", n_sentences=4)])
    os.utime(path, ns=(10**18, 10**18))  # as a copy would
    again = read_index(path).samples[0]
    assert (again.duration, again.has_audio, again.label, again.n_sentences) == (2.5, True, "dog", 4)


def test_an_index_of_another_program_is_left_alone(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"one.mp4": b"1"})
    index_path(path).write_text("v1.2 1\nmp4 512 1 one.mp4\n")
    assert len(read_index(path)) == 1
    assert index_path(path).read_text().startswith("v1.2")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.mp4": b"1", "b.mp4": b"2", "a.txt": b"x"}, "two samples with the key 'a'"),
        ({"a.txt": b"1"}, "holds no sample with video"),
        ({}, "holds no sample with video"),
    ],
)
def test_tars_that_cannot_be_used(tmp_path, members, message):
    with pytest.raises(UserError, match=message):
        read_index(write_tar(tmp_path / "a.tar", members))


def test_missing_compressed_and_truncated_tars(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.tar' does not exist"):
        read_index(tmp_path / "nothing.tar")
    with pytest.raises(UserError, match="not a readable, uncompressed tar"):
        read_index(write_tar(tmp_path / "z.tar", {"a.mp4": b"1" * 2000}, mode="w:gz"))
    path = write_tar(tmp_path / "cut.tar", {"a.mp4": b"1" * 5000})
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"cut\.tar' is (cut short within 'a\.mp4'|not a readable)"):
        read_index(path)


def test_reading_from_a_shard_that_shrank(tmp_path):
    path = write_tar(tmp_path / "a.tar", {"a.mp4": b"1" * 5000})
    entry = read_index(path).samples[0]
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"ends within 'a\.mp4': it changed after it was indexed"):
        read_members(path, entry)
