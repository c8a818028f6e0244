"""WordPiece tokenizer trained on the corpus's own sentences (Hugging Face `tokenizers`), saved as tokenizer.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from tokenizers import Tokenizer as _Backend
from tokenizers import models, normalizers, pre_tokenizers, trainers

LETTERS = 1000  # the most frequent characters; a word with another one is unknown
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class Tokenizer:
    """Sentences to token ids. 0 is padding.

    Args:
        backend: the trained tokenizer.
        length: tokens a sentence at most; longer ones are cut.
    """

    def __init__(self, backend: _Backend, length: int = 24) -> None:
        self.backend = backend
        self.length = length

    @classmethod
    def train(cls, sentences: Iterable[str], vocabulary: int = 8000, length: int = 24) -> Tokenizer:
        """Train a lower-casing WordPiece vocabulary of at most `vocabulary` entries.

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
        """Int64 [len(sentences), length], [CLS] first, 0 where padded."""
        ids = np.zeros((len(sentences), self.length), dtype=np.int64)
        start = SPECIAL.index("[CLS]")
        for row, text in enumerate(sentences):
            pieces = [start, *self.backend.encode(text).ids][: self.length]
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
        return cls(backend, length)
