"""Wraps the steps from shard to batch with a stopwatch, for the length of a measurement.

FFmpeg's objects cannot be patched, so containers, packets and decoders are handed out behind thin stand-ins. A step
that a decoder does not have is left out; its time is then that of the step around it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from mmssl.data.bench.stopwatch import Stopwatch

READ, OPEN, DEMUX = "read", "open", "demux"
PICTURE, SOUND = "decode picture", "decode sound"
CONVERT, PLACE, TEXT, COLLATE = "convert and scale", "place and copy", "subtitles and json", "collate"
DECODE = "decode"  # of decoders whose inside is not looked into
REST = "rest"
PARTS = (READ, OPEN, DEMUX, PICTURE, SOUND, DECODE, CONVERT, PLACE, TEXT, COLLATE, REST)

#: module, name in it (a function, or a method of a class), part
STEPS = (
    ("mmssl.data.worker", "read_clip", TEXT),
    ("mmssl.data.worker", "decode_job", PLACE),
    ("mmssl.data.stream", "collate", COLLATE),
    ("mmssl.data.worker", "read_sentences", TEXT),
    ("mmssl.data.decode.pyav", "PyAVDecoder.duration", OPEN),
    ("mmssl.data.decode.pyav", "PyAVDecoder.decode", PLACE),
    ("mmssl.data.decode.pyav", "_table_of", OPEN),
    ("mmssl.data.decode.fitting", "PictureFitter.fit", CONVERT),
    ("mmssl.data.decode.fitting", "PictureFitter.fit_into", CONVERT),
    ("mmssl.data.decode.pictures", "Pictures.copy", CONVERT),
    ("mmssl.data.decode.sound", "SoundPlacer.add", PLACE),
    ("mmssl.data.decode.sound", "SoundPlacer.flush", PLACE),
    ("mmssl.data.decode.decord", "DecordDecoder.decode", DECODE),
    ("mmssl.data.decode.torchcodec", "TorchCodecDecoder.decode", DECODE),
)


@contextmanager
def instrumented(watch: Stopwatch) -> Iterator[None]:
    """Wrap all steps; when the block ends everything is as it was."""
    with ExitStack() as stack:
        for module, name, part in STEPS:
            stack.enter_context(replaced(module, name, partial(watch.wrap, part)))
        stack.enter_context(replaced("mmssl.data.worker", "read_members", partial(_counting, watch)))
        stack.enter_context(replaced("mmssl.data.decode.pyav", "open_media", partial(_opening, watch)))
        stack.enter_context(replaced("mmssl.data.decode.by_packets", "OpenDecoders.of", partial(_decoders, watch)))
        yield


@contextmanager
def replaced(module: str, name: str, wrap: Callable[[Any], Any]) -> Iterator[None]:
    """Put a wrapped step in the place of a step of that name, if there is one."""
    *outer, last = name.split(".")
    try:
        owner = importlib.import_module(module)
        for part in outer:
            owner = getattr(owner, part)
        step = getattr(owner, last)
    except (ImportError, AttributeError):
        yield
        return
    setattr(owner, last, wrap(step))
    try:
        yield
    finally:
        setattr(owner, last, step)


def _counting(watch: Stopwatch, step: Any) -> Any:
    timed = watch.wrap(READ, step)

    def read(*args: Any, **kwargs: Any) -> Any:
        members = timed(*args, **kwargs)
        watch.counts["bytes"] += sum(map(len, members.values()))
        return members

    return read


def _opening(watch: Stopwatch, step: Any) -> Any:
    @contextmanager
    def open_media(*args: Any, **kwargs: Any) -> Iterator[Any]:
        with watch.part(OPEN):
            manager = step(*args, **kwargs)
            container = manager.__enter__()
        try:
            yield _Container(watch, container)
        finally:
            with watch.part(OPEN):
                manager.__exit__(None, None, None)

    return open_media


def _decoders(watch: Stopwatch, step: Any) -> Any:
    def of(*args: Any, **kwargs: Any) -> Any:
        with watch.part(OPEN):
            context = step(*args, **kwargs)
        return _Context(watch, context)

    return of


class _StandIn:
    """Gives everything of the object that it stands for."""

    def __init__(self, watch: Stopwatch, it: Any) -> None:
        self._watch, self._it = watch, it

    def __getattr__(self, name: str) -> Any:
        return getattr(self._it, name)


class _Container(_StandIn):
    def demux(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        return (_Packet(self._watch, p) for p in self._watch.each(DEMUX, self._it.demux(*args, **kwargs)))

    def seek(self, *args: Any, **kwargs: Any) -> Any:
        with self._watch.part(DEMUX):
            return self._it.seek(*args, **kwargs)


class _Packet(_StandIn):
    def decode(self) -> Any:
        with self._watch.part(PICTURE if self._it.stream.type == "video" else SOUND):
            return self._it.decode()


class _Context(_StandIn):
    def decode(self, packet: Any = None) -> Any:
        with self._watch.part(PICTURE if self._it.type == "video" else SOUND):
            return self._it.decode(packet._it if isinstance(packet, _StandIn) else packet)
