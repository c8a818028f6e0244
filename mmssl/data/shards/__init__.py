"""Shards: building, indexing, describing and checking WebDataset tars of short clips.

`build`, `BuildSettings`, `BuildProgress` and `BuildSummary` are found here but imported only when asked for, since
the loader's workers import `mmssl.data.shards.index` and nothing of the build.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmssl.data.shards.builder import BuildProgress, BuildSummary, build
    from mmssl.data.shards.settings import BuildSettings

__all__ = ["BuildProgress", "BuildSettings", "BuildSummary", "build"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from mmssl.data.shards import builder

        return getattr(builder, name)
    raise AttributeError(f"module 'mmssl.data.shards' has no attribute '{name}'")
