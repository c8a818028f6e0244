"""Shard specifications become lists of tars, or one clear error."""

from __future__ import annotations

import pytest

from mmssl.data.shards.index import expand_shards
from mmssl.errors import UserError


@pytest.fixture
def corpus(tmp_path):
    for name in ("train-000000", "train-000001", "train-000002", "test-000000"):
        (tmp_path / f"{name}.tar").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("train-{000000..000002}.tar", ["train-000000", "train-000001", "train-000002"]),
        ("{test,train}-00000{0..0}.tar", ["test-000000", "train-000000"]),
        ("train-000001.tar::test-000000.tar", ["train-000001", "test-000000"]),
        ("train-*.tar", ["train-000000", "train-000001", "train-000002"]),
        ("", ["test-000000", "train-000000", "train-000001", "train-000002"]),
        ("file:train-000001.tar", ["train-000001"]),
    ],
)
def test_expansion(corpus, spec, names):
    def absolute(part: str) -> str:
        return f"file:{corpus}/{part.removeprefix('file:')}" if part.startswith("file:") else f"{corpus}/{part}"

    spec = "::".join(absolute(part) for part in spec.split("::"))
    assert [path.stem for path in expand_shards(spec)] == names


def test_lists_of_specifications(corpus):
    spec = [f"{corpus}/train-000002.tar", f"{corpus}/train-{{000000..000001}}.tar"]
    assert [path.stem for path in expand_shards(spec)] == ["train-000002", "train-000000", "train-000001"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "no shards given"),
        ([], "no shards given"),
        ("::", "no shards given"),
        ("pipe:cat {corpus}/train-000000.tar", r"commands \(pipe:\) are never run"),
        ("htp://host/train-000000.tar", r"no shards are read from htp:// .*did you mean 'http'"),
        ("s3:///train-000000.tar", "give s3://bucket/path"),
        ("https://host/corpus/", r"an http server lists no files; .*range in braces"),
        ("https://host/corpus", "an http server lists no files"),
        ("https://host/corpus/*.tar", "an http server lists no files"),
        ("{corpus}/train-{{000000..000004}}.tar", r"train-000003\.tar' does not exist \(and 1 more of 5\)"),
        ("{corpus}/trian-000000.tar", r"did you mean 'train-000000\.tar'"),
        ("{corpus}/train-{{000002..000000}}.tar", "runs backwards"),
        ("{corpus}/train-{{000000..000002.tar", "not closed"),
        ("{corpus}/train-{{abc}}.tar", "neither a range"),
        ("{corpus}/nothing-*.tar", "no shard matches"),
        ("{corpus}/train-000000.tar::{corpus}/train-*.tar", "named twice"),
        ("{corpus}/empty", "holds no shards"),
    ],
)
def test_refused_specifications(corpus, spec, message):
    (corpus / "empty").mkdir()
    spec = spec.format(corpus=corpus) if isinstance(spec, str) else spec
    with pytest.raises(UserError, match=message):
        expand_shards(spec)
