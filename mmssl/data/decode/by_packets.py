"""Decoding by packet table: just the packets that a window needs, straight from the bytes, into kept-open decoders.

No container is opened, probed or sought, which costs a quarter of a short clip's time. Pictures that nothing refers to
and nobody wants are not decoded. The same promises as through the demuxer hold, and the same code makes the pictures
and places the sound.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import av
import av.error
import numpy as np

from mmssl.data.decode.motion import EXPORT
from mmssl.data.decode.pictures import EDGE, Pictures
from mmssl.data.decode.sound import SoundPlacer
from mmssl.data.media import MediaError, decoder_options
from mmssl.data.packets import DISCARD, DISPOSABLE, KEY, StreamTable

_SKIPS_ITSELF = ("opus", "libopus")  # a new decoder leaves out the first samples by its own knowledge
_TELLS_THE_END = ("aac",)  # decoders that take several frames in one packet
_JOINED = 32  # packets handed over as one; damage that a decoder does not notice may spread so far
_KEPT = 8  # decoders kept open, one for each set of parameters


class OpenDecoders:
    """Decoders kept open from clip to clip, by what they were opened with."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[str, bytes, str], Any] = OrderedDict()

    def of(self, stream: StreamTable, fresh: bool = False, motion: bool = False) -> Any:
        """A decoder for the stream, flushed; with `fresh` one that has seen nothing yet, with `motion` one that tells.

        Raises:
            MediaError: FFmpeg has no such decoder here, or refuses the parameters.
        """
        name = (stream.codec, stream.extradata, f"{stream.facts.get('rate')} {stream.facts.get('layout')} {motion}")
        context = self._open.get(name)
        if context is not None and not fresh:
            self._open.move_to_end(name)
            context.flush_buffers()
            return context
        try:
            picture = "rate" not in stream.facts
            context = self.create(stream.codec, picture)
            if context.type != ("video" if picture else "audio"):
                raise MediaError("no decoder", f"'{stream.codec}' is no decoder of {'picture' if picture else 'sound'}")
            if stream.extradata:
                context.extradata = stream.extradata
            if "rate" in stream.facts:
                context.sample_rate = stream.facts["rate"]
                context.layout = stream.facts["layout"]
            context.options = decoder_options() | (EXPORT if motion else {})
            context.thread_count = 1
            context.open()
        except (av.error.FFmpegError, ValueError, LookupError) as error:
            raise MediaError("no decoder", f"FFmpeg cannot open '{stream.codec}' ({error})") from None
        self._open[name] = context
        if len(self._open) > _KEPT:
            self._open.popitem(last=False)
        return context

    def create(self, codec: str, picture: bool) -> Any:
        """A new decoder of FFmpeg, not open yet."""
        return av.CodecContext.create(codec, "r")

    def forget(self) -> None:
        """Drop all decoders: one that has met damaged bytes may carry the damage on."""
        self._open.clear()


def read_pictures(decoder: Any, media: memoryview, stream: StreamTable, zero: float, pictures: Pictures) -> None:
    """Write the pictures on screen at the wanted times.

    Args:
        decoder: an open decoder of the stream.
        media: the clip's media.
        stream: its table.
        zero: time stamp of the clock's 0, seconds.
        pictures: what is wanted, and where it is written.

    Raises:
        MediaError: a wanted picture did not come out of the decoder.
    """
    number, began = _on_screen(stream, zero, pictures.wanted.reshape(-1))
    slots: dict[int, list[int]] = {}  # pts of a picture -> where it is wanted
    for slot, stamp in enumerate(stream.pts[number].tolist()):
        slots.setdefault(stamp, []).append(slot)
    begins = began.tolist()
    tick = stream.time_base[0] / stream.time_base[1]
    packet, decode = _packets(media, stream), decoder.decode
    see, show, wants, still = pictures.see, pictures.show, slots.pop, pictures.motion is None

    def take(frames: list[Any]) -> None:
        for frame in frames:
            stamp = frame.pts
            since = None if still else see(frame, stamp * tick - zero)
            places = wants(stamp, None)
            if places is not None:
                show(frame, places, begins[places[0]], since)
        if still:
            pictures.decoded += len(frames)

    held: list[Any] = []
    size, most = (0, 0), 0  # of the newest frame, and how many of this size are held
    for run, (packets, count) in enumerate(_runs(stream, number)):
        if run:
            decoder.flush_buffers()
            if pictures.motion is not None:
                pictures.motion.forget()
        left = len(slots) - count
        if not still:
            packets = [*packets, *_following(stream, packets[-1])]
        try:
            for made in [packet(n) for n in packets]:
                frames = decode(made)
                if not frames:
                    continue
                held += frames
                newest = frames[-1]
                if newest.width != size[0] or newest.height != size[1]:
                    size, most = (newest.width, newest.height), pictures.fitter.holds(newest)
                if len(held) >= most:
                    take(held)
                    held.clear()
        except av.error.FFmpegError:
            pictures.decoded += len(held)
            raise
        take(held)
        held.clear()
        if len(slots) > left:
            take(decode(None))  # what the decoder holds back to put pictures in order
            decoder.flush_buffers()
    if slots:
        raise MediaError("no frame", f"{len(slots)} wanted pictures did not come out of the decoder")


def _on_screen(stream: StreamTable, zero: float, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Int64 [K]: number (in decode order) of the picture on screen at each time; float64 [K]: when it began."""
    ordered = stream.pts.argsort(kind="stable")
    if int(np.bitwise_or.reduce(stream.flags)) & DISCARD:
        ordered = ordered[(stream.flags[ordered] & DISCARD) == 0]
    begins = stream.seconds[ordered] - zero
    at = begins.searchsorted(times + EDGE, side="right") - 1
    np.maximum(at, 0, out=at)
    return ordered[at], begins[at]


def _runs(stream: StreamTable, number: np.ndarray) -> Iterator[tuple[list[int], int]]:
    """The packets to decode, in runs that each begin at a key frame, with the number of wanted pictures in each.

    `number` holds the wanted pictures' numbers in decode order, in any order and any number of times.
    """
    keep = set(number.tolist())
    keys = (stream.flags & KEY).nonzero()[0].tolist()
    flags, shows = stream.flags.tobytes(), stream.pts.tolist()

    def run(first: int, last: int, count: int) -> tuple[list[int], int]:
        return [n for n in range(first, last + 1) if not flags[n] & DISPOSABLE or n in keep], count

    first, last, count = -1, -1, 0
    for n in sorted(keep):
        before = bisect_right(keys, n) - 1
        # A picture shown before the key frame that it follows leans on the group before that one, too.
        begin = keys[max(before - (shows[n] < shows[keys[before]]), 0)]
        if first < 0:
            first = begin
        if begin > last + 1 and count:
            yield run(first, last, count)
            first, count = begin, 0
        first = min(first, begin)  # a key frame comes before the pictures that lead to it and lean on the group before
        last, count = n, count + 1
    yield run(first, last, count)


def _following(stream: StreamTable, last: int) -> list[int]:
    """The next packet whose picture pushes out the one of `last`: pictures that are drained come without vectors."""
    later = slice(last + 1, None)
    behind = ((stream.flags[later] & DISPOSABLE == 0) & (stream.pts[later] > stream.pts[last])).nonzero()[0]
    return [last + 1 + int(behind[0])] if len(behind) else []


def _packets(media: memoryview, stream: StreamTable) -> Callable[[int], Any]:
    """What makes the n-th packet of a stream."""
    offsets, sizes, stamps, make = stream.offset.tolist(), stream.size.tolist(), stream.pts.tolist(), av.Packet

    def packet(number: int) -> Any:
        at = offsets[number]
        made = make(media[at : at + sizes[number]])
        made.pts = stamps[number]
        return made

    return packet


def read_sound(
    decoders: OpenDecoders, media: memoryview, stream: StreamTable, zero: float, placers: list[SoundPlacer]
) -> None:
    """Decode the packets that the placers want and hand them their sound.

    Flushing forgets what AAC overlaps, but not the shape of the last window: where the very first packet is heard, a
    decoder that has seen nothing gives what the demuxer's gives.

    Raises:
        MediaError: the sound is not what the table says.
    """
    begins = stream.seconds - zero
    skips = {int(n): (int(a), int(b)) for n, a, b in stream.facts["skips"]}
    preroll, rate = int(stream.facts["preroll"]), int(stream.facts["rate"])
    earliest = min(placer.start for placer in placers)
    # Time stamps that count samples say where each frame lies; the same samples come out as from joining runs.
    exact = stream.time_base == (1, rate) and stream.facts["layout"] == "mono" and placers[0].rate == rate
    shift, stamps = round(zero * rate), stream.pts.tolist()
    for first, last in _stretches(begins, placers, preroll):
        heard = first == 0 and (len(begins) < 2 or float(begins[1]) > earliest)
        floats: bool | None = None
        parts: list[np.ndarray] = []  # sound that follows on: written in one go
        at = after = 0  # time stamps at which it begins and ends
        for n, frame in _frames(decoders, media, stream, first, last, heard):
            if floats is None:
                if frame.sample_rate != rate:
                    raise MediaError("broken sound", f"{frame.sample_rate} samples a second, not {rate}")
                floats = exact and frame.format.name == "fltp"
            begin, end = skips.get(n, (0, 0)) if skips else (0, 0)
            if floats:
                sound = np.frombuffer(frame.planes[0], np.float32, frame.samples)
                stamp = stamps[n]
                if begin or end:
                    sound, stamp = sound[begin : max(len(sound) - end, 0)], stamp + begin
                if stamp != after or not parts:
                    _write(placers, parts, at - shift)
                    parts, at = [], stamp
                parts.append(sound)
                after = stamp + len(sound)
            else:
                # What is skipped moves the time stamp, in its own steps, as FFmpeg does it.
                later = math.floor(begin / rate * stream.time_base[1] / stream.time_base[0] + 0.5)
                time = (stamps[n] + later) * stream.time_base[0] / stream.time_base[1] - zero
                if heard and stream.codec in _SKIPS_ITSELF:
                    begin = 0
                for placer in placers:
                    placer.add(frame, time, begin, end)
        _write(placers, parts, at - shift)
    for placer in placers:
        placer.flush()


def _frames(
    decoders: OpenDecoders, media: memoryview, stream: StreamTable, first: int, last: int, fresh: bool
) -> Iterator[tuple[int, Any]]:
    """The frames of the packets [first, last), each with its packet's number.

    Where a decoder tells where in its input a frame ends, many packets are handed to it as one: a call costs as much
    as decoding a few milliseconds of sound. Should it not give a frame for each, they are decoded one by one.
    """
    decode = decoders.of(stream, fresh=fresh).decode
    packet = None if stream.codec in _TELLS_THE_END else _packets(media, stream)
    for begin in range(first, last, _JOINED):
        numbers = range(begin, min(begin + _JOINED, last))
        if packet is None:
            frames = _joined(decode, media, stream, numbers)
            if len(frames) == len(numbers):
                yield from zip(numbers, frames, strict=True)
                continue
            packet = _packets(media, stream)
            decode = decoders.of(stream, fresh=True).decode  # garbage may have set it for other sound, flushed or not
            for n in range(max(begin - int(stream.facts["preroll"]), first), begin):
                decode(packet(n))
        for n in numbers:
            for frame in decode(packet(n)):
                yield n, frame


def _joined(decode: Callable[[Any], list[Any]], media: memoryview, stream: StreamTable, numbers: range) -> list[Any]:
    """The frames of several packets handed over as one; none where the decoder complains."""
    part = slice(numbers.start, numbers.stop)
    places = zip(stream.offset[part].tolist(), stream.size[part].tolist(), strict=True)
    try:
        return decode(av.Packet(b"".join([media[at : at + size] for at, size in places])))
    except av.error.FFmpegError:
        return []


def _write(placers: list[SoundPlacer], parts: list[np.ndarray], at: int) -> None:
    """Write sound that begins at sample `at` of the clock."""
    if parts:
        for placer in placers:
            placer.write_run(parts, at)


def _stretches(begins: np.ndarray, placers: list[SoundPlacer], preroll: int) -> list[tuple[int, int]]:
    """Runs of packets [first, last) that cover what the placers want, merged where they touch."""
    found = []
    for placer in placers:
        first = max(int(begins.searchsorted(placer.start, side="right")) - 1 - preroll, 0)
        last = int(begins.searchsorted(placer.end, side="left"))
        if last > first:
            found.append((first, last))
    found.sort()
    merged: list[tuple[int, int]] = []
    for first, last in found:
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged
