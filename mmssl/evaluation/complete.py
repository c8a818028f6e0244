"""What a `results.json` must say, so that its numbers can be checked and set beside others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

VERSIONED = re.compile(r"^[a-z0-9_]+(-[a-z0-9_]+)*-v\d+$")
#: rows and numbers that are known without training, one of which stands beside every score
TRIVIAL = frozenset(
    "chance majority random_init random_map centre_disc whole_frame motion_saliency copy_first flow_warp "
    "shuffled_sound silenced_sound most_frequent".split()
)


def missing(results: Mapping[str, Any], versions: bool = True) -> list[str]:
    """What results lack, a sentence each; empty for complete ones.

    Args:
        results: the content of a results.json, or what an evaluation's `as_dict()` gives.
        versions: whether the versions must be in it already (the programs add them on writing).
    """
    found = []
    if not isinstance(results.get("evaluation"), str):
        found.append("`evaluation`: its name in EVALUATIONS")
    protocol = results.get("protocol")
    protocols = list(protocol.values()) if isinstance(protocol, Mapping) else [protocol]
    if not protocols or not all(isinstance(one, str) and VERSIONED.match(one) for one in protocols):
        found.append(
            f"`protocol`: a name that ends in its version, as 'action-linear-v1', or one a probe; got {protocol!r}"
        )
    if not isinstance(results.get("decoder"), str):
        found.append("`decoder`: what decoded the media (`stream.settings.decoder`, or what reads still pictures)")
    if not isinstance(results.get("views"), int | str):
        found.append("`views`: how many parts of a clip a score is averaged over: a number, or words as 'every frame'")
    if not isinstance(results.get("seeds"), int):
        found.append("`seeds`: how many seeds the scores are means over (1 where nothing is drawn)")
    if not TRIVIAL & set(_names(results)):
        found.append(f"baselines: none of {', '.join(sorted(TRIVIAL))} is a row or a number in it")
    if versions and "torch" not in (results.get("versions") or {}):
        found.append("`versions`: write it by pipelines.evaluate.write_results, which adds them")
    return found


def _names(found: Mapping[str, Any], depth: int = 4) -> Iterator[str]:
    """Names of all numbers and rows."""
    for name, value in found.items():
        yield str(name)
        if isinstance(value, Mapping) and depth:
            yield from _names(value, depth - 1)
