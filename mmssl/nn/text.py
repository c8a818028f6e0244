"""Text encoder: a small BERT of the `transformers` library, from random weights or given files."""

from __future__ import annotations

import torch
from torch import nn
from transformers import BertConfig, BertModel

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
        # A row without any token would attend to nothing (NaN); it attends to its padding and is zeroed below.
        attend = mask | ~mask.any(dim=1, keepdim=True)
        tokens = self.bert(input_ids=token_ids, attention_mask=attend.long()).last_hidden_state
        weight = mask.to(tokens.dtype)[:, :, None]
        pooled = (tokens * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
        return Features(pooled=pooled, tokens=tokens, token_mask=mask)
