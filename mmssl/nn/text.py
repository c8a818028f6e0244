"""Text encoders of the `transformers` library: a small BERT, or any of its encoders by the name of its configuration.

BERT: Devlin et al., arXiv 1810.04805; DistilBERT: Sanh et al., arXiv 1910.01108. Weights are random or lie in a given
folder; nothing is fetched from anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoModel, BertConfig, BertModel

from mmssl.errors import UserError, nearest
from mmssl.nn.features import Features


class TextEncoder(nn.Module):
    """Token ids int64 [B, L] and mask bool [B, L] -> `Features` with tokens; pooled is the mean of real tokens.

    Args:
        vocabulary: entries of the tokenizer; taken from the tokenizer when a run leaves it out.
        width: D.
        layers: transformer layers; 0 is a bag of word embeddings.
        heads: attention heads.
        length: longest sentence in tokens.
        pretrained: folder of a BERT saved by `transformers`, or None for random weights.
    """

    modality = "text"
    strides: tuple[int, ...] = ()

    def __init__(
        self,
        vocabulary: int,
        width: int = 256,
        layers: int = 1,
        heads: int = 4,
        length: int = 64,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        self.level_widths: dict[int, int] = {}
        if pretrained is not None:
            self.bert = BertModel.from_pretrained(pretrained, add_pooling_layer=False, local_files_only=True)
        else:
            config = BertConfig(
                vocab_size=vocabulary,
                hidden_size=width,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                intermediate_size=2 * width,
                max_position_embeddings=length,
            )
            self.bert = BertModel(config, add_pooling_layer=False)
        self.width = int(self.bert.config.hidden_size)

    def forward(self, token_ids: torch.Tensor, mask: torch.Tensor) -> Features:
        """Encode sentences; a sentence without a real token gets a vector of zeros."""
        return _encode(self.bert, token_ids, mask)


class TransformersText(nn.Module):
    """An encoder of `transformers`: token ids int64 [B, L] and mask bool [B, L] -> `Features` with tokens.

    Pooled is the mean of the real tokens. With `pretrained` the run needs the model's own tokenizer too: give the
    folder's tokenizer.json as ``data.tokenizer``.

    Args:
        vocabulary: entries of the tokenizer; taken from the tokenizer when a run leaves it out.
        config: name of the configuration class, for instance "DistilBertConfig" or "BertConfig".
        config_args: what of the configuration is not at its default (names differ from model to model).
        pretrained: folder of a model saved by `transformers`, whose own configuration then holds; None for random
            weights.
        frozen: keep the weights as they are.

    Raises:
        UserError: no such configuration, no model in the folder, or a tokenizer with more entries than it knows.
    """

    modality = "text"
    strides: tuple[int, ...] = ()

    def __init__(
        self,
        vocabulary: int,
        config: str = "DistilBertConfig",
        config_args: Mapping[str, Any] | None = None,
        pretrained: str | None = None,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        self.level_widths: dict[int, int] = {}
        if pretrained is None:
            made = getattr(transformers, config, None)
            if not (isinstance(made, type) and issubclass(made, transformers.PretrainedConfig)):
                known = ("BertConfig", "DistilBertConfig", "ElectraConfig", "MPNetConfig", "RobertaConfig")
                raise UserError(f"transformers has no configuration {config!r}{nearest(config, known)}")
            self.model = AutoModel.from_config(made(vocab_size=vocabulary, **dict(config_args or {})))
        else:
            if not (Path(pretrained) / "config.json").is_file():
                raise UserError(f"no model saved by transformers in {pretrained} (config.json is missing)")
            self.model = AutoModel.from_pretrained(pretrained, local_files_only=True)
        known_tokens = int(self.model.get_input_embeddings().num_embeddings)
        if vocabulary > known_tokens:
            raise UserError(
                f"the tokenizer has {vocabulary} entries and the model in {pretrained} knows {known_tokens}; give the "
                "tokenizer.json that belongs to it as data.tokenizer"
            )
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler = None  # of the first token, which nothing here reads: it would never learn
        self.model.requires_grad_(not frozen)
        self.width = int(self.model.config.hidden_size)

    def forward(self, token_ids: torch.Tensor, mask: torch.Tensor) -> Features:
        """Encode sentences; a sentence without a real token gets a vector of zeros."""
        return _encode(self.model, token_ids, mask)


def _encode(model: nn.Module, token_ids: torch.Tensor, mask: torch.Tensor) -> Features:
    # A row without any token would attend to nothing (NaN); it attends to its padding and is zeroed below.
    attend = mask | ~mask.any(dim=1, keepdim=True)
    tokens = model(input_ids=token_ids, attention_mask=attend.long()).last_hidden_state
    weight = mask.to(tokens.dtype)[:, :, None]
    pooled = (tokens * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
    return Features(pooled=pooled, tokens=tokens, token_mask=mask)
