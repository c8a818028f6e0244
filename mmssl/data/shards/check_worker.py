"""A check worker: a process of its own that checks clips, so that a clip that kills it costs one line.

It receives (shard, entry) and answers with ("done", faults), and ("alive", None) every few seconds of a long clip.
Torch is not imported.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import av.logging

from mmssl.data.decode.base import Decoder
from mmssl.data.decode.choose import make_decoder
from mmssl.data.media import MediaError
from mmssl.data.shards.build_worker import heartbeat
from mmssl.data.shards.check_clip import Fault, check_decoder, check_description, check_media
from mmssl.data.shards.entry import SampleEntry
from mmssl.data.shards.members import read_members
from mmssl.data.sources import Place
from mmssl.data.storage import Shard
from mmssl.data.worker import read_clip
from mmssl.errors import UserError


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """What is looked at.

    Args:
        decode: whether clips are decoded.
        decoder: name of the stream's decoder that is compared with a plain reading.
        built: folders (as text) that `shards build` has written.
    """

    decode: bool
    decoder: str = "pyav"
    built: frozenset[str] = frozenset()


def decoder_of(settings: CheckSettings) -> Decoder:
    """The stream's decoder that is compared with a plain reading."""
    return make_decoder(settings.decoder)


def main(descriptor: int) -> None:
    """Serve until the other end closes the connection."""
    av.logging.set_level(None)  # FFmpeg's remarks on damaged files would fill the terminal
    connection = Connection(descriptor)
    try:
        settings: CheckSettings = connection.recv()
        decoder = decoder_of(settings)
        tick = heartbeat(connection)
        while True:
            shard, entry = connection.recv()
            connection.send(("done", check_sample(shard, entry, settings, decoder, tick)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent has gone, or has no more work


def check_sample(
    shard: Shard,
    entry: SampleEntry,
    settings: CheckSettings,
    decoder: Decoder,
    tick: Callable[[], None] = lambda: None,
) -> list[Fault]:
    """Everything that is wrong with one sample."""
    try:
        members = read_members(shard, entry)
    except UserError as error:
        return [Fault(getattr(error, "cause", "cut short"), str(error))]
    faults, meta = check_description(
        members, entry.key, isinstance(shard, Path) and str(shard.parent) in settings.built
    )
    media = members.get(entry.media)
    if not settings.decode or not media:
        return faults
    found, plain = check_media(media, meta, tick)
    faults += found
    if plain is not None:
        with contextlib.suppress(MediaError):  # a description that is no json, which has been said
            faults += check_decoder(read_clip(Place("check", 0, shard, entry)), plain, decoder)
    return faults
