"""Seeded mutations of bytes: flipped bits, cuts, edited length fields, chunks moved, doubled and spliced."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mmssl.data.packets import _HEAD, MAGIC

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 24, 1 << 28)
#: words before or after which containers keep lengths and counts
WORDS = (
    *(b"moov trak mdia minf stbl stsd stsz stsc stts stco co64 ctts elst tkhd mvhd mdhd avcC esds moof traf trun tfhd"
      b" mdat free udta dref hdlr sidx mfra avc1 mp4a colr pasp").split(),
    *b"RIFF LIST movi idx1 strh strf avih 00dc 01wb JUNK".split(),
    *b"OggS theora vorbis OpusHead".split(),
    b"\x1a\x45\xdf\xa3", b"\x15\x49\xa9\x66", b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75", b"\x1c\x53\xbb\x6b", b"\xa3",
    b"\x00\x00\x01", b"\x47\x40", b"FLV", b"onMetaData",
)  # fmt: skip


def flip(data: bytearray, rng: np.random.Generator, _: Sequence[bytes]) -> None:
    """Up to 40 bits anywhere, or in the first kilobyte where headers lie."""
    end = len(data) if rng.random() < 0.5 else min(len(data), 1024)
    for at in rng.integers(0, end, int(rng.integers(1, 41))):
        data[at] ^= 1 << int(rng.integers(8))


def overwrite(data: bytearray, rng: np.random.Generator, _: Sequence[bytes]) -> None:
    """A stretch of noise."""
    at, size = int(rng.integers(len(data))), int(rng.integers(1, 400))
    data[at : at + size] = rng.integers(0, 256, len(data[at : at + size]), np.uint8).tobytes()


def truncate(data: bytearray, rng: np.random.Generator, _: Sequence[bytes]) -> None:
    """Only the beginning, or all but the beginning."""
    at = int(rng.integers(len(data)))
    if rng.random() < 0.7:
        del data[at:]
    else:
        del data[: min(at, 600)]


def lengths(data: bytearray, rng: np.random.Generator, _: Sequence[bytes]) -> None:
    """Numbers near the words of a container become extreme ones."""
    places = []
    for word in WORDS:
        at = data.find(word)
        while at >= 0 and len(places) < 4000:
            places += [(at, len(word))]
            at = data.find(word, at + 1)
    if not places:
        return flip(data, rng, _)
    for _number in range(int(rng.integers(1, 4))):
        at, size = places[int(rng.integers(len(places)))]
        where = at + int(rng.choice([-4, size, size + 4, size + 8, size + 12, size + 16]))
        value = int(rng.choice(EXTREMES)) if rng.random() < 0.7 else int(rng.integers(0, 1 << 32))
        form = ">I" if rng.random() < 0.7 else "<I"
        if 0 <= where <= len(data) - 4:
            struct.pack_into(form, data, where, value)
    return None


def chunks(data: bytearray, rng: np.random.Generator, _: Sequence[bytes]) -> None:
    """A stretch is swapped with another, doubled, or taken out."""
    size = int(rng.integers(1, max(2, len(data) // 3)))
    a, b = (int(rng.integers(max(1, len(data) - size))) for _number in range(2))
    kind = rng.integers(3)
    if kind == 0:
        first, second = bytes(data[a : a + size]), bytes(data[b : b + size])
        data[a : a + len(second)] = second
        data[b : b + len(first)] = first
    elif kind == 1:
        data[b:b] = data[a : a + size]
    else:
        del data[a : a + size]


def splice(data: bytearray, rng: np.random.Generator, others: Sequence[bytes]) -> None:
    """The beginning of one file and the end of another."""
    other = others[int(rng.integers(len(others)))]
    data[int(rng.integers(len(data))) :] = other[int(rng.integers(len(other))) :]


VALUES = (
    None,
    True,
    -1,
    0,
    1e400,
    -1e400,
    1 << 70,
    "x",
    "\ud800",
    [],
    [[]],
    {},
    {"a": 1},
    [1, 2],
    ["a", "b", "c"],
    0.5,
)


def retyped(data: bytes, rng: np.random.Generator) -> bytes:
    """JSON (also as the header of a packet table) in which up to three values have another type or are gone."""
    begin = _HEAD.size if data.startswith(MAGIC) else 0
    (length,) = struct.unpack_from("<I", data, begin - 4) if begin >= 4 else (len(data),)
    found = json.loads(data[begin : begin + length])
    for _number in range(int(rng.integers(1, 4))):
        where: Any = found
        while True:
            keys = list(where) if isinstance(where, dict) else range(len(where))
            key = list(keys)[int(rng.integers(len(keys)))]
            if isinstance(where[key], dict | list) and where[key] and rng.random() < 0.8:
                where = where[key]
                continue
            if rng.random() < 0.2:
                del where[key]
            else:
                where[key] = copy.deepcopy(VALUES[int(rng.integers(len(VALUES)))])
            break
        if not found:
            break
    text = json.dumps(found).encode()
    if begin < 4:
        return text
    return data[: begin - 4] + struct.pack("<I", len(text)) + text + data[begin + length :]


Mutation = Callable[[bytearray, np.random.Generator, Sequence[bytes]], None]
MUTATIONS: tuple[Mutation, ...] = (flip, overwrite, truncate, lengths, lengths, chunks, splice)


def mutated(data: bytes, rng: np.random.Generator, others: Sequence[bytes]) -> bytes:
    """One to three mutations of `data`."""
    changed = bytearray(data)
    for number in rng.integers(0, len(MUTATIONS), int(rng.integers(1, 4))):
        if changed:
            MUTATIONS[number](changed, rng, others)
    return bytes(changed)
