"""Fitting pictures: what swscale gives at every width."""

from __future__ import annotations

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from mmssl.data.decode.fitting import PictureFitter


@pytest.mark.parametrize("form", ["yuv420p", "yuvj420p", "yuv422p"])
def test_every_column_is_written_whatever_the_width(form):
    """FFmpeg 8.1 leaves up to 8 columns unwritten on its way to planes of RGB."""
    for width in range(32, 66, 2):
        frame = av.VideoFrame(width, 16, form)
        for plane in frame.planes:
            plane.update(np.random.default_rng(width).integers(0, 256, plane.buffer_size, dtype=np.uint8))
        expected = frame.to_ndarray(format="rgb24", src_colorspace="ITU601", threads=1).transpose(2, 0, 1)
        for _ in range(2):  # fresh memory may hold the right values by chance
            fitter = PictureFitter(VideoReformatter(), (16, width))
            np.testing.assert_array_equal(fitter.fit(frame), expected)
