"""Decoded sound to mono samples."""

from __future__ import annotations

import av
import numpy as np
import pytest

from mmssl.data.decode.sound import mono


@pytest.mark.parametrize("layout", ["stereo", "7.1", "hexadecagonal"])
def test_mono_is_the_mean_of_any_number_of_channels(layout):
    """Of eight and sixteen planes, too, of which PyAV shows more than there are."""
    channels = av.AudioLayout(layout).nb_channels
    sound = np.random.default_rng(0).uniform(-1, 1, (960, channels)).astype(np.float32)
    packed = av.AudioFrame.from_ndarray(sound.reshape(1, -1), format="flt", layout=layout)
    packed.sample_rate = 48000
    (planar,) = av.AudioResampler(format="fltp", layout=layout, rate=48000).resample(packed)
    for frame in (packed, planar):
        assert np.allclose(mono(frame), sound.mean(axis=1), atol=1e-6)
