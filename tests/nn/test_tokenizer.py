"""The tokenizer: a function of the sentences alone, in every process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mmssl.nn.tokenizer import SPECIAL, Kind, Tokenizer

SENTENCES = [f"sentence number {n} of the corpus" for n in range(30)] + ["Un été à Köln, ##x"]
TRAIN = (
    "import sys, ast; from mmssl.nn.tokenizer import Tokenizer; "
    "print(Tokenizer.train(ast.literal_eval(sys.argv[1]), kind=sys.argv[2]).to_json())"
)


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_every_process_trains_the_same_vocabulary(kind: Kind) -> None:
    here = Tokenizer.train(SENTENCES, kind=kind).to_json()
    command = [sys.executable, "-c", TRAIN, repr(SENTENCES[::-1] + SENTENCES[:3]), kind]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == here.strip()


def test_padding_is_zero_and_specials_come_first() -> None:
    tokenizer = Tokenizer.train(SENTENCES, vocabulary=80, length=8)
    assert tokenizer.size == 80
    assert [tokenizer.backend.token_to_id(name) for name in SPECIAL] == [0, 1, 2, 3, 4]
    ids = tokenizer.encode(["number", "a sentence with many pieces of it"])
    assert ids.shape == (2, 8)
    assert ids[:, 0].tolist() == [2, 2]
    assert (ids[0] == 0).any()
    assert (ids[1] != 0).all()


def test_it_survives_its_file() -> None:
    tokenizer = Tokenizer.train(SENTENCES, length=9)
    again = Tokenizer.from_json(tokenizer.to_json())
    assert again.length == 9
    assert (again.encode(SENTENCES) == tokenizer.encode(SENTENCES)).all()
