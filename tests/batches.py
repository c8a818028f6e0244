"""A small world rendered straight into batches: picture, sound and sentences that belong together, without decoding.

What is linked in a clip, so that every task has something true to learn from:

====================  =============================================================================================
material (8)          colour and stripes of the patch <-> frequency of the hum <-> an adjective of the true sentence
drift (left, right)   the patch crosses the picture steadily (its place orders the frames) <-> a word of the sentence
events                at irregular instants the patch flashes and swells <-> a click in the sound
up                    the background is bright above and dark below
motion, truth         (when the window asks) the patch's drift as the codec would tell it, and as dense truth
====================  =============================================================================================

Nothing else tells the clips apart: place, drift, event times and material are drawn independently of each other.

    window = task.window                                # what the task wants; its size too, e.g. (32, 32)
    world = World(256, window, seed=0)                  # 256 clips rendered once
    batch = world.batch(range(32), epoch=3)             # rows of it; draws differ from epoch to epoch
    batch = world.batch(range(32), permute_pairs=True)  # sound and text come from another clip, always the same one
    held_out = World(128, window, seed=1).batch(range(128))
    batch = make_batch(range(8), window, seed=0)        # the short way for a unit test
    encoders = small_encoders()                         # image, video, audio, flow, text; narrow and fast
    batch = zero_input(batch, "sound")                  # a modality zeroed (but present): the ablation of law 6
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import nn

from mmssl.batch import Batch, Dense, Truth
from mmssl.clip import Sentence, Span, Window
from mmssl.data.decode.motion import CELL, field_shape
from mmssl.nn.encoders import Build, Encoders
from mmssl.randomness import sample_seed, uniform_numpy

DURATION = 4.0  # seconds of every clip
SOURCE_RATE = 12.5  # frames a second of the source; a wanted time shows the frame that began before it
MATERIALS = ("brass", "cedar", "clay", "glass", "ivory", "jade", "slate", "steel")
CHATTER = (
    "we will meet again on monday",
    "my brother has a new job",
    "they say it may rain later",
    "please close the door behind you",
    "nobody knows what happened here",
    "this song reminds me of summer",
    "dinner was good last night",
    "i have lost my keys again",
)
TRUE = "a {material} ball goes {drift} over there"
_SPOKEN = {word for line in (*CHATTER, TRUE) for word in line.split() if "{" not in word} | {
    *MATERIALS,
    "left",
    "right",
}
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(_SPOKEN))
WORD_IDS = {word: number for number, word in enumerate(WORDS)}
RADIUS = 0.2  # of a patch, in fractions of the picture
LENGTH = 12  # tokens a sentence
SENTENCES = 3  # N of the batch; a clip has two: a true one and chatter
# Corners of the colour cube, muted so that a flash can brighten them.
COLOURS = torch.tensor([[(m >> 2) & 1, (m >> 1) & 1, m & 1] for m in range(8)], dtype=torch.float32) * 0.6 + 0.15
FREQUENCIES = torch.logspace(np.log10(220), np.log10(5000), 8, dtype=torch.float64)
WINDOW = Window(picture=Span(3.0, 8), sound=Span(3.0, 16000), text=True, size=(32, 32))


class World:
    """Clips rendered once, from which batches are rows.

    Args:
        count: clips.
        window: what is "decoded": its spans, rates, size and views.
        seed: another seed, other clips.
        distractor: show a second, silent patch of another material, flashing at instants of its own.
        shorter: seconds of the clips that are shorter than `DURATION`; behind their end the last frame stays and
            there is silence.
    """

    def __init__(
        self,
        count: int,
        window: Window = WINDOW,
        seed: int = 0,
        distractor: bool = False,
        shorter: Mapping[int, float] | None = None,
    ) -> None:
        self.count, self.window, self.seed = count, window, seed
        lasts = [(shorter or {}).get(i, DURATION) for i in range(count)]
        self.duration = torch.tensor(lasts, dtype=torch.float64)
        seeds = np.array([sample_seed(seed, 0, "world", str(i)) for i in range(count)])

        def draw(name: str, n: int = 1) -> np.ndarray:
            return uniform_numpy(seeds, name, n)

        self.material = torch.from_numpy((draw("material")[:, 0] * 8).astype(np.int64))  # [B]
        self.drift = torch.from_numpy((draw("drift")[:, 0] < 0.5).astype(np.int64))  # [B], 1 is right
        self.events = torch.from_numpy(_events(draw, "events"))  # [B, E] seconds
        self.anchors = torch.from_numpy(draw("anchor", window.views)) * self.duration[:, None]  # [B, V]
        rows = list(zip(self.anchors, lasts, strict=True))
        grid = [[window.sound_grid(float(a), last) for a in row] for row, last in rows]
        self.audio_start = torch.tensor([[g[0] for g in row] for row in grid], dtype=torch.float64)
        self.audio_start /= max(window.sound_rate, 1)
        wanted = [np.stack([window.picture_times(float(a), last) for a in row]) for row, last in rows]
        self.wanted_times = torch.from_numpy(np.stack(wanted))  # [B, V, T]
        number = torch.floor(self.wanted_times * SOURCE_RATE + 1e-6)
        last_frame = torch.ceil(self.duration * SOURCE_RATE - 1e-6) - 1
        self.frame_times = number.minimum(last_frame[:, None, None]) / SOURCE_RATE
        patches = [(self.material, self.drift, self.events, torch.from_numpy(draw("height")[:, 0]))]
        if distractor:
            other = (self.material + 1 + torch.from_numpy((draw("other")[:, 0] * 7).astype(np.int64))) % 8
            drift = torch.from_numpy((draw("other drift")[:, 0] < 0.5).astype(np.int64))
            height = (patches[0][3] + 0.5) % 1.0  # the other half of the picture: the patches do not overlap
            patches.append((other, drift, torch.from_numpy(_events(draw, "other events")), height))
        self.centres = torch.stack([_centre(self.frame_times, drift, height) for _, drift, _, height in patches], -2)
        noise = torch.from_numpy(draw("noise", 9))
        self.frames = _render(self.frame_times, patches, noise, window.size)
        self.audio = _sound(self.audio_start, self.material, self.events, window, seeds)
        heard = self.audio_start[..., None] + torch.arange(self.audio.shape[-1]) / max(window.sound_rate, 1)
        self.audio *= heard < self.duration[:, None, None]
        self._text(draw)
        self.dense = _dense(self.frame_times, patches, window.size) if window.truth or window.motion else {}
        self.motion = self.motion_known = None
        if window.motion:
            rows, columns = field_shape(window.size)
            shift = (columns * CELL - window.size[1], rows * CELL - window.size[0])
            flow = torch.nn.functional.pad(self.dense["flow"].values, (0, shift[0], 0, shift[1]))
            cells = flow.unflatten(-2, (rows, CELL)).unflatten(-1, (columns, CELL))
            self.motion = cells.mean(dim=(-3, -1))
            key = torch.round(self.frame_times * SOURCE_RATE).long() % 12 == 0  # key frames have no vectors
            self.motion_known = ~key[..., None, None].expand(*key.shape, rows, columns)
            self.motion = self.motion * self.motion_known[:, :, :, None]

    def _text(self, draw: Any) -> None:
        pick, when, place = (draw(name, 2) for name in ("chatter", "when", "place"))
        rows: list[tuple[Sentence, ...]] = []
        for i in range(self.count):
            lines = [CHATTER[int(pick[i, k] * len(CHATTER))] for k in range(2)]
            words = {"material": MATERIALS[int(self.material[i])], "drift": ("left", "right")[int(self.drift[i])]}
            lines[int(place[i, 0] * 2)] = TRUE.format(**words)
            starts = [float(when[i, k]) * DURATION - 0.5 for k in range(2)]
            found = [Sentence(line, start, start + 1.0) for line, start in zip(lines, starts, strict=True)]
            rows.append(tuple(sorted(found, key=lambda s: abs((s.start + s.end) / 2 - float(self.anchors[i, 0])))))
        self.sentences = tuple(rows)
        self.token_ids = torch.zeros(self.count, SENTENCES, LENGTH, dtype=torch.int64)
        self.sentence_times = torch.zeros(self.count, SENTENCES, 2, dtype=torch.float64)
        for i, row in enumerate(rows):
            for k, sentence in enumerate(row):
                ids = [WORD_IDS[word] for word in ("[CLS]", *sentence.text.split())]
                self.token_ids[i, k, : len(ids)] = torch.tensor(ids)
                self.sentence_times[i, k] = torch.tensor([sentence.start, sentence.end])

    def partner(self, rows: torch.Tensor) -> torch.Tensor:
        """The clip whose sound and text each row gets with `permute_pairs`: half the world away, a derangement."""
        return (rows + self.count // 2) % self.count

    def batch(self, indices: Sequence[int], epoch: int = 0, permute_pairs: bool = False) -> Batch:
        """The clips `indices` (modulo the size of the world) as a batch.

        Args:
            indices: which clips.
            epoch: changes the draws of the tasks, not the clips.
            permute_pairs: whether sound and text come from `partner` (anchors and clocks stay the picture's).
        """
        rows = torch.as_tensor(list(indices)) % self.count
        heard = self.partner(rows) if permute_pairs else rows
        keys = tuple(f"clip{int(i):04d}" for i in rows)
        present = torch.ones(len(rows), dtype=torch.bool)
        seeds = [sample_seed(self.seed, epoch, "world", key) for key in keys]
        shape = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
        return Batch(
            keys=keys,
            sources=("world",) * len(rows),
            seeds=torch.tensor(seeds, dtype=torch.int64),
            weight=torch.ones(len(rows)),
            pixels=self.frames[rows],
            wanted_times=self.wanted_times[rows],
            frame_times=self.frame_times[rows],
            audio=self.audio[heard],
            audio_start=self.audio_start[rows],
            audio_rate=self.window.sound_rate,
            has_picture=present,
            has_audio=present.clone(),
            has_text=present.clone(),
            duration=self.duration[rows],
            anchors=self.anchors[rows],
            geometry=shape.expand(len(rows), 2, 3),
            sentences=tuple(self.sentences[int(i)] for i in heard),
            sentence_mask=(self.token_ids[heard] > 0).any(dim=2),
            sentence_times=self.sentence_times[heard],
            token_ids=self.token_ids[heard],
            token_mask=self.token_ids[heard] > 0,
            motion=None if self.motion is None else self.motion[rows],
            motion_known=None if self.motion_known is None else self.motion_known[rows],
            privileged={n: Dense(*(part[rows] for part in self.dense[n])) for n in self.window.truth},
        )


def truth_of(batch: Batch) -> Truth:
    """What a stream would give beside a batch of the world: its dense truth, as the window asks for it."""
    return Truth(batch.keys, (None,) * len(batch), ({},) * len(batch), batch.privileged)


def make_batch(
    indices: Sequence[int],
    window: Window = WINDOW,
    seed: int = 0,
    permute_pairs: bool = False,
    epoch: int = 0,
    distractor: bool = False,
) -> Batch:
    """Clips `indices` of a world just large enough, as a batch; see `World`."""
    world = World(max(indices) + 1 + (max(indices) + 1) % 2, window, seed, distractor)
    return world.batch(indices, epoch, permute_pairs)


def small_encoders(seed: int = 0, width: int = 64) -> Encoders:
    """Image, video, audio, flow and text encoders narrow enough for tests, with weights drawn from `seed`."""
    narrow = {"width": width, "channels": (16, 32, 48)}
    builds = {
        "image": Build("mmssl.nn.image.SmallImageEncoder", narrow),
        "video": Build("mmssl.nn.video.SmallVideoEncoder", narrow),
        "audio": Build("mmssl.nn.audio.SmallAudioEncoder", narrow),
        "flow": Build("mmssl.nn.flow.SmallFlowEncoder", narrow),
        "text": Build("mmssl.nn.text.TextEncoder", {"vocabulary": len(WORDS), "width": width, "layers": 1, "heads": 2}),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Encoders(builds)


ModuleT = TypeVar("ModuleT", bound=nn.Module)


def training_undropped(module: ModuleT) -> ModuleT:
    """The module in training mode, with statistics of the batch as training has them, but nothing dropped out.

    What compares outputs does so in this mode: in evaluation mode running statistics hide what a row has to do with
    the rest of its batch.
    """
    for part in module.train().modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        if isinstance(getattr(part, "dropout", None), float):
            part.dropout = 0.0
    return module


def zero_input(batch: Batch, what: Literal["picture", "sound", "text"]) -> Batch:
    """The batch with one modality zeroed but still marked as present."""
    changes: Any = {
        "picture": {
            "pixels": torch.zeros_like(batch.frames),
            "motion": None if batch.motion is None else torch.zeros_like(batch.motion),
        },
        "sound": {"audio": torch.zeros_like(batch.audio)},
        "text": {"token_ids": torch.where(batch.token_mask, torch.ones_like(batch.token_ids), 0)},  # all [UNK]
    }[what]
    return dataclasses.replace(batch, **changes, _made={})


def _events(draw: Any, name: str) -> np.ndarray:
    """Float64 [B, 10]: instants 0.45 to 0.95 s apart, beginning before the clip."""
    gaps = 0.45 + 0.5 * draw(name, 10)
    return np.asarray(np.cumsum(gaps, axis=1) - 0.9)


def _centre(times: torch.Tensor, drift: torch.Tensor, height: torch.Tensor) -> torch.Tensor:
    """Centre (x, y) of a patch in fractions of the picture, [B, V, T, 2]."""
    along = 0.2 + 0.6 * times / DURATION
    x = torch.where(drift[:, None, None] > 0, along, 1 - along)
    y = (0.2 + 0.6 * height)[:, None, None].expand_as(x)
    return torch.stack([x, y], dim=-1)


def _after(times: torch.Tensor, events: torch.Tensor, decay: float) -> torch.Tensor:
    """1 at each event, decaying after it; times [B, ...] and events [B, E] give [B, ...]."""
    since = times[..., None] - events.reshape(len(events), *[1] * (times.ndim - 1), -1)
    return torch.where(since >= 0, torch.exp(-since / decay), torch.zeros_like(since)).amax(dim=-1)


def _patch(
    times: torch.Tensor, drift: torch.Tensor, events: torch.Tensor, place: torch.Tensor, size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where a patch is, bool [B, V, T, H, W]; how much it flashes [B, V, T, 1, 1]; (x, y) from its centre."""
    y = (torch.arange(size[0]) + 0.5).div(size[0])[:, None]
    x = (torch.arange(size[1]) + 0.5).div(size[1])[None, :]
    centre = _centre(times, drift, place).float()
    glow = _after(times, events, 0.12).float()[..., None, None]
    dx, dy = x - centre[..., 0, None, None], y - centre[..., 1, None, None]
    return (dx**2 + dy**2).sqrt() < RADIUS * (1 + 0.4 * glow), glow, dx, dy


def _dense(times: torch.Tensor, patches: Sequence[tuple[torch.Tensor, ...]], size: tuple[int, int]) -> dict[str, Dense]:
    """The dense truth by name: flat patches before a wall. The camera is said to go against the first patch's drift."""
    instances = torch.zeros(*times.shape, *size, dtype=torch.uint8)
    flow = torch.zeros(*times.shape, 2, *size)
    for number, (_, drift, events, place) in enumerate(patches, start=1):
        inside = _patch(times, drift, events, place, size)[0]
        instances[inside] = number
        speed = torch.where(drift > 0, 0.6, -0.6) * size[1] / DURATION
        flow[..., 0, :, :] = torch.where(inside, speed.float()[:, None, None, None, None], flow[..., 0, :, :])
    facing = torch.tensor([0.0, 0.0, -1.0])[:, None, None].expand(*times.shape, 3, *size)
    known = torch.ones(*times.shape, *size, dtype=torch.bool)
    dense = {n: Dense(v, known) for n, v in {"flow": flow, "instances": instances, "normals": facing}.items()}
    dense["depth"] = Dense(torch.where(instances > 0, 1.0, 2.0), known)
    pose = torch.eye(3, 4).repeat(*times.shape, 1, 1)
    pose[..., 0, 3] = (torch.where(patches[0][1] > 0, -0.1, 0.1)[:, None, None] * times / DURATION).float()
    dense["pose"] = Dense(pose, torch.ones(times.shape, dtype=torch.bool))
    return dense


def _render(
    times: torch.Tensor, patches: Sequence[tuple[torch.Tensor, ...]], noise: torch.Tensor, size: tuple[int, int]
) -> torch.Tensor:
    """Uint8 [B, V, T, 3, H, W]."""
    height, width = size
    y = (torch.arange(height) + 0.5).div(height)[:, None]
    x = (torch.arange(width) + 0.5).div(width)[None, :]
    # Background: bright above, with a slow pattern of the clip's own; [B, 1, 1, 3, H, W].
    n = noise.float()[:, :, None, None]
    tint = 0.06 * (n[:, :3] - 0.5)
    wave = (
        0.06
        * torch.sin(6 * x * (1 + n[:, 3:4]) + 6.3 * n[:, 4:5])
        * torch.cos(6 * y * (1 + n[:, 5:6]) + 6.3 * n[:, 6:7])
    )
    back = (0.62 - 0.4 * y) + tint + wave
    picture = back[:, None, None].expand(-1, *times.shape[1:], -1, -1, -1)
    for material, drift, events, place in patches:
        inside, glow, dx, dy = _patch(times, drift, events, place, size)
        inside = inside.float()[..., None, :, :]
        turn = (material % 4).float()[:, None, None, None, None] * (np.pi / 4)
        stripes = torch.sin(2 * np.pi * 9 * (dx * torch.cos(turn) + dy * torch.sin(turn)))[..., None, :, :]
        colour = COLOURS[material][:, None, None, :, None, None] + 0.12 * stripes
        shown = colour + (1 - colour) * 0.7 * glow[..., None, :, :]
        picture = picture + inside * (shown - picture)
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8)


def _sound(
    start: torch.Tensor, material: torch.Tensor, events: torch.Tensor, window: Window, seeds: np.ndarray
) -> torch.Tensor:
    """Float32 [B, V, S]: hum of the material, a click at each event, and a little noise."""
    rate = window.sound_rate
    if not rate:
        return torch.zeros(*start.shape, 0)
    assert window.sound_span is not None
    first = torch.round(start * rate).long()
    number = first[..., None] + torch.arange(window.sound_span.count)  # on the clip's grid: any window, same samples
    times = number / rate
    hum = 0.1 * torch.sin(2 * np.pi * FREQUENCIES[material].float()[:, None, None] * times)
    tape = torch.from_numpy(
        uniform_numpy(np.zeros(1, dtype=np.int64), "hiss", 2 * round(DURATION * rate) + 9)[0]
    ).float()
    offset = torch.from_numpy(seeds % round(DURATION * rate))[:, None, None]
    hiss = 2 * tape[number + offset] - 1
    sorted_events = events.float().contiguous()
    last = torch.searchsorted(sorted_events, times.flatten(1), right=True) - 1  # the event before each sample
    since = times - sorted_events.gather(1, last.clamp(min=0)).reshape(times.shape)
    click = torch.where((since >= 0) & (last >= 0).reshape(times.shape), torch.exp(-since.abs() / 0.02), 0.0)
    return (hum + hiss * (0.6 * click + 0.003)).clamp(-1, 1)
