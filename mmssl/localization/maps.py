"""Maps of where a sound comes from: each place of a frame compared with the sound around the frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mmssl.batch import Batch
from mmssl.clip import EncodedClip
from mmssl.errors import UserError
from mmssl.localization.film import Film, FilmReader
from mmssl.localization.store import MapStore
from mmssl.nn.encoders import Encoders
from mmssl.nn.matcher import Matcher

ROWS = 64  # frames read, encoded and held at a time


def sound_seconds(head: Matcher) -> float:
    """Length of the sound that the head compares with a frame; 1 s where it does not say."""
    return float(head.init_args.get("sound_seconds", 1.0))


def check_head(encoders: Encoders, head: Matcher) -> None:
    """Raise a UserError unless the head compares pictures with sounds, gives maps, and the bundle has its encoders."""
    if not {"picture", "sound"} <= set(head.encoders):
        has = ", ".join(head.encoders)
        raise UserError(f"the head {type(head).__name__} compares {has}; localization needs picture and sound")
    if type(head).similarity_map is Matcher.similarity_map:
        raise UserError(f"the head {type(head).__name__} has no map over the picture; train `av_localization`")
    for modality, wanted in (("picture", "image"), ("sound", "audio")):
        name = head.encoders[modality]
        if encoders[name].modality != wanted:
            raise UserError(f"encoder '{name}' is of modality '{encoders[name].modality}', the head needs '{wanted}'")


@torch.inference_mode()
def match_maps(encoders: Encoders, head: Matcher, frames: torch.Tensor, waves: torch.Tensor) -> torch.Tensor:
    """Float32 [N, h, w]: the map of each frame with its sound, larger where it matches.

    Args:
        encoders: the bundle.
        head: the exported head.
        frames: uint8 [N, 3, H, W].
        waves: float32 [N, S], the sound around each frame.
    """
    image, audio = encoders[head.encoders["picture"]], encoders[head.encoders["sound"]]
    made = []
    for begin in range(0, len(frames), ROWS):
        picture = image(frames[begin : begin + ROWS].float() / 255.0)
        sound = audio(audio.frontend(waves[begin : begin + ROWS]))
        made.append(head.similarity_map(picture, sound).float())
    return torch.cat(made)


def localization_maps(
    encoders: Encoders, head: Matcher, batch: Batch, times: torch.Tensor, view: int = 0
) -> torch.Tensor:
    """Float32 [B, T, h, w]: maps at the wanted times, each with the sound around it.

    Args:
        encoders: the bundle.
        head: the exported head; its `sound_seconds` must lie inside the window's sound.
        batch: clips decoded with picture and sound.
        times: float64 [B, T], times that the window asked for.
        view: which anchor.
    """
    seconds = sound_seconds(head)
    frames = batch.frames_at(times, view)
    first = batch.audio_start[:, view, None]
    length = batch.audio.shape[-1] / batch.audio_rate
    # Centred on the frame, moved inside the clip, and inside what was decoded.
    latest = torch.minimum(first + length, batch.duration[:, None]) - seconds
    start = torch.maximum(torch.minimum(times - seconds / 2, latest), first)
    waves = torch.stack([batch.audio_between(start[:, t], seconds, view) for t in range(times.shape[1])], dim=1)
    maps = match_maps(encoders, head, frames.flatten(0, 1), waves.flatten(0, 1))
    return maps.reshape(len(batch), times.shape[1], *maps.shape[1:])


@dataclass(frozen=True)
class ClipMaps:
    """Maps over a whole clip.

    Args:
        times: float64 [T], seconds on the clip's clock.
        maps: float32 [T, h, w]; those of `clip_maps` lie on the disk.
        geometry: float64 [2, 3], from the clip's pixels to the pixels that the model saw.
        size: (height, width) that the model saw.
        duration: seconds; of a file that is cut off, to where it can be read.
        faults: sentences about what could not be read.
    """

    times: np.ndarray
    maps: np.ndarray
    geometry: np.ndarray
    size: tuple[int, int]
    duration: float
    faults: tuple[str, ...] = ()

    def at(self, time: float, change: Callable[[np.ndarray], np.ndarray] = np.asarray) -> np.ndarray:
        """Float32 [h, w]: the map at any time, between two of them in proportion.

        Args:
            time: seconds.
            change: what is done to each of the two before.
        """
        after = int(np.searchsorted(self.times, time))
        if after == 0 or after == len(self.times):
            return np.array(change(self.maps[min(after, len(self.times) - 1)]))
        share = (time - self.times[after - 1]) / (self.times[after] - self.times[after - 1])
        one, other = change(self.maps[after - 1]), change(self.maps[after])
        return np.asarray((1 - share) * one + share * other, dtype=np.float32)

    def nearest(self, time: float) -> int:
        """Index of the map nearest to a time."""
        return int(np.abs(self.times - time).argmin())


def clip_maps(
    encoders: Encoders,
    head: Matcher,
    clip: EncodedClip | Film,
    rate: float = 4.0,
    size: tuple[int, int] = (96, 96),
    device: torch.device | str = "cpu",
    scratch: Path | None = None,
    progress: Callable[[float], None] | None = None,
) -> ClipMaps:
    """Maps over a whole clip or film, read once, in stretches of `ROWS` maps, which are written to the disk.

    Where a film is cut off, or parts of it cannot be decoded, there are maps of what can; `faults` tells.

    Args:
        encoders: the bundle, on the device.
        head: the exported head, on the device.
        clip: the encoded clip, or a film on the disk.
        rate: maps a second.
        size: (height, width) that the model sees.
        device: where the encoders are.
        scratch: folder on whose disk the maps lie as long as they are used; that for temporary files unless given.
        progress: is told which share is done.

    Raises:
        UserError: the clip has no sound or no picture.
        MediaError: it cannot be decoded.
    """
    heard_rate = round(encoders[head.encoders["sound"]].rate)
    reader = FilmReader(clip, rate, size, heard_rate, sound_seconds(head))
    store, times = MapStore(scratch), []
    for stretch in reader.stretches(ROWS):
        frames, waves = torch.from_numpy(stretch.frames).to(device), torch.from_numpy(stretch.waves).to(device)
        store.append(match_maps(encoders, head, frames, waves).cpu().numpy())
        times.append(stretch.times)
        if progress is not None:
            progress(min(float(stretch.times[-1]) / max(reader.duration, 1e-6), 1.0))
    if not reader.heard:
        raise UserError(f"'{clip.key}' has no sound that can be decoded; a map needs a sound")
    told = reader.faults.told()
    return ClipMaps(np.concatenate(times), store.array(), reader.geometry, size, reader.duration, told)
