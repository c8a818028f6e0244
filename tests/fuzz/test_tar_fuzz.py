"""Hundreds of broken tars through indexing and reading: an index, a hole or a `UserError`; nothing written outside."""

from __future__ import annotations

import io
import tarfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmssl.clip import Span, Window
from mmssl.data import Source, Stream
from mmssl.data.shards.index import index_path, read_index
from mmssl.errors import UserError
from tests.fuzz.mutations import EXTREMES, mutated
from tests.fuzz.seeds import films, members

WINDOW = Window(Span(0.4, 5), text=True, size=(16, 16))
NAMES = ("../x", "../../canary/x", "/etc/x", "./a/../../x", "a/" * 60 + "x", "", ".", "..", "x\0y", "clip\n0001", "ü")
KINDS = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
Entry = tuple[tarfile.TarInfo, bytes]


def entries(film: bytes, count: int = 4) -> list[Entry]:
    """The members of a shard of `count` samples."""
    found = []
    for number in range(count):
        for extension, data in members(film).items():
            info = tarfile.TarInfo(f"clip{number:04d}.{extension}")
            info.size = len(data)
            found.append((info, data))
    return found


def written(found: list[Entry], form: int = tarfile.USTAR_FORMAT) -> bytes:
    """The bytes of a tar."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form) as tar:
        for info, data in found:
            tar.addfile(info, io.BytesIO(data))
    return target.getvalue()


def headers(data: bytes) -> list[int]:
    """Where the headers of a tar lie."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [member.offset for member in tar]


def resealed(data: bytearray, at: int) -> None:
    """Set the checksum of a header right, so that its contents are believed."""
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])


def names(found: list[Entry], rng: np.random.Generator) -> bytes:
    """Names that lead outside, long ones, and ones that cannot be."""
    for _ in range(int(rng.integers(1, 4))):
        info, _data = found[int(rng.integers(len(found)))]
        suffix = info.name.rsplit(".", 1)[-1]
        info.name = NAMES[int(rng.integers(len(NAMES)))] + ("" if rng.random() < 0.2 else f".{suffix}")
    return written(found, int(rng.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])))


def kinds(found: list[Entry], rng: np.random.Generator) -> bytes:
    """Links, devices, pipes and folders with the names of members."""
    for _ in range(int(rng.integers(1, 4))):
        number = int(rng.integers(len(found)))
        info = found[number][0]
        info.type = KINDS[int(rng.integers(len(KINDS)))]
        info.linkname = str(rng.choice(["../canary/a", "/etc/hostname", "clip0000.mp4", info.name]))
        info.size = 0 if rng.random() < 0.7 else info.size
    return written(found, tarfile.GNU_FORMAT)


def doubled(found: list[Entry], rng: np.random.Generator) -> bytes:
    """Members and samples twice, out of order, or missing."""
    choice = rng.integers(3)
    if choice == 0:
        found.insert(int(rng.integers(len(found))), found[int(rng.integers(len(found)))])
    elif choice == 1:
        found = [found[int(number)] for number in rng.permutation(len(found))]
    else:
        del found[int(rng.integers(len(found)))]
    return written(found)


def pax(found: list[Entry], rng: np.random.Generator) -> bytes:
    """Extended headers that say other sizes, names, sparse maps, or nonsense."""
    info, _ = found[int(rng.integers(len(found)))]
    keys = ["size", "path", "linkpath", "GNU.sparse.size", "GNU.sparse.map", "GNU.sparse.major", "GNU.sparse.name"]
    info.pax_headers = {
        str(rng.choice([*keys, "hdrcharset", "mtime", "GNU.sparse.realsize", "x" * 200])):
        str(rng.choice(["0", "-1", "9" * 30, "1", "../canary/x.mp4", "/etc/x.mp4", "0,1,2", "nan", "", "BINARY"]))
        for _ in range(int(rng.integers(1, 4)))
    }  # fmt: skip
    data = bytearray(written(found, tarfile.PAX_FORMAT))
    if rng.random() < 0.4:  # the length field within an extended header
        at = data.find(b"=")
        if at > 8:
            data[at - 8 : at - 6] = b"%02d" % int(rng.integers(100))
    return bytes(data)


def fields(found: list[Entry], rng: np.random.Generator) -> bytes:
    """Fields of headers with other values and a right checksum."""
    data = bytearray(written(found))
    places = headers(bytes(data))
    for _ in range(int(rng.integers(1, 4))):
        at = places[int(rng.integers(len(places)))]
        match int(rng.integers(5)):
            case 0:
                size = int(rng.choice([*EXTREMES, 1 << 40])) % (1 << 33)
                data[at + 124 : at + 136] = b"%011o\0" % size
            case 1:  # a size in base 256, even a negative one
                data[at + 124 : at + 136] = rng.integers(0, 256, 12, np.uint8).tobytes()
                data[at + 124] |= 0x80
            case 2:
                data[at + 156] = int(rng.choice(list(b"0\x001234567gxLKSVD")))
            case 3:
                data[at + int(rng.integers(100))] = int(rng.integers(256))
            case 4:
                begin = at + int(rng.integers(512))
                data[begin : begin + 4] = rng.integers(0, 256, 4, np.uint8).tobytes()
        resealed(data, at)
    return bytes(data)


def cut(found: list[Entry], rng: np.random.Generator) -> bytes:
    """The beginning, without its end mark or with half a header."""
    data = written(found)
    return data[: int(rng.integers(len(data)))]


def noise(found: list[Entry], rng: np.random.Generator) -> bytes:
    """Whatever happens to bytes anywhere."""
    return mutated(written(found), rng, [written(found[:3])])


KIND_OF: tuple[Callable[[list[Entry], np.random.Generator], bytes], ...] = (
    names, kinds, doubled, pax, fields, fields, cut, noise,
)  # fmt: skip


def written_at(folder: Path) -> dict[Path, int]:
    """All files in a folder and when each was last written; an index that lies may be made anew."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: 0 if path.suffix == ".idx" else path.stat().st_mtime_ns for path in files}


def fuzz(folder: Path, count: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Index `count` broken tars, read what is in them, and read indices that lie; returns what came out."""
    monkeypatch.setattr("mmssl.data.budget.BUDGET_SHARE", 1.0)
    monkeypatch.setattr("mmssl.data.budget.BUDGET_OF", 10**6)
    monkeypatch.setattr("mmssl.data.budget.BUDGET_RUN", 10**6)
    rng = np.random.default_rng(seed)
    film = films(folder)["mp4"]
    canary, shards = folder / "canary", folder / "shards"
    for place in (canary, shards):
        place.mkdir()
    (canary / "a").write_bytes(b"untouched")
    monkeypatch.chdir(shards)
    readable: list[Path] = []
    results: Counter[str] = Counter()
    for number in range(count):
        made = KIND_OF[number % len(KIND_OF)](entries(film), rng)
        path = shards / f"s-{number:06d}.tar"
        path.write_bytes(made)
        began = time.monotonic()
        try:
            index = read_index(path)
        except UserError as error:
            results["refused" if path.name in str(error) else f"nameless error: {error}"] += 1
        else:
            for entry in index.samples:
                assert all(0 <= at <= at + size <= len(made) for at, size in entry.members.values())
            results["indexed"] += 1
            readable.append(path)
            if rng.random() < 0.3:  # an index that lies, too
                lies = mutated(index_path(path).read_bytes(), rng, [b"{}\n"])
                index_path(path).write_bytes(lies)
                try:
                    read_index(path)
                except UserError:
                    readable.pop()
        assert time.monotonic() - began < 5
    before = written_at(folder)
    source = Source("fuzz", [str(path) for path in readable])
    with Stream([source], WINDOW, 16, workers=1, shuffle=False, repeat=False) as stream:
        rows = [weight for batch, _ in stream for weight in batch.weight.tolist()]
    results.update({k: n for k, n in stream.counters.items() if k.startswith("failed: ")})
    results["whole"] = int(sum(rows))
    assert written_at(folder) == before
    assert sorted(path.name for path in canary.iterdir()) == ["a"]
    assert (canary / "a").read_bytes() == b"untouched"
    assert not (folder / "x").exists()
    assert {path.suffix for path in shards.rglob("*")} == {".tar", ".idx"}
    failed = sum(n for k, n in results.items() if k.startswith("failed: "))
    assert not any(name.startswith("nameless") for name in results)
    assert results["whole"] + failed == stream.counters["samples"]
    return results


def test_some_broken_tars(tmp_path, monkeypatch):
    results = fuzz(tmp_path, 104, 1, monkeypatch)
    assert results["refused"] > 10
    assert results["indexed"] > 30
    assert results["whole"] > 100


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_hundreds_of_broken_tars(tmp_path, monkeypatch):
    began = time.monotonic()
    results = fuzz(tmp_path, 640, 2, monkeypatch)
    print(f"\n640 tars in {time.monotonic() - began:.0f} s: {dict(results.most_common())}")
