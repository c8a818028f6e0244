"""The sentences of shards, read without decoding any media: what a tokenizer is trained on."""

from __future__ import annotations

from mmssl.data.shards.index import expand_shards, read_index, read_members
from mmssl.data.subtitles import read_subtitles


def first_sentences(shards: str | list[str], limit: int = 100_000) -> list[str]:
    """The first `limit` sentences in the shards' order, from the WebVTT members."""
    sentences: list[str] = []
    for path in expand_shards(shards):
        for entry in read_index(path).samples:
            if "vtt" not in entry.members:
                continue
            cues = read_subtitles(read_members(path, entry, ["vtt"])["vtt"]).cues
            sentences.extend(cue.text for cue in cues)
            if len(sentences) >= limit:
                return sentences[:limit]
    return sentences
