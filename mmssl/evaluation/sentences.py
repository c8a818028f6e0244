"""Which sentences of a clip are its text in retrieval, and when two texts say the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from mmssl.clip import Sentence

SentenceRule = Literal["nearest", "joined", "best"]
RULES: dict[str, str] = {
    "nearest": "the sentence nearest to the clip's middle",
    "joined": "all sentences of the clip, joined in order of time",
    "best": "all sentences of the clip, of which the best match counts",
}


def words(text: str) -> str:
    """A sentence as it is compared with others: its words in small letters, without marks."""
    return " ".join(re.findall(r"[^\W_]+", text.lower()))


def chosen_sentences(sentences: Sequence[Sentence], duration: float, rule: SentenceRule) -> list[str]:
    """The texts of a clip by a rule, from sentences given nearest to the middle first.

    Only sentences with a word, and of which a part lies within the clip, count; equal ones count once.
    """
    within = [s for s in sentences if s.end > 0 and s.start < duration and words(s.text)]
    if rule == "nearest":
        return [s.text for s in within[:1]]
    within.sort(key=lambda s: (s.start, s.end, s.text))
    texts = list({words(s.text): s.text for s in within}.values())
    return texts if rule == "best" or not texts else [" ".join(texts)]
