"""The headers of a tar: ustar, GNU long names and pax, told from the bytes alone; nothing is ever unpacked.

Python's own `tarfile` takes a damaged header for the end and a cut tar for an error; an index must say where a tar
ends too early, and have all that is whole before.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mmssl.errors import UserError

BLOCK = 512
_ZEROS = bytes(BLOCK)
_REGULAR = (b"0", b"\x00", b"7")
_LARGEST_EXTENSION = 1 << 20  # of a long name or a pax header
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
    b"\x04\x22\x4d\x18": "lz4",
}


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in a tar: its name as it is written there, and where its bytes lie."""

    name: str
    at: int
    size: int


class NotATar(UserError):
    """The bytes are no uncompressed tar."""


class CutShort(Exception):
    """The tar ends in the midst of the member `name` (in brackets: of something that has no name)."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def members(read: Callable[[int, int], bytes], size: int, name: str) -> Iterator[Member]:
    """The regular files of a tar of `size` bytes, of which `read(at, count)` gives any range.

    A tar without the two blocks of zeros at its end is read as far as it goes.

    Raises:
        NotATar: the first header is none; `name` names the tar.
        CutShort: the bytes end within a member or a header, or a later header is damaged.
    """
    at = 0
    long_name: str | None = None
    extended: dict[str, str] = {}
    everywhere: dict[str, str] = {}
    last = ""
    while at < size:
        header = read(at, BLOCK)
        if header == _ZEROS[: len(header)]:  # the end mark, or what a cut left of it
            return
        if len(header) < BLOCK:
            if at == 0:
                raise NotATar(_no_tar(name, header))
            raise CutShort(long_name or extended.get("path") or f"(the header after '{last}')")
        length = _length(header)
        if length is None:
            if at == 0:
                raise NotATar(_no_tar(name, header))
            raise CutShort(f"(the damaged header at byte {at}, after '{last}')")
        kind = header[156:157]
        data = at + BLOCK
        if kind in b"LKxgX":
            if length > _LARGEST_EXTENSION:
                raise CutShort(f"(a name of {length} bytes after '{last}')")
            content = read(data, length)
            if len(content) < length:
                raise CutShort(f"(the header after '{last}')")
            if kind == b"L":
                long_name = _text(content)
            elif kind == b"g":
                everywhere |= _pax(content)
            elif kind in b"xX":
                extended = _pax(content)
        else:
            fields = everywhere | extended
            if kind == b"S" or any(field.startswith("GNU.sparse") for field in fields):
                raise NotATar(f"shard '{name}' holds files with holes (sparse); pack it without --sparse")
            member = fields.get("path") or long_name or _short_name(header)
            if "size" in fields:
                length = _decimal(fields["size"], length)
            if kind in _REGULAR and not (kind == b"\0" and member.endswith("/")):
                if data + length > size:
                    raise CutShort(member)
                yield Member(member, data, length)
            elif kind in b"123456":
                length = 0  # links, devices and folders have no bytes, whatever their header says
            last = member
            long_name, extended = None, {}
        at = data + -(-length // BLOCK) * BLOCK


def _no_tar(name: str, start: bytes) -> str:
    for magic, what in _COMPRESSED.items():
        if start.startswith(magic):
            return f"shard '{name}' is not a readable, uncompressed tar (it is {what}; unpack it, videos do not shrink)"
    return f"shard '{name}' is not a readable, uncompressed tar"


def _length(header: bytes) -> int | None:
    """Bytes of a member; None if the check sum (of unsigned bytes, or of signed ones) says that this is no header."""
    try:
        said, length = _number(header[148:156]), _number(header[124:136])
    except ValueError:
        return None
    if said != 256 + sum(header) - sum(header[148:156]) and said != 256 + sum(struct.unpack("148b8x356b", header)):
        return None
    return length if length >= 0 else None


def _number(field: bytes) -> int:
    """Octal digits, or base 256 where the first bit is set."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    if field[0] == 0xFF:
        return -1
    text = field.split(b"\0", 1)[0].strip()
    return int(text, 8) if text else 0


def _short_name(header: bytes) -> str:
    name = _text(header[:100])
    if header[257:263] == b"ustar\0":
        prefix = _text(header[345:500])
        return f"{prefix}/{name}" if prefix else name
    return name


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _pax(content: bytes) -> dict[str, str]:
    """The records ``length key=value`` of a pax header; the rest after a damaged one is left out."""
    fields: dict[str, str] = {}
    at = 0
    while at < len(content):
        length, separator, _ = content[at : at + 20].partition(b" ")
        if not separator or not length.isdigit():
            break
        record = content[at + len(length) + 1 : at + int(length) - 1]
        key, separator, value = record.partition(b"=")
        if not separator or int(length) <= len(length) + 1:
            break
        fields[_text(key)] = value.decode("utf-8", "surrogateescape")
        at += int(length)
    return fields


def _decimal(text: str, otherwise: int) -> int:
    return int(text) if text.isdigit() else otherwise
