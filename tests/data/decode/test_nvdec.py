"""The decoder for the device: its steps on software frames everywhere, and NVDEC itself where there is a GPU."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from mmssl.clip import EncodedClip, Span, Window
from mmssl.data import Stream
from mmssl.data.decode.nvdec import NVDECDecoder
from mmssl.data.decode.pyav import PyAVDecoder
from mmssl.data.media import MediaError, open_media
from mmssl.data.on_device import decode_on_device
from mmssl.data.packets_make import checked_table
from mmssl.errors import UserError
from tests import media
from tests.corpora import sample, write_corpus, write_tar

GPU = pytest.param("cuda", marks=pytest.mark.gpu)
WINDOW = Window(Span(1.0, 10.0), sound=Span(0.5, 16000), size=(64, 96))


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("by", ["table", "demuxer"])
@pytest.mark.parametrize("options", [{}, {"rotation": 90, "size": (96, 64)}, {"b_frames": 2, "gop": 50}])
def test_the_frames_are_those_of_the_cpu(tmp_path, device, by, options):
    path = media.numbered(tmp_path / "a.mp4", frames=75, fps=25.0, audio_codec="aac", **({"size": (64, 96)} | options))
    data = path.read_bytes()
    clip = EncodedClip("a", "", data, packets=checked_table(data) if by == "table" else None)
    found = NVDECDecoder(device).decode(clip, WINDOW, np.array([1.5]))
    expected = PyAVDecoder().decode(clip, WINDOW, np.array([1.5]))
    assert found.fallback == ""
    assert isinstance(found.frames, torch.Tensor)
    assert found.frames.device.type == device
    np.testing.assert_array_equal(found.frame_times, expected.frame_times)
    np.testing.assert_array_equal(found.geometry, expected.geometry)
    np.testing.assert_array_equal(found.audio, expected.audio)
    off = np.abs(found.frames.cpu().numpy().astype(int) - expected.frames.astype(int))
    assert np.percentile(off, 99) <= 4, "swscale calculates with few bits"
    assert off.mean() < 1.0


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_pictures_are_scaled_on_the_device(tmp_path, device):
    path = media.numbered(tmp_path / "a.mp4", frames=50, fps=25.0, size=(128, 192))
    window = Window(Span(0.5, 10.0), size=(48, 48))
    clip = EncodedClip("a", "", path.read_bytes())
    found = NVDECDecoder(device).decode(clip, window, np.array([1.0]))
    expected = PyAVDecoder().decode(clip, window, np.array([1.0]))
    np.testing.assert_array_equal(found.geometry, expected.geometry)
    assert np.abs(found.frames.cpu().numpy().astype(int) - expected.frames.astype(int)).mean() < 3.0


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_what_the_device_cannot_take_is_decoded_on_the_cpu_and_counted(tmp_path, device):
    path = media.numbered(tmp_path / "a.avi", frames=25, fps=25.0, size=(64, 96), video_codec="ffv1")
    clip = EncodedClip("a", "", path.read_bytes())
    decoder = NVDECDecoder(device)
    found = decoder.decode(clip, WINDOW, np.array([0.5]))
    expected = PyAVDecoder().decode(clip, WINDOW, np.array([0.5]))
    if found.fallback:
        assert found.fallback.startswith("nvdec: ")
        np.testing.assert_array_equal(found.frames.cpu().numpy(), expected.frames)
    else:
        np.testing.assert_array_equal(found.frame_times, expected.frame_times)


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_batches_decoded_in_threads_are_those_of_a_stream(tmp_path, device):
    samples = [sample(tmp_path, f"clip{n}", n, size=(64, 96)) for n in range(7)]
    spec = str(write_tar(tmp_path / "a-000000.tar", [*samples, ("broken", {"mp4": b"\0\0\0\x20ftypisom" * 9})]))
    window = Window(Span(0.5, 10.0), sound=Span(0.5, 16000), size=(64, 96))
    stream = Stream(spec, window, 4, workers=0)
    jobs = itertools.islice(stream._jobs(), 3)
    made = list(decode_on_device(jobs, stream.settings, {}, lambda: NVDECDecoder(device), device, threads=3))
    with stream:
        for (_, decoded), (batch, _) in zip(made, stream, strict=False):
            for row, weight in enumerate(batch.weight.tolist()):
                assert hasattr(decoded.rows[row], "clip") == bool(weight)
                if weight:
                    off = decoded.frames[row].cpu().int() - batch.frames[row].int()
                    assert float(off.abs().float().mean()) < 2.0
                    assert np.array_equal(decoded.audio[row], batch.audio[row].numpy())


@pytest.mark.gpu
def test_a_stream_on_the_gpu(tmp_path):
    spec = write_corpus(tmp_path, [6])
    window = Window(Span(0.5, 10.0), sound=Span(0.5, 16000), text=True, size=(32, 32))
    with Stream(spec, window, 3, decoder="nvdec", device="cuda") as on_gpu, Stream(spec, window, 3, workers=0) as here:
        for (a, _), (b, _) in itertools.islice(zip(on_gpu, here, strict=True), 4):
            assert a.frames.device.type == "cuda"
            assert a.keys == b.keys
            assert float((a.frames.cpu().int() - b.frames.int()).abs().float().mean()) < 3.0


def test_a_codec_that_the_accelerator_does_not_take_is_a_fault_of_the_clip(tmp_path, monkeypatch):
    path = media.numbered(tmp_path / "a.mp4", frames=5, fps=25.0, size=(64, 96))

    def refuse(*_, **__):
        raise RuntimeError("Hardware accelerated decode requested but no stream is compatible")

    monkeypatch.setattr("mmssl.data.media.av.open", refuse)
    with pytest.raises(MediaError) as caught, open_media(path, accelerator=object()):
        pass
    assert caught.value.cause == "not for the accelerator"
    with pytest.raises(RuntimeError), open_media(path):  # without one it is no fault of the clip
        pass


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine with a GPU")
def test_without_a_gpu_the_error_says_what_to_do(tmp_path):
    spec = write_corpus(tmp_path, [2])
    with pytest.raises(UserError, match="use decoder='pyav'"):
        Stream(spec, WINDOW, 2, decoder="nvdec", device="cuda")
