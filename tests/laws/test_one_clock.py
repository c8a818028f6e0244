"""Law 7, one clock: a flash and a click at the same instant stay together, whatever the container did to them."""

from __future__ import annotations

import av
import numpy as np
import pytest

from mmssl.clip import EncodedClip, Span, Window
from tests import media
from tests.contract.ways import WAYS, decoder_of

AT = (0.6, 1.4, 2.2)
FPS = 25.0
STEP = 0.001  # seconds between wanted times
FORMS = {
    "mp4 with AAC priming": ("a.mp4", {}),
    "mp4 at 16 kHz": ("a.mp4", {"audio_rate": 16000}),
    "fragmented mp4": ("a.mp4", {"fragmented": True}),
    "mp4 with B-frames and an edit list": ("a.mp4", {"b_frames": 2, "audio_rate": 16000}),
    "mp4, variable frame rate": ("a.mp4", {"variable_rate": True, "audio_rate": 16000}),
    "mp4, sound begins later": ("a.mp4", {"audio_start": 0.5, "audio_rate": 16000}),
    "mkv": ("a.mkv", {"audio_rate": 48000}),
    "mkv, both begin at 3.2 s": ("a.mkv", {"start": 3.2, "audio_rate": 16000}),
    "webm with Opus": ("a.webm", {"video_codec": "libvpx", "audio_codec": "libopus", "audio_rate": 48000}),
    "mpeg transport stream": ("a.ts", {"audio_rate": 48000}),
}


def onsets(values: np.ndarray, times: np.ndarray, level: float) -> list[float]:
    """Times at which `values` rise above `level` after 50 ms below it."""
    found, last = [], -1.0
    for time in times[values > level]:
        if time - last > 0.05:
            found.append(float(time))
        last = float(time)
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("form", FORMS)
def test_flash_and_click_stay_together(tmp_path, form, way):
    decoder = decoder_of(WAYS[way])
    name, options = FORMS[form]
    path = media.flash_and_click(tmp_path / name, at=AT, fps=FPS, size=(32, 32), **options)
    window = Window(Span(2.4, 1 / STEP), Span(2.4, 16000), size=(32, 32))
    clip = WAYS[way].prepare(EncodedClip("clip", "test", path.read_bytes(), meta={"duration": 3.0}))
    measured = media.measure(path)  # by the time stamps of the file, without mmssl
    with av.open(str(path)) as container:
        zero = max((container.start_time or 0) / av.time_base, 0.0)
    for anchor in (1.4, 1.63):  # from the beginning, and with a span that begins between frames and packets
        decoded = decoder.decode(clip, window, np.array([anchor]))
        flashes = onsets(decoded.frames[0].mean(axis=(1, 2, 3)), decoded.wanted_times[0], 128)
        grid = decoded.audio_start[0] + np.arange(decoded.audio.shape[1]) / 16000
        clicks = onsets(np.abs(decoded.audio[0]), grid, 0.25)
        assert len(flashes) == len(clicks) == len(AT)
        for index, (flash, click) in enumerate(zip(flashes, clicks, strict=True)):
            assert abs(flash - click) <= 0.5 / FPS + 0.005
            assert 0 <= flash - (measured.flashes[index] - zero) + 1e-6 <= STEP + 1e-6  # seen at the next wanted time
            assert abs(click - (measured.clicks[index] - zero)) <= 0.001
