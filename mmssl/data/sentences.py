"""The sentences of shards, read without decoding any media: what a tokenizer is trained on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from mmssl.data.shards.index import expand_shards, read_index, read_members
from mmssl.data.storage import RemoteSettings, Shard, Url
from mmssl.data.storage.listing import THREADS
from mmssl.data.subtitles import read_subtitles
from mmssl.errors import UserError

_AT_A_TIME = 256


def first_sentences(shards: str | list[str], limit: int = 100_000, remote: RemoteSettings | None = None) -> list[str]:
    """The first `limit` sentences in the shards' order, from the WebVTT members that can be read."""
    sentences: list[str] = []
    for shard in expand_shards(shards, remote):
        for text in _texts(shard):
            with contextlib.suppress(UserError):  # one that cannot be read; the stream counts it
                sentences.extend(cue.text for cue in read_subtitles(text).cues)
            if len(sentences) >= limit:
                return sentences[:limit]
    return sentences


def _texts(shard: Shard) -> Iterator[bytes]:
    """The WebVTT members of a shard in order; of a remote one, some are fetched at a time."""
    entries = [entry for entry in read_index(shard).samples if "vtt" in entry.members]
    if not isinstance(shard, Url):
        yield from (read_members(shard, entry, ["vtt"])["vtt"] for entry in entries)
        return
    with ThreadPoolExecutor(THREADS) as threads:
        for first in range(0, len(entries), _AT_A_TIME):
            some = entries[first : first + _AT_A_TIME]
            yield from threads.map(lambda entry: read_members(shard, entry, ["vtt"])["vtt"], some)
