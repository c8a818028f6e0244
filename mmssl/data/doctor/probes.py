"""The probes that `mmssl.data.doctor.child` runs, each in a process of its own.

A probe says what it finds as it goes, so that what was seen before a crash is kept. The clip is one second of
H.264 and AAC: a picture that brightens, and a tone.
"""

from __future__ import annotations

import ctypes
import io
import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

from mmssl.data.doctor.child import MARK

FRAMES, RATE, SIZE, SOUND_RATE = 12, 12, (64, 96), 16000
# FFmpeg's major version -> the versions of libavutil, libavcodec and libavformat that belong to it
FFMPEG = {4: (56, 58, 58), 5: (57, 59, 59), 6: (58, 60, 60), 7: (59, 61, 61), 8: (60, 62, 62), 9: (61, 63, 63)}
NO_DRIVER = "no NVIDIA driver (libcuda.so.1 is not there)"


class NotUsableError(Exception):
    """What a probe itself found wrong."""


def say(**facts: Any) -> None:
    """Tell the parent what was found."""
    print(MARK + json.dumps(facts, default=str), flush=True)


def main() -> None:
    """Run the probe that the command line names; what it raises becomes its answer."""
    name, arguments = sys.argv[1], sys.argv[2:]
    try:
        PROBES[name](*arguments)
    except ModuleNotFoundError as error:
        wanted = {"pyav": "av", "nvdec": "av", "torchcodec_cuda": "torchcodec"}.get(name, name)
        module = (error.name or "").split(".")[0]
        say(error=f"{module} is not installed", missing=module == wanted, module=module)
        sys.exit(1)
    except NotUsableError as error:
        say(error=str(error))
        sys.exit(1)
    except BaseException as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        say(error=f"{type(error).__name__}: {' '.join(lines)[:1500]}")
        sys.exit(1)
    say(done=True)


def make_clip(path: str) -> None:
    """Write the clip that all decoders are tried with."""
    import av
    import numpy as np

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        video = out.add_stream("libx264", rate=RATE, options={"preset": "ultrafast", "bf": "0"})
        video.height, video.width, video.pix_fmt = *SIZE, "yuv420p"
        audio = out.add_stream("aac", rate=SOUND_RATE, layout="mono")
        for number in range(FRAMES):
            picture = np.full((*SIZE, 3), 20 + 16 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p", threads=1)
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(SOUND_RATE) / SOUND_RATE).astype(np.float32)
        for begin in range(0, SOUND_RATE, 1024):
            part = av.AudioFrame.from_ndarray(tone[None, begin : begin + 1024], format="fltp", layout="mono")
            part.sample_rate, part.pts, part.time_base = SOUND_RATE, begin, Fraction(1, SOUND_RATE)
            out.mux(audio.encode(part))
        out.mux(audio.encode(None))
    Path(path).write_bytes(buffer.getvalue())


def check(frames: Any, sound: Any) -> None:
    """Say what came out, and refuse a picture that does not brighten or a tone that is not there.

    Args:
        frames: mean brightness of each frame in order, or None where none was asked for.
        sound: the samples in [-1, 1], or None.
    """
    import numpy as np

    if frames is not None:
        levels = np.asarray(frames, dtype=np.float64)
        say(frames=len(levels))
        if len(levels) != FRAMES or not bool((np.diff(levels) > 8).all()):
            raise NotUsableError(f"the frames are not those of the clip (brightness {levels.round().tolist()})")
    if sound is not None:
        samples = np.asarray(sound, dtype=np.float64).ravel()
        loud = float(np.sqrt((samples**2).mean())) if len(samples) else 0.0
        say(samples=len(samples))
        if abs(len(samples) - SOUND_RATE) > 2100 or abs(loud - 0.354) > 0.08:
            raise NotUsableError(
                f"the sound is not that of the clip ({len(samples)} samples, root mean square {loud:.3f})"
            )


def pyav(path: str) -> None:
    """The default path: makes the clip, and decodes it by the stream's own decoder."""
    import av

    say(version=av.__version__, ffmpeg=av.ffmpeg_version_info, libraries=dict(av.library_versions))
    make_clip(path)
    import numpy as np

    from mmssl.clip import EncodedClip, Span, Window
    from mmssl.data.decode.pyav import PyAVDecoder

    window = Window(picture=Span(1.0, RATE), sound=Span(1.0, SOUND_RATE), size=SIZE)
    clip = EncodedClip("doctor", "doctor", Path(path).read_bytes(), meta={"duration": 1.0})
    decoded = PyAVDecoder().decode(clip, window, np.array([0.5]))
    check(decoded.frames[0].mean(axis=(1, 2, 3)), decoded.audio[0])


def decord(path: str) -> None:
    """decord: all frames and the sound."""
    import decord

    say(version=decord.__version__)
    pictures = decord.VideoReader(path, num_threads=1)
    frames = pictures.get_batch(range(len(pictures))).asnumpy()
    check(frames.mean(axis=(1, 2, 3)), decord.AudioReader(path, sample_rate=SOUND_RATE, mono=True)[:].asnumpy())


def torchcodec(path: str) -> None:
    """Torchcodec on the CPU: all frames and the sound."""
    _torchcodec_accepts()
    from importlib.metadata import version

    say(version=version("torchcodec"))
    from torchcodec.decoders import AudioDecoder, VideoDecoder

    frames = VideoDecoder(path).get_frames_at(list(range(FRAMES))).data
    check(frames.float().mean(dim=(1, 2, 3)).numpy(), AudioDecoder(path).get_all_samples().data.numpy())


def torchcodec_cuda(path: str) -> None:
    """Torchcodec on the GPU: all frames."""
    _needs_driver()
    import torch

    if not torch.cuda.is_available():
        raise NotUsableError("torch sees no GPU")
    from torchcodec.decoders import VideoDecoder

    frames = VideoDecoder(path, device="cuda").get_frames_at(list(range(FRAMES))).data
    say(device=str(frames.device))
    check(frames.float().mean(dim=(1, 2, 3)).cpu().numpy(), None)


def nvdec(path: str) -> None:
    """PyAV with NVDEC."""
    _needs_driver()
    ctypes.CDLL("libnvcuvid.so.1")
    say(nvcuvid=True)
    import av
    from av.codec.hwaccel import HWAccel, hwdevices_available

    devices = hwdevices_available()
    say(devices=devices)
    if "cuda" not in devices:
        raise NotUsableError(f"PyAV was built without CUDA (it has {', '.join(devices) or 'no hardware decoders'})")
    levels = []
    with av.open(path, hwaccel=HWAccel("cuda", allow_software_fallback=False)) as container:
        for frame in container.decode(video=0):
            levels.append(float(frame.to_ndarray(format="gray8", threads=1).mean()))
    check(levels, None)


def torch() -> None:
    """Versions of torch and what belongs to it, and what CUDA it sees."""
    import torch

    say(torch=torch.__version__, built_for=torch.version.cuda)
    seen = torch.cuda.is_available()
    say(gpus=[torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] if seen else [])
    import torchvision

    say(torchvision=torchvision.__version__)
    import torchaudio

    say(torchaudio=torchaudio.__version__)


def driver() -> None:
    """The NVIDIA driver: its CUDA version, and whether its decoder library is there."""
    _needs_driver()
    try:
        ctypes.CDLL("libnvcuvid.so.1")
        say(nvcuvid=True)
    except OSError:
        say(nvcuvid=False)


def ffmpeg() -> None:
    """FFmpeg's shared libraries that the loader finds, by major version."""
    found: dict[int, str] = {}
    for major, (util, codec, container) in FFMPEG.items():
        try:
            library = ctypes.CDLL(f"libavutil.so.{util}")
            ctypes.CDLL(f"libavcodec.so.{codec}")
            ctypes.CDLL(f"libavformat.so.{container}")
        except OSError:
            continue
        library.av_version_info.restype = ctypes.c_char_p
        found[major] = library.av_version_info().decode()
        say(found=found)
    say(found=found)
    _torchcodec_accepts()


def _torchcodec_accepts() -> None:
    """Which major versions of FFmpeg the installed torchcodec has a core for; nothing of it is imported."""
    from importlib.util import find_spec

    spec = find_spec("torchcodec")
    if spec is not None and spec.submodule_search_locations:
        folder = Path(next(iter(spec.submodule_search_locations)))
        cores = [path.stem.removeprefix("libtorchcodec_core") for path in folder.glob("libtorchcodec_core*.*")]
        say(accepts=sorted({int(core) for core in cores if core.isdigit()}))


def _needs_driver() -> None:
    """Say the driver's CUDA version, or raise for want of a driver or a device."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise NotUsableError(NO_DRIVER) from None
    version, count = ctypes.c_int(), ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(version))
    say(cuda=f"{version.value // 1000}.{version.value % 1000 // 10}")
    if library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        raise NotUsableError("the NVIDIA driver is there, but no GPU can be used")
    say(devices=count.value)


PROBES = {probe.__name__: probe for probe in (pyav, decord, torchcodec, torchcodec_cuda, nvdec, torch, driver, ffmpeg)}
