"""Text encoders of transformers by the name of a configuration and from a folder; the tokenizers that go with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel

from mmssl.errors import UserError
from mmssl.nn.encoders import Build, Encoders
from mmssl.nn.text import TransformersText
from mmssl.nn.tokenizer import Tokenizer

PATH = "mmssl.nn.text.TransformersText"
DISTIL: dict[str, Any] = {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 32}
BERT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 32,
}


def tokens() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(1, 50, (3, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(3, 7, dtype=torch.bool)
    mask[0, 4:] = False
    mask[1] = False
    return ids * mask, mask


@pytest.mark.parametrize(("config", "args"), [("DistilBertConfig", DISTIL), ("BertConfig", BERT)])
def test_by_the_name_of_a_configuration(config: str, args: dict[str, Any]) -> None:
    encoder = Build(PATH, {"vocabulary": 50, "config": config, "config_args": args}).make().eval()
    ids, mask = tokens()
    features = encoder(ids, mask)
    assert encoder.width == 32
    assert features.tokens is not None
    assert features.tokens.shape == (3, 7, 32)
    assert not features.pooled[1].any()
    other = torch.where(mask, ids, torch.full_like(ids, 9))
    torch.testing.assert_close(encoder(other, mask).pooled, features.pooled)
    features.pooled.square().sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())  # no pooler that nothing reads


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (DistilBertModel(DistilBertConfig(vocab_size=50, **DISTIL)), "distil"),
        (BertModel(BertConfig(vocab_size=50, **BERT)), "bert"),
    ],
)
def test_weights_of_a_given_folder(made: Any, name: str, tmp_path: Path) -> None:
    made.save_pretrained(tmp_path / name)
    encoder = TransformersText(50, pretrained=str(tmp_path / name), frozen=True).eval()
    ids, mask = tokens()
    with torch.no_grad():
        wanted = made.eval()(input_ids=ids[:1], attention_mask=mask[:1].long()).last_hidden_state
    torch.testing.assert_close(encoder(ids, mask).tokens[:1, :4], wanted[:, :4])
    assert not any(p.requires_grad for p in encoder.parameters())
    with pytest.raises(UserError, match=r"the tokenizer has 51 entries and the model in .* knows 50"):
        TransformersText(51, pretrained=str(tmp_path / name))


def test_it_is_saved_with_its_bundle_and_loaded(tmp_path: Path) -> None:
    bundle = Encoders({"text": Build(PATH, {"vocabulary": 50, "config_args": DISTIL})}).eval()
    bundle.save(tmp_path)
    loaded = Encoders.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded["text"](*tokens()).pooled, bundle["text"](*tokens()).pooled)


def test_wrong_names_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no configuration 'DistilBertConfg'.*did you mean 'DistilBertConfig'"):
        TransformersText(50, config="DistilBertConfg")
    with pytest.raises(UserError, match="no model saved by transformers in"):
        TransformersText(50, pretrained=str(tmp_path))


def given_tokenizer(padding: str) -> str:
    """A tokenizer.json as text models bring it: specials of its own numbers, put around a sentence by itself."""
    words = [padding, "[unused]", "red", "ball", "[CLS]", "[SEP]", "[UNK]"]
    backend = Backend(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 4), ("[SEP]", 5)]
    )
    backend.enable_padding(length=9)
    return str(backend.to_str())


def test_a_given_tokenizer_keeps_its_own_special_tokens() -> None:
    tokenizer = Tokenizer.from_json(given_tokenizer("[PAD]"))
    ids = tokenizer.encode(["red ball"])
    assert ids.shape == (1, tokenizer.length)
    assert ids[0, :5].tolist() == [4, 2, 3, 5, 0]
    with pytest.raises(UserError, match="'<s>' for number 0, which must be the padding"):
        Tokenizer.from_json(given_tokenizer("<s>"))


def test_both_kinds_are_trained_on_the_corpus() -> None:
    sentences = [f"The red ball number {n} bounces" for n in range(40)] + ["Un été à Köln"]
    pieces, merges = (Tokenizer.train(sentences, 300, 16, kind) for kind in ("wordpiece", "bpe"))  # type: ignore[arg-type]
    assert type(pieces.backend.model).__name__ == "WordPiece"
    assert type(merges.backend.model).__name__ == "BPE"
    for tokenizer in (pieces, merges):
        assert tokenizer.size <= 300
        ids = tokenizer.encode(["the RED ball"])
        assert (ids == tokenizer.encode(["The red ball"])).all()
        again = Tokenizer.from_json(tokenizer.to_json())
        assert (again.encode(sentences) == tokenizer.encode(sentences)).all()
    unseen = "Ω snow ☃"
    assert (pieces.encode([unseen]) == 1).any()  # [UNK]
    assert not (merges.encode([unseen]) == 1).any()
    kept = merges.encode([unseen])[0]
    assert merges.backend.decode([int(i) for i in kept[1:] if i]).strip() == unseen.lower()
    assert np.array_equal(merges.encode([""])[0, :2], [2, 0])


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match="wordpiece or bpe, got 'unigram'"):
        Tokenizer.train(["a"], kind="unigram")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="needs 261 entries at least, got 100"):
        Tokenizer.train(["a"], vocabulary=100, kind="bpe")
