"""Headers of tars as Python's tarfile writes and reads them, in all its formats; and tars that were cut."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmssl.clip import Span, Window
from mmssl.data import Stream
from mmssl.data.shards.index import read_index, read_members
from mmssl.data.shards.tar_headers import CutShort, Member, NotATar, members
from mmssl.errors import UserError
from tests.corpora import sample, write_corpus, write_tar

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def tar_of(files: list[tuple[str, int]], form: int, others: bool = False) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, pax_headers={"comment": "of the whole"}) as tar:
        for number, (name, size) in enumerate(files):
            if others and number % 2:
                for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
                    info = tarfile.TarInfo(f"other{number}")
                    info.type, info.linkname = kind, "somewhere" * (20 if form != tarfile.USTAR_FORMAT else 1)
                    tar.addfile(info)
            info = tarfile.TarInfo(name)
            info.size, info.mtime = size, 1.5 if form == tarfile.PAX_FORMAT else 1
            tar.addfile(info, io.BytesIO(bytes([number % 255 + 1]) * size))
    return buffer.getvalue()


def found(data: bytes) -> list[Member]:
    return list(members(lambda at, count: data[at : at + count], len(data), "a.tar"))


def reference(data: bytes) -> list[Member]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        return [Member(member.name, member.offset_data, member.size) for member in tar if member.isfile()]


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=120)
FILES = st.lists(
    st.tuples(st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.integers(0, 3000)), min_size=1, max_size=6
)


@settings(max_examples=150, deadline=None)
@given(files=FILES, form=st.sampled_from(FORMATS[1:]), others=st.booleans())
def test_headers_are_those_that_tarfile_reads(files, form, others):
    data = tar_of(files, form, others)
    assert found(data) == reference(data)


@pytest.mark.parametrize("form", FORMATS)
def test_long_names_large_sizes_and_bytes_that_are_no_text(form):
    files = [("a" * 60 + "/" + "b" * 90 + ".mp4", 700), ("caf\udce9.mp4", 3), ("x.mp4", 0)]
    data = tar_of(files, form)
    assert found(data) == reference(data)
    assert [member.name for member in found(data)] == [name for name, _ in files]


def test_sizes_beyond_eight_gigabytes():
    for form in FORMATS[1:]:
        info = tarfile.TarInfo("huge.mp4")
        info.size = 9 << 30
        header = info.tobuf(form)
        size = len(header) + info.size
        read = lambda at, count, header=header: header[at : at + count].ljust(count, b"\0")  # noqa: E731
        assert list(members(read, size, "a.tar")) == [Member("huge.mp4", len(header), 9 << 30)]


def test_tars_of_the_program_tar(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / ("n" * 120 + ".mp4")).write_bytes(b"12345")
    (tmp_path / "d" / "b.json").write_bytes(b"{}")
    for form in ("gnu", "pax", "ustar"):
        subprocess.run(["tar", f"--format={form}", "-cf", "out.tar", "d"], cwd=tmp_path, check=False)
        data = (tmp_path / "out.tar").read_bytes()
        assert found(data) == reference(data)
        assert found(data)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_tar_cut_anywhere_gives_what_is_whole(data):
    whole = tar_of([("a.mp4", 700), ("p" * 150 + ".mp4", 1200), ("c.mp4", 10)], data.draw(st.sampled_from(FORMATS[1:])))
    expected = found(whole)
    length = data.draw(st.integers(512, len(whole)))
    cut, seen = whole[:length], []
    try:
        for member in members(lambda at, count: cut[at : at + count], len(cut), "a.tar"):
            seen.append(member)
    except CutShort:
        assert length < expected[-1].at + expected[-1].size
    assert seen == [member for member in expected if member.at + member.size <= length]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_bytes_raise_nothing_else(data):
    whole = bytearray(tar_of([("a.mp4", 700), ("p" * 150 + ".mp4", 1200), ("c.mp4", 10)], FORMATS[2]))
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=20)):
        whole[at] = data.draw(st.integers(0, 255))
    try:
        for member in found(bytes(whole)):
            assert 0 <= member.at <= member.at + member.size <= len(whole)
    except (CutShort, NotATar):
        pass


@pytest.mark.parametrize(("mode", "what"), [("w:gz", "gzip"), ("w:bz2", "bzip2"), ("w:xz", "xz")])
def test_compressed_tars_are_refused_by_name(tmp_path, mode, what):
    with tarfile.open(tmp_path / "a.tar", mode) as tar:
        tar.addfile(tarfile.TarInfo("a.mp4"))
    with pytest.raises(UserError, match=rf"not a readable, uncompressed tar \(it is {what}"):
        read_index(tmp_path / "a.tar")


WINDOW = Window(Span(0.8, 5), size=(32, 32))


def test_a_tar_cut_short_is_indexed_as_far_as_it_is_whole(tmp_path):
    path = Path(write_corpus(tmp_path, [4]).replace("{000000..000000}", "000000"))
    whole = read_index(path, store=False).samples
    cut_at = whole[2].members["vtt"][0] + 5
    path.write_bytes(path.read_bytes()[:cut_at])
    index = read_index(path)
    assert index.samples == whole[:2], "what the last one has lost nobody can say"
    assert index.cut_short == "clip0002.vtt"
    assert read_index(path) == index, "the stored index says the same"
    with Stream(str(path), WINDOW, 2, workers=0, repeat=False) as stream:
        assert sorted(key for batch, _ in stream for key in batch.keys) == ["clip0000", "clip0001"]
    path.write_bytes(path.read_bytes()[: whole[0].members["mp4"][0] + 9])
    with pytest.raises(UserError, match=r"cut short within 'clip0000\.mp4', before one sample is whole; copy it again"):
        read_index(path)


def test_a_damaged_header_ends_what_is_read_and_is_said(tmp_path):
    path = Path(write_corpus(tmp_path, [3]).replace("{000000..000000}", "000000"))
    whole = read_index(path, store=False).samples
    data = bytearray(path.read_bytes())
    data[whole[2].members["mp4"][0] - 512] ^= 0xFF
    path.write_bytes(data)
    index = read_index(path)
    assert index.samples == whole[:1] or index.samples == whole[:2]
    assert index.cut_short is not None
    assert "the damaged header at byte" in index.cut_short


def test_names_that_lead_out_are_keys_and_nothing_else(tmp_path):
    names = ["../../up", "/absolute/clip", "..", "a/../b"]
    clips = [(name, sample(tmp_path, f"clip{number}", number)[1]) for number, name in enumerate(names[:2])]
    path = write_tar(tmp_path / "in" / "a.tar", clips) if (tmp_path / "in").mkdir() is None else None
    before = sorted(tmp_path.rglob("*"))
    with Stream(str(path), WINDOW, 2, workers=0, repeat=False) as stream:
        keys = {key for batch, _ in stream for key in batch.keys}
    assert keys == set(names[:2])
    assert set(tmp_path.rglob("*")) - set(before) == {tmp_path / "in" / "a.idx"}


def test_a_sparse_member_is_refused(tmp_path):
    with open(tmp_path / "holes.mp4", "wb") as file:
        file.truncate(10 << 20)
        file.seek(5 << 20)
        file.write(b"1")
    for form in ("gnu", "posix"):
        command = ["tar", f"--format={form}", "--sparse", "-cf", "a.tar", "holes.mp4"]
        subprocess.run(command, cwd=tmp_path, check=True)
        with pytest.raises(UserError, match="pack it without --sparse"):
            read_index(tmp_path / "a.tar", store=False)


def test_members_are_read_where_the_walk_found_them(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of([("a.mp4", 700), ("a.json", 2000), ("b.mp4", 9000)], tarfile.PAX_FORMAT))
    for entry in read_index(path).samples:
        for data in read_members(path, entry).values():
            assert len(set(data)) == 1
