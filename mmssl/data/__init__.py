"""Reading sharded video: order, stream, decode; building shards; the embedded corpus.

`Stream` is imported on first use: decode workers import this package without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmssl.clip import Span as Span
from mmssl.clip import Window as Window
from mmssl.data.storage.settings import RemoteSettings as RemoteSettings

if TYPE_CHECKING:
    from mmssl.data.sources import Source as Source
    from mmssl.data.stream import Stream as Stream
    from mmssl.data.to_webdataset import as_webdataset as as_webdataset

_LAZY = {"as_webdataset": "mmssl.data.to_webdataset", "Stream": "mmssl.data.stream", "Source": "mmssl.data.sources"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'mmssl.data' has no attribute '{name}'")
