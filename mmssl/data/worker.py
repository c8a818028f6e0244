"""The decode worker: a process that imports numpy and av but not torch, and writes into the parent's ring.

It is started as a fresh Python, not by forking or by running the program's main module again, so that neither the
parent's threads nor what its script imports reach it. It ends when its socket to the parent closes. A stream
without workers decodes by the same functions in its own process.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from multiprocessing.connection import Connection
from typing import Any, Literal

import numpy as np

from mmssl.clip import Clip, EncodedClip, Pixels, Window
from mmssl.data.decode.base import Buffers, Decoder
from mmssl.data.decode.choose import make_decoder
from mmssl.data.decode.text import read_sentences
from mmssl.data.dense_truth import LARGEST as LARGEST_TRUTH
from mmssl.data.dense_truth import MEMBER as TRUTH
from mmssl.data.dense_truth import BadTruth, Field, read_fields
from mmssl.data.look_ahead import LookAhead
from mmssl.data.media import MediaError
from mmssl.data.memory import bound_blocks, bound_process
from mmssl.data.ring import Layout, Ring
from mmssl.data.shards.index import MEDIA, SampleEntry, read_members
from mmssl.data.shards.members import read_packets
from mmssl.data.sources import Place
from mmssl.data.subtitles import SUFFIXES
from mmssl.errors import UserError
from mmssl.randomness import uniform_of

Anchor = Literal["random", "centre", "even"]
# Faults of the program, never of a sample: they stop the run at once. Whatever else a sample raises is a hole.
PROGRAM_FAULTS = (NameError, TypeError, AttributeError, ImportError, AssertionError, NotImplementedError)
CAPTION = "txt"  # what webdataset's tools call the text of a sample
MEMORY = 1536 << 20  # bytes a worker may take beyond its start: the largest member, its pictures and their references
# Bytes of a member.
LARGEST_MEDIA, LARGEST_PACKETS, LARGEST_JSON, LARGEST_SUBTITLES = 1 << 30, 16 << 20, 16 << 20, 1 << 20


@dataclass(frozen=True)
class Settings:
    """What a worker decodes with: the same for all its batches.

    `memory` is what a worker may take beyond its start, in bytes; None, in the parent, sets no bound.
    """

    window: Window
    anchor: Anchor
    decoder: str
    rows: int  # of a rank's batch
    slots: int  # batches that a worker may be ahead
    pixels: Pixels = "rgb"
    memory: int | None = MEMORY

    @cached_property
    def seen_and_heard(self) -> Window:
        """The window that decoders are asked for: the text is read here, by the same rules for each."""
        return replace(self.window, text=False)

    @property
    def layout(self) -> Layout:
        """The ring of one worker."""
        return Layout(self.window, self.rows, self.slots, self.pixels)


@dataclass(frozen=True)
class Job:
    """A rank's batch to decode: places with the samples' seeds; a row without a place is left alone."""

    number: int
    places: tuple[Place | None, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Failure:
    """A sample that could not be read: a hole in its batch."""

    key: str
    cause: str
    message: str


@dataclass(frozen=True)
class Row:
    """One decoded sample: its clip; its description and dense truth, which only `Truth` may show.

    `dense` is empty where the window asks for none or the sample has none.
    """

    clip: Clip
    meta: Mapping[str, Any]
    dense: Mapping[str, Field] = field(default_factory=dict)


# What travels over the socket: a row's fields beside its pixels and sound (which lie in the ring) with its
# description and dense truth; a failure; or nothing for a row without a place.
Answer = tuple[dict[str, Any], Mapping[str, Any], Mapping[str, Field]] | Failure | None


@dataclass(frozen=True)
class Decoded:
    """A rank's batch decoded: the rows, and the arrays that their clips look into.

    Args:
        rows: row, failure, or None where no sample was asked for.
        frames: uint8 [B, V, T, 3, H, W].
        audio: float32 [B, V, S].
    """

    rows: list[Row | Failure | None]
    frames: np.ndarray
    audio: np.ndarray

    @classmethod
    def of(cls, answers: list[Answer], frames: np.ndarray, audio: np.ndarray) -> Decoded:
        """Put the clips together again."""
        rows: list[Row | Failure | None] = []
        for number, answer in enumerate(answers):
            if isinstance(answer, tuple):
                rows.append(Row(Clip(frames=frames[number], audio=audio[number], **answer[0]), *answer[1:]))
            else:
                rows.append(answer)
        return cls(rows, frames, audio)


def anchors_of(seed: int, anchor: Anchor, views: int, duration: float) -> np.ndarray:
    """Float64 [V]: the anchors of a sample, seconds on its clock."""
    if anchor == "random":
        return np.array([share * duration for share in uniform_of(seed, "anchor", views)])
    even: np.ndarray = (np.arange(views) + 0.5) / views * duration
    return even


def read_clip(place: Place, truth: bool = False) -> EncodedClip:
    """Read a sample's members from its shard: media, subtitles and description, whatever else it has.

    Subtitles and dense truth over their limits are left where they are, so that they lose the text, or the truth, and
    not the clip. Dense truth is read where `truth` says that it is wanted.

    Raises:
        UserError: the shard is gone, was cut or cannot be fetched.
        MediaError: "no media", "member too large" (before it is read), or "bad json": no JSON object.
    """
    entry = place.entry
    media = next((name for name in MEDIA if name in entry.members), None)
    if media is None:
        raise MediaError("no media", f"no member with video ({', '.join(MEDIA)})")
    for name, most in ((media, LARGEST_MEDIA), ("json", LARGEST_JSON), ("pkt", LARGEST_PACKETS)):
        if (size := entry.members.get(name, (0, 0))[1]) > most:
            raise MediaError("member too large", f".{name} has {size} bytes (at most {most} are read)")
    text = subtitle_member(entry)
    wanted = [media, "json", "pkt", *([text] if text and not text_too_large(entry) else [])]
    if truth and 0 < entry.members.get(TRUTH, (0, 0))[1] <= LARGEST_TRUTH:
        wanted.append(TRUTH)
    members = read_members(place.shard, entry, wanted)
    try:
        meta = json.loads(members.get("json", b"{}"))
    except (ValueError, RecursionError) as error:
        raise MediaError("bad json", f"the description cannot be read ({error})") from None
    if not isinstance(meta, dict):
        raise MediaError("bad json", "the description is no JSON object")
    return EncodedClip(
        key=entry.key,
        source=place.source,
        media=members[media],
        subtitles=b"" if text == CAPTION else members.get(text or "", b""),
        caption=members.get(CAPTION, b"") if text == CAPTION else b"",
        meta=meta,
        packets=read_packets(place.shard, entry) if entry.packets is not None else members.get("pkt"),
        truth=members.get(TRUTH, b""),
    )


def reader_for(window: Window) -> Callable[[Place], EncodedClip]:
    """What reads the members that a window needs."""
    return partial(read_clip, truth=True) if window.truth else read_clip


def subtitle_member(entry: SampleEntry) -> str | None:
    """The extension of a sample's subtitles: ``vtt``, else ``en.vtt``, ``srt`` and the like by name; None without.

    A caption without times, ``txt``, is the last resort.
    """
    if "vtt" in entry.members:
        return "vtt"
    timed = min((name for name in entry.members if f".{name}".endswith(SUFFIXES)), default=None)
    return timed or (CAPTION if CAPTION in entry.members else None)


def text_too_large(entry: SampleEntry) -> bool:
    """Whether a sample's subtitles are over their limit and not read."""
    name = subtitle_member(entry)
    return name is not None and entry.members[name][1] > LARGEST_SUBTITLES


def decode_sample(
    place: Place,
    seed: int,
    settings: Settings,
    decoder: Decoder,
    into: Buffers | None = None,
    read: Callable[[Place], EncodedClip] | None = None,
) -> Row | Failure:
    """Read and decode one sample; whatever its bytes raise gives a `Failure`, a fault of the program raises.

    Raises:
        MemoryError: without a bound (`settings.memory` is None) it is the machine's memory that is at an end.
    """
    try:
        encoded = (read or reader_for(settings.window))(place)
        duration = decoder.duration(encoded)
        # Decoding needs not measure it again; the description that `Truth` shows stays as it is.
        known = replace(encoded, meta={**encoded.meta, "duration": duration})
        anchors = anchors_of(seed, settings.anchor, settings.window.views, duration)
        clip = decoder.decode(known, settings.seen_and_heard, anchors, into)
        if settings.window.text:
            sentences, left_out = read_sentences(known)
            if text_too_large(place.entry):
                left_out["subtitles: member too large"] = 1
            clip = replace(clip, sentences=sentences, left_out={**clip.left_out, **left_out})
        dense: Mapping[str, Field] = {}
        if encoded.truth and clip.has_picture:
            try:
                dense = read_fields(encoded.truth, encoded.meta, clip, settings.window)
            except BadTruth as error:
                clip = replace(clip, left_out={**clip.left_out, f"truth: {error}": 1})
        return Row(clip, encoded.meta, dense)
    except PROGRAM_FAULTS:
        raise
    except Exception as error:  # anything that unknown bytes may bring about: counted by cause, held to a budget
        if isinstance(error, MemoryError) and settings.memory is None:
            raise
        return Failure(place.entry.key, cause_of(error), f"{place.shard}: {place.entry.key}: {error}")


def cause_of(error: Exception) -> str:
    """The short name by which a failure is counted."""
    if isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError):
        return "out of memory"
    usual = "shard unreadable" if isinstance(error, UserError) else type(error).__name__  # gone, or cut since indexed
    return str(getattr(error, "cause", None) or usual)


def decode_job(
    job: Job,
    settings: Settings,
    decoder: Decoder,
    frames: np.ndarray,
    audio: np.ndarray,
    begin: Callable[[], None] = lambda: None,
    ahead: LookAhead | None = None,
) -> list[Answer]:
    """Decode a batch into `frames` and `audio`, whose rows hold anything where a sample fails.

    `begin` is called before each sample, and each second that one from `ahead` is waited for: fetching has time limits
    of its own.
    """
    answers: list[Answer] = []
    read = None if ahead is None else partial(ahead.take, waiting=begin)
    for number, (place, seed) in enumerate(zip(job.places, job.seeds, strict=True)):
        if place is None:
            answers.append(None)
            continue
        begin()
        row = decode_sample(place, seed, settings, decoder, Buffers(frames[number], audio[number]), read)
        if isinstance(row, Failure):
            answers.append(row)
        else:
            beside = {f.name: getattr(row.clip, f.name) for f in fields(row.clip) if f.name not in ("frames", "audio")}
            answers.append((beside, row.meta, row.dense))
    return answers


def _listen(connection: Connection, jobs: queue.SimpleQueue[tuple[Job, int]], ahead: LookAhead) -> None:
    """Take jobs from the parent; its end is this process's end, also in the middle of a sample."""
    while True:
        try:
            job, slot = connection.recv()
            ahead.expect(job.places)
            jobs.put((job, slot))
        except (EOFError, OSError):
            os._exit(0)
        except MemoryError:  # half a job is no job: the parent sees a dead worker, and its batch is done again
            os._exit(1)


def main(socket_descriptor: int, ring_descriptor: int) -> None:
    """Entry point of the process: decode jobs until the parent closes the socket."""
    # Ctrl-C and a scheduler's signals go to all processes of a run: they are the parent's to handle.
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    connection = Connection(socket_descriptor)
    settings: Settings = connection.recv()
    decoder = make_decoder(settings.decoder, settings.pixels)
    ring = Ring(ring_descriptor, settings.layout)
    os.close(ring_descriptor)
    bound_blocks()
    if settings.memory is not None:
        bound_process(settings.memory)
    jobs: queue.SimpleQueue[tuple[Job, int]] = queue.SimpleQueue()
    ahead = LookAhead(reader_for(settings.window))
    threading.Thread(target=_listen, args=(connection, jobs, ahead), daemon=True).start()

    def begin() -> None:
        ring.heartbeat[0] += 1

    try:
        connection.send("ready")
        while True:
            job, slot = jobs.get()
            try:
                answer: list[Answer] | str = decode_job(job, settings, decoder, *ring.slot(slot), begin, ahead)
            except MemoryError:
                raise  # the process ends, and its batch is done again
            except Exception:  # a fault of the program: the parent raises it with this traceback
                answer = traceback.format_exc()
            connection.send((job.number, answer))
    except OSError:  # the parent is gone
        os._exit(0)
