"""Encoding a clip: H.264 without B-frames and AAC in one mp4, both starting at time 0 of the clip."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np

from mmssl.data.shards.settings import BuildSettings
from mmssl.data.shards.sound import Samples

FINE = Fraction(1, 90000)
_AAC_FRAME = 1024


class PictureEncoder:
    """Takes frames one by one and keeps only their packets, so that a film never lies in memory as pixels."""

    def __init__(self, size: tuple[int, int], rate: Fraction, constant: bool, settings: BuildSettings) -> None:
        self.size, self.rate, self.constant, self.settings = size, rate, constant, settings
        self.time_base = 1 / rate if constant else FINE
        self.frames = 0
        self._context: Any = av.CodecContext.create("libx264", "w")
        self._configure(self._context)
        self._context.flags |= av.codec.context.Flags.global_header
        self._packets: list[Any] = []

    def _configure(self, context: Any) -> None:
        context.height, context.width = self.size
        context.pix_fmt = "yuv420p"
        context.time_base, context.framerate = self.time_base, self.rate
        context.gop_size, context.max_b_frames, context.thread_count = self.settings.gop, 0, 1
        context.colorspace = context.color_primaries = context.color_trc = 6  # BT.601 (SMPTE 170M)
        context.color_range = 1  # limited
        options = {"preset": self.settings.preset, "crf": str(self.settings.crf)}
        if self.settings.tune:
            options["tune"] = self.settings.tune
        options["x264-params"] = f"scenecut=0:keyint={self.settings.gop}:min-keyint=1:bframes=0"
        context.options = options

    def add(self, frame: Any, stamp: int) -> None:
        """Encode a yuv420p frame of the encoder's size; `stamp` counts in `time_base` from the clip's start."""
        frame.pts, frame.time_base, frame.pict_type = stamp, self.time_base, 0
        self._packets += self._context.encode(frame)
        self.frames += 1

    def close(self) -> None:
        """End the picture; the encoder's memory goes back, the packets stay."""
        if self._context is not None:
            self._packets += self._context.encode(None)
            self._context = None

    def finish(self, samples: Samples | None) -> bytes:
        """Return the mp4, with sound (int16, at the settings' rate, from the clip's start) or without."""
        self.close()
        file = io.BytesIO()
        with av.open(file, "w", format="mp4") as container:
            video = container.add_stream("libx264", rate=self.rate)
            self._configure(video.codec_context)
            sound_packets = []
            if samples is not None:
                audio = container.add_stream("aac", rate=self.settings.audio_rate, layout="mono")
                audio.codec_context.bit_rate = self.settings.audio_bitrate
                audio.codec_context.thread_count = 1
                sound_packets = _encode_sound(audio, samples, self.settings.audio_rate)
            for packet in self._packets:
                packet.stream = video
                container.mux(packet)
            for packet in sound_packets:
                container.mux(packet)
        return file.getvalue()


def _encode_sound(stream: Any, samples: Samples, rate: int) -> list[Any]:
    waveform = (samples.astype(np.float32) / 32768.0)[None]
    packets = []
    for begin in range(0, waveform.shape[1], _AAC_FRAME):
        part = np.ascontiguousarray(waveform[:, begin : begin + _AAC_FRAME])
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), begin
        packets += stream.encode(frame)
    return packets + list(stream.encode(None))
