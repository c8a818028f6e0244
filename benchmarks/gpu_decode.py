"""Decoding on the GPU: NVDEC by PyAV (frames stay on the GPU), torchcodec's cuda, and the CPU with an upload.

    python benchmarks/gpu_decode.py [--seconds 4] [--out rows.jsonl]

For small (170 x 128) and large (1280 x 720) clips, each row decodes the same window of 16 frames at 8 a second from
the middle of a clip, over and over, and ends with uint8 frames on the device; "whole" rows decode every frame. Each
way is checked first: its frames must be those of the CPU. The rows take turns, so that a machine that slows down
slows all; medians and spread. Without a GPU it says so and measures the row of the CPU alone.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import io
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import torch.utils.dlpack

SIZES = {"small": (128, 170, 12.5, 12), "large": (720, 1280, 25.0, 25)}  # height, width, frames a second, GOP
CLIP_SECONDS, WINDOW_FRAMES, WINDOW_RATE = 6.0, 16, 8.0
DARKEST, BRIGHTEST = 40, 210

Way = Callable[[bytes, np.ndarray], torch.Tensor]


def make_clip(height: int, width: int, rate: float, gop: int) -> bytes:
    """An mp4 whose brightness rises from frame to frame, over a texture that moves."""
    buffer = io.BytesIO()
    coarse = np.random.default_rng(0).integers(-20, 20, ((height + 71) // 8, (width + 71) // 8, 1), dtype=np.int16)
    noise = coarse.repeat(8, axis=0).repeat(8, axis=1)
    count = round(CLIP_SECONDS * rate)
    with av.open(buffer, "w", format="mp4") as out:
        video = out.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        video.height, video.width, video.pix_fmt = height, width, "yuv420p"
        video.codec_context.gop_size, video.codec_context.max_b_frames = gop, 0
        video.options = {"preset": "veryfast", "crf": "23"}
        for number in range(count):
            shift = number % 64
            level = DARKEST + (BRIGHTEST - DARKEST) * number / count
            picture = np.clip(noise[shift : shift + height, shift : shift + width] + level, 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.repeat(picture, 3, axis=2)), format="rgb24")
            frame.pts = number
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return buffer.getvalue()


def wanted_times(whole: bool, rate: float) -> np.ndarray:
    """Float64 [K]: a window from the middle, or every frame, asked for a little after it begins."""
    if whole:
        return np.arange(round(CLIP_SECONDS * rate)) / rate + 0.2 / rate
    return (CLIP_SECONDS - WINDOW_FRAMES / WINDOW_RATE) / 2 + np.arange(WINDOW_FRAMES) / WINDOW_RATE + 0.2 / rate


def _on_screen(container: Any, times: np.ndarray) -> list[Any]:
    """The frame on screen at each time."""
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    container.seek(int(times[0] / stream.time_base), stream=stream, backward=True)
    shown: list[Any] = []
    held = None
    for frame in container.decode(stream):
        while held is not None and len(shown) < len(times) and times[len(shown)] < frame.time:
            shown.append(held)
        held = frame
        if len(shown) == len(times):
            return shown
    return shown + [held] * (len(times) - len(shown))


def cpu_upload(device: str) -> Way:
    """PyAV on one core, RGB there, then one upload."""

    def decode(media: bytes, times: np.ndarray) -> torch.Tensor:
        with av.open(io.BytesIO(media)) as container:
            frames = [f.reformat(format="rgb24", threads=1).to_ndarray() for f in _on_screen(container, times)]
        return torch.from_numpy(np.stack(frames)).to(device).permute(0, 3, 1, 2)

    return decode


def nvdec_pyav(device: str) -> Way:
    """PyAV's hardware frames, their planes taken over by DLPack without a copy to the host, RGB made on the GPU.

    FFmpeg must use torch's CUDA context: it takes the current one, or in versions without that the primary one, which
    it refuses where torch has set it up before with other flags.
    """
    from av.codec.hwaccel import HWAccel

    torch.zeros(1, device=device)  # makes torch's context the current one
    contexts = [{"primary_ctx": "0", "current_ctx": "1"}, {"primary_ctx": "1"}]

    def decode(media: bytes, times: np.ndarray) -> torch.Tensor:
        while True:
            accelerator = HWAccel("cuda", allow_software_fallback=False, is_hw_owned=True, options=contexts[0])
            try:
                with av.open(io.BytesIO(media), hwaccel=accelerator) as container:
                    return torch.stack([_nv12_to_rgb(frame) for frame in _on_screen(container, times)])
            except (av.FFmpegError, RuntimeError, NotImplementedError) as error:
                if len(contexts) == 1:
                    raise
                print(f"nvdec by PyAV, {contexts.pop(0)}: {error}; the next context is tried", file=sys.stderr)

    return decode


def _nv12_to_rgb(frame: Any) -> torch.Tensor:
    """Uint8 [3, H, W] of a frame of NV12 planes in BT.601, limited range."""
    # As capsules: `from_dlpack(plane)` would name torch's stream, which PyAV refuses.
    luma, chroma = (torch.utils.dlpack.from_dlpack(plane.__dlpack__()) for plane in frame.planes)
    height, width = frame.height, frame.width
    luma = (luma.reshape(-1, luma.shape[1])[:height, :width].float() - 16) * (255 / 219)
    chroma = chroma.reshape(chroma.shape[0], -1, 2)[: (height + 1) // 2, : (width + 1) // 2].float() - 128
    u, v = chroma.repeat_interleave(2, 0).repeat_interleave(2, 1)[:height, :width].unbind(-1)
    rgb = (luma + 1.596 * v, luma - 0.392 * u - 0.813 * v, luma + 2.017 * u)
    return torch.stack(rgb).round().clamp(0, 255).to(torch.uint8)


def torchcodec_on(device: str) -> Way:
    """The decoder of torchcodec."""
    from torchcodec.decoders import VideoDecoder

    def decode(media: bytes, times: np.ndarray) -> torch.Tensor:
        return (
            VideoDecoder(media, device=device, num_ffmpeg_threads=1)
            .get_frames_played_at(times.tolist())
            .data.to(device)
        )

    return decode


def mmssl_nvdec(device: str, by_table: bool) -> Way:
    """The NVDEC decoder of mmssl: by packet table, when its decoder stays open, or through a demuxer for each clip."""
    from mmssl.clip import EncodedClip, Span, Window
    from mmssl.data.decode.nvdec import NVDECDecoder
    from mmssl.data.packets_make import checked_table

    decoder = NVDECDecoder(device)
    tables: dict[int, bytes] = {}

    def decode(media: bytes, times: np.ndarray) -> torch.Tensor:
        step = float(times[1] - times[0])
        size = tuple(reversed(_size_of(media)))
        window = Window(picture=Span(len(times) * step, 1 / step), size=size)
        anchor = float(times[0]) + len(times) * step / 2
        if by_table and id(media) not in tables:
            tables[id(media)] = checked_table(media)
        clip = EncodedClip("clip", "here", media, meta={"duration": CLIP_SECONDS}, packets=tables.get(id(media)))
        return torch.as_tensor(decoder.decode(clip, window, np.array([anchor])).frames)[0].to(device)

    return decode


def _size_of(media: bytes) -> tuple[int, int]:
    with av.open(io.BytesIO(media)) as container:
        stream = container.streams.video[0]
        return stream.width, stream.height


WAYS: dict[str, tuple[Callable[[str], Way], bool]] = {  # name -> (maker, needs a GPU)
    "cpu + upload": (cpu_upload, False),
    "torchcodec cpu + upload": (lambda device: _uploaded(torchcodec_on("cpu"), device), False),
    "nvdec by PyAV": (nvdec_pyav, True),
    "torchcodec cuda": (torchcodec_on, True),
    "mmssl nvdec, packet table": (functools.partial(mmssl_nvdec, by_table=True), True),
    "mmssl nvdec, demuxer": (functools.partial(mmssl_nvdec, by_table=False), True),
}


def _uploaded(way: Way, device: str) -> Way:
    return lambda media, times: way(media, times).to(device)


def levels(frames: torch.Tensor) -> torch.Tensor:
    """Mean brightness of each frame."""
    return torch.stack([frame.float().mean() for frame in frames]).cpu()


def wait(device: str) -> None:
    """Until the device has done everything."""
    if device == "cuda":
        torch.cuda.synchronize()


def measure(way: Way, media: bytes, times: np.ndarray, device: str, seconds: float) -> tuple[int, float]:
    """(clips, seconds) of decoding the clip again and again."""
    wait(device)
    begin, clips = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        way(media, times)
        clips += 1
    wait(device)
    return clips, time.perf_counter() - begin


def main() -> None:
    """Check, measure, print rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each row; they take turns")
    parser.add_argument("--out", type=Path, help="file that rows are appended to")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        print("no GPU: the rows of the CPU alone", file=sys.stderr)
    about = {
        "benchmark": "gpu_decode",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "cores": os.cpu_count(),
        "versions": {name: _version(name) for name in ("torch", "av", "torchcodec")},
    }
    failed = False
    for clip, (height, width, rate, gop) in SIZES.items():
        media = make_clip(height, width, rate, gop)
        for whole in (False, True):
            times = wanted_times(whole, rate)
            rows: dict[str, tuple[Way, list[float]]] = {}
            expected = levels(cpu_upload("cpu")(media, times))
            for name, (make, needs_gpu) in WAYS.items():
                if needs_gpu and device == "cpu":
                    continue
                try:
                    way = make(device)
                    off = float((levels(way(media, times)) - expected).abs().max())
                    if off > 3:
                        raise ValueError(f"its frames are not those of the CPU: brightness is off by {off:.1f}")
                except ImportError as error:
                    print(f"{name}: left out ({error})", file=sys.stderr)
                except Exception as error:  # a row that fails does not end the others
                    failed = True
                    print(f"{name}: FAILED: {type(error).__name__}: {error}", file=sys.stderr)
                else:
                    rows[name] = (way, [])
            for _ in range(options.rounds):
                for way, found in rows.values():
                    clips, seconds = measure(way, media, times, device, options.seconds)
                    found.append(clips / seconds)
            for name, (_, found) in rows.items():
                row = about | {
                    "way": name,
                    "clip": clip,
                    "size": [height, width],
                    "what": "whole" if whole else "window",
                    "frames_a_clip": len(times),
                    "clips_per_second": {
                        "median": round(statistics.median(found), 2),
                        "least": round(min(found), 2),
                        "largest": round(max(found), 2),
                    },
                    "frames_per_second": round(statistics.median(found) * len(times), 1),
                }
                print(json.dumps(row), flush=True)
                if options.out is not None:
                    with open(options.out, "a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
    sys.exit(1 if failed else 0)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
