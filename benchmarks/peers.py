"""How users of other libraries decode a window of a clip: what `decoders.py` and `loaders.py` compare with.

Each takes the bytes of an mp4 and the start of a window of 2 s, and gives uint8 RGB [16, H, W, 3] and 16 kHz mono
sound [32000], with one thread. "whole" decodes the whole clip and picks, the recipe in wide use.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import av
import numpy as np

SECONDS, RATE, SOUND_RATE = 2.0, 8.0, 16000
Decoded = tuple[Any, Any]
Peer = Callable[[bytes, float], Decoded]


def times_from(start: float) -> np.ndarray:
    """Float64 [16]: the wanted times, a hair after the grid, so that rounding picks no frame before."""
    return start + np.arange(round(SECONDS * RATE)) / RATE + 1e-4


def torchcodec(media: bytes, start: float, mode: str = "exact") -> Decoded:
    """Decoders of pictures and of sound, frames by their times."""
    from torchcodec.decoders import AudioDecoder, VideoDecoder

    frames = VideoDecoder(media, num_ffmpeg_threads=1, seek_mode=mode, dimension_order="NHWC").get_frames_played_at(
        times_from(start).tolist()
    )
    sound = AudioDecoder(media, sample_rate=SOUND_RATE, num_channels=1)
    return frames.data, sound.get_samples_played_in_range(start, start + SECONDS).data


def pyav(media: bytes, start: float) -> Decoded:
    """Seek, decode until the window is over; sound in a second pass."""
    wanted = times_from(start)
    with av.open(io.BytesIO(media)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        container.seek(int(start / stream.time_base), stream=stream)
        frames: list[np.ndarray] = []
        held = None
        for frame in container.decode(stream):
            while held is not None and len(frames) < len(wanted) and wanted[len(frames)] < frame.time:
                frames.append(held.reformat(format="rgb24", threads=1).to_ndarray())
            held = frame
            if len(frames) == len(wanted):
                break
        while len(frames) < len(wanted) and held is not None:
            frames.append(held.reformat(format="rgb24", threads=1).to_ndarray())
        sound = container.streams.audio[0]
        container.seek(int(start / sound.time_base), stream=sound)
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=SOUND_RATE)
        parts = []
        for frame in container.decode(sound):
            if frame.time >= start + SECONDS:
                break
            parts += [part.to_ndarray() for part in resampler.resample(frame)]
    return np.stack(frames), np.concatenate(parts, axis=1)[:, : round(SECONDS * SOUND_RATE)]


def decord(media: bytes, start: float, whole: bool = False) -> Decoded:
    """The frames of the window, or every frame and then those."""
    import decord as library

    reader = library.VideoReader(io.BytesIO(media), num_threads=1)
    index = np.minimum((times_from(start) * reader.get_avg_fps()).astype(int), len(reader) - 1)
    if whole:
        frames = reader.get_batch(range(len(reader))).asnumpy()[index]
    else:
        frames = reader.get_batch(index).asnumpy()
    sound = library.AudioReader(io.BytesIO(media), sample_rate=SOUND_RATE, mono=True)
    first = round(start * SOUND_RATE)
    return frames, sound[first : first + round(SECONDS * SOUND_RATE)].asnumpy()


def decord_whole(media: bytes, start: float) -> Decoded:
    """See `decord`."""
    return decord(media, start, whole=True)


def spdl(media: bytes, start: float) -> Decoded:
    """Packets of the clip, the frames that are wanted of them, and the sound of the window by a filter."""
    import spdl.io as library

    packets = library.demux_video(media)
    rate = packets.frame_rate[0] / packets.frame_rate[1]
    index = np.minimum((times_from(start) * rate).astype(int), len(packets) - 1)
    one = library.decode_config(decoder_options={"threads": "1"})
    frames = library.sample_decode_video(packets, index.tolist(), decode_config=one)
    window = (start, start + SECONDS)
    wanted = library.get_audio_filter_desc(sample_rate=SOUND_RATE, num_channels=1, timestamp=window)
    sound = library.load_audio(media, timestamp=window, filter_desc=wanted)
    return np.asarray(library.convert_frames(frames)), np.asarray(sound)


PEERS: dict[str, Peer] = {
    "torchcodec": torchcodec,
    "pyav": pyav,
    "spdl": spdl,
    "decord": decord,
    "decord, whole clip": decord_whole,
}
