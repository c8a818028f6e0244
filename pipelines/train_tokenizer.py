"""`mmssl shards tokenizer`: train a WordPiece or byte-pair tokenizer on the sentences of shards."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mmssl.errors import UserError


def run(
    shards: str, out: Path, vocabulary: int = 8000, length: int = 24, kind: Literal["wordpiece", "bpe"] = "wordpiece"
) -> None:
    """Train a tokenizer on the shards' sentences.

    Args:
        shards: shard specification, for example 'corpus/train-{000000..000009}.tar'.
        out: the tokenizer.json to write.
        vocabulary: entries at most.
        length: tokens a sentence at most.
        kind: wordpiece, or bpe over bytes.
    """
    from mmssl.data.sentences import first_sentences
    from mmssl.nn.tokenizer import Tokenizer

    sentences = first_sentences(shards)
    if not sentences:
        raise UserError(f"the shards '{shards}' hold no sentence; build them from videos with subtitles")
    tokenizer = Tokenizer.train(sentences, vocabulary, length, kind)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    partial.write_text(tokenizer.to_json())
    partial.replace(out)
    print(f"{out}: {tokenizer.size} entries from {len(sentences)} sentences")
