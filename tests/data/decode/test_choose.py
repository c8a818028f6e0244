"""Choosing a decoder by name: what it says when there is none, and that the stream decodes with the one chosen."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest

from mmssl.clip import EncodedClip, Span, Window
from mmssl.data import Stream
from mmssl.data.decode.choose import DECODERS, choose, make_decoder
from mmssl.errors import UserError
from tests import media, requirements
from tests.corpora import sample, write_tar

WINDOW = Window(Span(0.8, 5), Span(0.5, 16000), size=(32, 32))


@pytest.mark.parametrize(
    ("name", "said"), [("torchcodek", "did you mean 'torchcodec'"), ("", "pyav, torchcodec, decord")]
)
def test_an_unknown_name_is_refused_with_the_nearest(name, said):
    with pytest.raises(UserError, match=f"no decoder '{name}' .*{said}"):
        choose(name)


def test_auto_is_pyav_on_a_cpu_and_says_why():
    assert choose("auto").name == "pyav"
    assert choose("auto").why.startswith("auto: ")
    assert make_decoder("pyav").name == "pyav"


@pytest.mark.parametrize("name", ["torchcodec", "decord"])
def test_a_missing_library_is_named_with_the_line_that_installs_it(name):
    code = (
        f"import sys; sys.modules[{name!r}] = None\n"  # as on a machine without it
        "from mmssl.data.decode.choose import choose\n"
        "from mmssl.errors import UserError\n"
        f"try: choose({name!r})\n"
        "except UserError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert f"the decoder '{name}' cannot be loaded" in said
    assert f"pip install {name}" in said


def test_only_the_decoder_that_is_asked_for_is_loaded():
    code = (
        "import sys; from mmssl.data.decode.choose import choose; choose('auto'); choose('pyav')\n"
        "print([name for name in ('torch', 'torchcodec', 'decord') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_decord_brings_no_torch_into_a_worker():
    requirements.decord()
    code = (
        "import sys; from mmssl.data.decode.choose import choose; choose('decord')\n"
        "print([name for name in ('torch', 'decord') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "['decord']\n"


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("name", ["torchcodec", "decord"])
def test_the_stream_decodes_with_it_and_counts_what_it_left_to_pyav(tmp_path, name, workers):
    getattr(requirements, name)()
    plain = [sample(tmp_path, f"plain{number}", number) for number in range(3)]
    # A transport stream with B-frames, which neither can be trusted with.
    strange = sample(tmp_path, "strange", 3)
    path = media.flash_and_click(
        tmp_path / "strange.ts", seconds=2.0, fps=12.5, size=(32, 32), b_frames=2, audio_rate=16000
    )
    strange[1].pop("mp4")
    strange[1]["mp4"] = path.read_bytes()
    shard = str(write_tar(tmp_path / "train-000000.tar", [*plain, strange]))
    batches = []
    for decoder in ("pyav", name):
        with Stream(shard, WINDOW, 4, workers=workers, decoder=decoder, shuffle=False) as stream:
            assert f"decoder: {decoder} " in str(stream.plan)
            batches += [batch for batch, _ in itertools.islice(stream, 1)]
            counters = dict(stream.counters)
    pyav, other = batches
    assert other.weight.tolist() == [1.0] * 4
    assert np.quantile(np.abs(pyav.frames.int() - other.frames.int()), 0.999) <= 3
    np.testing.assert_array_equal(pyav.audio, other.audio)
    np.testing.assert_allclose(pyav.frame_times, other.frame_times, atol=1e-6)
    fallbacks = {key: count for key, count in counters.items() if key.startswith("fallback: ")}
    assert list(fallbacks.values()) == [1]
    assert next(iter(fallbacks)).startswith(f"fallback: {name}: ")


@pytest.mark.parametrize("name", [name for name in DECODERS if name != "nvdec"])
def test_a_window_without_picture_or_sound_is_served(tmp_path, name):
    if name != "pyav":
        getattr(requirements, name)()
    path = media.numbered(tmp_path / "a.mp4", frames=25, audio_codec="aac")
    clip, decoder = EncodedClip("clip", "test", path.read_bytes()), make_decoder(name)
    heard = decoder.decode(clip, Window(sound=Span(0.5, 16000)), np.array([0.5]))
    assert heard.frames.shape == (1, 0, 3, 96, 96)
    assert np.abs(heard.audio).max() > 0.1
    seen = decoder.decode(clip, Window(Span(0.4, 5.0)), np.array([0.5]))
    assert seen.frames.any()
    assert seen.audio.shape == (1, 0)


@pytest.mark.parametrize("name", ["torchcodec", "decord"])
def test_planes_are_pyavs(name):
    with pytest.raises(UserError, match=f"'{name}' gives RGB alone; use pixels='rgb', or decoder='pyav'"):
        choose(name, "yuv")
    assert choose("auto", "yuv").name == "pyav"
