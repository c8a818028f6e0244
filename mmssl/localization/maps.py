"""Maps of where a sound comes from: each place of a frame compared with the sound around the frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mmssl.batch import Batch
from mmssl.clip import EncodedClip, Span, Window
from mmssl.data.collate import collate_clips
from mmssl.data.decode.base import Decoder
from mmssl.data.media import audio_stream, open_media
from mmssl.errors import UserError
from mmssl.nn.encoders import Encoders
from mmssl.nn.matcher import Matcher

CHUNK_SECONDS = 10.0
ROWS = 64  # frames encoded at a time


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
        maps: float32 [T, h, w].
        geometry: float64 [2, 3], from the clip's pixels to the pixels that the model saw.
        size: (height, width) that the model saw.
        duration: seconds.
    """

    times: np.ndarray
    maps: np.ndarray
    geometry: np.ndarray
    size: tuple[int, int]
    duration: float

    def at(self, time: float) -> np.ndarray:
        """Float32 [h, w]: the map at any time, between two of them in proportion."""
        after = int(np.searchsorted(self.times, time))
        if after == 0 or after == len(self.times):
            return np.asarray(self.maps[min(after, len(self.times) - 1)])
        share = (time - self.times[after - 1]) / (self.times[after] - self.times[after - 1])
        return np.asarray((1 - share) * self.maps[after - 1] + share * self.maps[after], dtype=np.float32)

    def nearest(self, time: float) -> int:
        """Index of the map nearest to a time."""
        return int(np.abs(self.times - time).argmin())


def clip_maps(
    encoders: Encoders,
    head: Matcher,
    clip: EncodedClip,
    decoder: Decoder,
    rate: float = 4.0,
    size: tuple[int, int] = (96, 96),
    device: torch.device | str = "cpu",
) -> ClipMaps:
    """Maps over a whole clip or film, decoded in stretches of ten seconds.

    Args:
        encoders: the bundle, on the device.
        head: the exported head, on the device.
        clip: the encoded clip.
        decoder: decodes it.
        rate: maps a second.
        size: (height, width) that the model sees.
        device: where the encoders are.

    Raises:
        UserError: the clip has no sound or no picture.
        MediaError: it cannot be decoded.
    """
    with open_media(clip.media) as container:
        if audio_stream(container) is None:
            raise UserError(f"'{clip.key}' has no sound; a map needs a sound")
    seconds = sound_seconds(head)
    duration = decoder.duration(clip)
    stretch = max(min(CHUNK_SECONDS, duration), 1.0 / rate)
    picture = Span(stretch, rate)
    sound = Span(min(stretch, CHUNK_SECONDS) + seconds, encoders[head.encoders["sound"]].rate)
    window = Window(picture, sound, size=size)
    times: dict[float, np.ndarray] = {}
    geometry = np.eye(2, 3)
    heard = False
    for begin in np.arange(0.0, max(duration - 1e-6, 1e-6), stretch):
        decoded = decoder.decode(clip, window, np.array([begin + stretch / 2]))
        if not decoded.has_picture:
            raise UserError(f"'{clip.key}' has no picture; a map needs one")
        heard |= decoded.has_audio  # sound may begin late or end early; there the model hears zeros
        batch = collate_clips([decoded]).to(device)
        wanted = batch.times(picture)
        inside = wanted[0] < max(duration, 1e-6)
        maps = localization_maps(encoders, head, batch, wanted[:, inside])[0].cpu().numpy()
        times |= dict(zip((float(t) for t in wanted[0, inside]), maps, strict=True))
        geometry = decoded.geometry
    if not heard:
        raise UserError(f"'{clip.key}' has no sound that can be decoded; a map needs a sound")
    order = sorted(times)
    return ClipMaps(np.array(order), np.stack([times[t] for t in order]), geometry, size, duration)
