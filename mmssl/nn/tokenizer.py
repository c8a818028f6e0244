"""Tokenizers trained on the corpus's own sentences (Hugging Face `tokenizers`), saved as tokenizer.json.

WordPiece as in BERT (arXiv 1810.04805), or byte-pair encoding over bytes (Sennrich et al., arXiv 1508.07909), for
which no character is unknown. A tokenizer.json that came with a text model is used as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from tokenizers import Tokenizer as _Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from mmssl.errors import UserError

LETTERS = 1000  # the most frequent characters; a word with another one is unknown
Kind = Literal["wordpiece", "bpe"]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class Tokenizer:
    """Sentences to token ids. 0 is padding.

    Args:
        backend: the trained tokenizer.
        length: tokens a sentence at most; longer ones are cut.

    Raises:
        UserError: number 0 of its vocabulary is not the padding (as it is in RoBERTa's and GPT's).
    """

    def __init__(self, backend: _Backend, length: int = 24) -> None:
        first = backend.id_to_token(0)
        if first is None or "pad" not in first.lower():
            raise UserError(
                f"this tokenizer has {first!r} for number 0, which must be the padding; use that of a BERT, "
                "or train one with `mmssl shards tokenizer`"
            )
        self.backend = backend
        self.length = length

    @classmethod
    def train(
        cls, sentences: Iterable[str], vocabulary: int = 8000, length: int = 24, kind: Kind = "wordpiece"
    ) -> Tokenizer:
        """Train a lower-casing vocabulary of at most `vocabulary` entries.

        Raises:
            UserError: no such kind, or too few entries for the bytes that byte-pair encoding starts from.
        """
        if kind not in ("wordpiece", "bpe"):
            raise UserError(f"a tokenizer is wordpiece or bpe, got {kind!r}")
        return (
            cls._bpe(sentences, vocabulary, length) if kind == "bpe" else cls._wordpiece(sentences, vocabulary, length)
        )

    @classmethod
    def _bpe(cls, sentences: Iterable[str], vocabulary: int, length: int) -> Tokenizer:
        """Bytes are the alphabet, in their own order: the library breaks ties by it, the same way in every process."""
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        if vocabulary < len(alphabet) + len(SPECIAL):
            raise UserError(f"a bpe vocabulary needs {len(alphabet) + len(SPECIAL)} entries at least, got {vocabulary}")
        backend = _Backend(models.BPE())
        backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
        )
        backend.train_from_iterator(sorted(set(sentences)), trainer)
        return cls(backend, length)

    @classmethod
    def _wordpiece(cls, sentences: Iterable[str], vocabulary: int, length: int) -> Tokenizer:
        """Train WordPiece.

        It is a function of the set of sentences alone: the library numbers the pieces inside words in the order of a
        hash table that differs from process to process, and breaks ties between merges by those numbers. So they are
        numbered beforehand, as if they were special, and the finished vocabulary is put into a fresh model.
        """
        sentences = sorted(set(sentences))
        backend = _Backend(models.WordPiece(unk_token="[UNK]"))
        backend.normalizer = normalizers.BertNormalizer(lowercase=True)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        letters = Counter(c for text in sentences for c in backend.normalizer.normalize_str(text) if not c.isspace())
        alphabet = sorted(sorted(letters, key=lambda c: (-letters[c], c))[:LETTERS])
        trainer = trainers.WordPieceTrainer(
            vocab_size=vocabulary,
            special_tokens=[*SPECIAL, *(f"##{letter}" for letter in alphabet)],
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            show_progress=False,
        )
        backend.train_from_iterator(sentences, trainer)
        final = _Backend(models.WordPiece(backend.get_vocab(), unk_token="[UNK]"))
        final.normalizer, final.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
        return cls(final, length)

    @property
    def size(self) -> int:
        """Number of vocabulary entries."""
        return int(self.backend.get_vocab_size())

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        """Int64 [len(sentences), length], [CLS] first, 0 where padded.

        A given tokenizer that puts special tokens around a sentence itself does so here too.
        """
        ids = np.zeros((len(sentences), self.length), dtype=np.int64)
        start = self.backend.token_to_id("[CLS]")
        before = [start] if start is not None and self.backend.post_processor is None else []
        for row, text in enumerate(sentences):
            pieces = [*before, *self.backend.encode(text).ids][: self.length]
            ids[row, : len(pieces)] = pieces
        return ids

    def to_json(self) -> str:
        """The tokenizer as tokenizer.json; the length travels in its truncation setting."""
        self.backend.enable_truncation(max_length=self.length)
        text: str = self.backend.to_str()
        return text

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """Read a tokenizer.json, ours or one of a given text model."""
        backend = _Backend.from_str(text)
        length = backend.truncation["max_length"] if backend.truncation else 24
        backend.no_truncation()
        backend.no_padding()
        return cls(backend, length)
