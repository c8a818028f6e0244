"""The ways to decode a clip, all of which keep the same promises: the one place where tests learn of them.

A way is a decoder and what a clip must carry for it, for instance a packet table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from mmssl.clip import EncodedClip
from mmssl.data.decode.base import Decoder
from mmssl.data.decode.choose import make_decoder
from mmssl.data.media import MediaError
from mmssl.data.packets_make import NoTable, checked_table
from tests import requirements


@dataclass(frozen=True)
class Way:
    """One way to decode.

    Args:
        decoder: name in `mmssl.data.decode.choose.DECODERS`.
        prepare: gives a clip what this way needs.
        require: skips the test where the decoder's library is not to be had.
    """

    decoder: str
    prepare: Callable[[EncodedClip], EncodedClip] = lambda clip: clip
    require: Callable[[], object] = lambda: None


def with_table(clip: EncodedClip) -> EncodedClip:
    """The clip with the packet table that an index would hold of it; as it is where it has none."""
    try:
        return replace(clip, packets=checked_table(clip.media))
    except (NoTable, MediaError):
        return clip


WAYS: dict[str, Way] = {
    "pyav": Way("pyav"),
    "pyav by packet table": Way("pyav", prepare=with_table),
    "torchcodec": Way("torchcodec", require=requirements.torchcodec),
    "decord": Way("decord", require=requirements.decord),
}


def decoder_of(way: Way) -> Decoder:
    """The decoder of a way, or the calling test is skipped and listed."""
    way.require()
    return make_decoder(way.decoder)
