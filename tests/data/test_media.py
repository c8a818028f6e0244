"""What is opened as media: known containers alone, nothing that leads to another file or the network, within limits."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from mmssl.clip import EncodedClip, Span, Window
from mmssl.data.decode.choose import DECODERS, make_decoder
from mmssl.data.media import MAX_STREAMS, MediaError, open_media, video_stream
from mmssl.errors import UserError
from tests.data.hostile import FileCanary, NetworkCanary, canaries, with_external_data
from tests.media import flash_and_click, numbered
from tests.requirements import require

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the canary is Linux's inotify")


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    return flash_and_click(tmp_path_factory.mktemp("film") / "canary.mp4", seconds=1.0, size=(32, 32))


HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{target}\n#EXT-X-ENDLIST\n"
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT5S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet '
    'mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{target}</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>"
)
SCRIPTS = {
    "a concat script": "ffconcat version 1.0\nfile '{target}'\n",
    "a concat script without a head": "file '{target}'\n",
    "a playlist": HLS,
    "a DASH manifest": DASH,
    "a session description": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\n"
    "c=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "a list of a RealMedia server": "rtsp://127.0.0.1:{port}/x\n",
    "a Windows playlist": "[Reference]\nRef1=http://127.0.0.1:{port}/x.asf\n",
    "an XML document": '<?xml version="1.0"?><asx version="3.0"><entry><ref href="{target}"/></entry></asx>',
    "an IMF composition": '<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016">'
    "<Id>urn:uuid:8713c020-2489-45f5-a9f7-87be539e20b5</Id></CompositionPlaylist>",
}


def refused(source: Path | bytes) -> str:
    began = time.monotonic()
    with pytest.raises(MediaError) as caught, open_media(source):
        pass
    assert time.monotonic() - began < 5
    return caught.value.cause


@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".ffconcat", ".mpd", ".sdp"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_under_any_name_open_no_other_file_and_no_connection(film, tmp_path, script, suffix):
    with canaries(film) as (file, network):
        for target in (str(film), f"http://127.0.0.1:{network.port}/x.ts", film.name):
            text = SCRIPTS[script].replace("{target}", target).replace("{port}", str(network.port))
            path = tmp_path / f"script{suffix}"
            path.write_text(text)
            assert refused(path) == "not a known container"
            assert refused(text.encode()) == "not a known container"
        assert not file.opened
        assert network.calls == 0


def test_the_canaries_sing_when_the_scripts_are_opened_without_care(film, tmp_path):
    """Else the tests here could not fail."""
    with canaries(film) as (file, network):
        script = tmp_path / "script.ffconcat"
        script.write_text(SCRIPTS["a concat script"].replace("{target}", str(film)))
        av.open(str(script), options={"safe": "0"}).close()
        assert file.opened
        assert not file.opened
        data = with_external_data(film.read_bytes(), film)
        (tmp_path / "a.mov").write_bytes(data)
        with av.open(str(tmp_path / "a.mov"), options={"enable_drefs": "1", "use_absolute_path": "1"}):
            assert file.opened
        playlist = tmp_path / "a.m3u8"
        playlist.write_text(HLS.replace("{target}", f"http://127.0.0.1:{network.port}/x.ts"))
        with contextlib.suppress(av.error.FFmpegError, OSError):
            av.open(str(playlist), options={"protocol_whitelist": "file,http,tcp"}, timeout=2).close()
        assert network.calls > 0


def test_media_that_lies_in_another_file_is_not_looked_for(film, tmp_path):
    data = with_external_data(film.read_bytes(), film)
    path = tmp_path / "a.mov"
    path.write_bytes(data)
    with canaries(film) as (file, _):
        for source in (path, data):
            with contextlib.suppress(MediaError), open_media(source) as container:
                assert all(container.demux())
        assert not file.opened


@pytest.mark.parametrize("decoder", DECODERS)
def test_no_decoder_follows_a_script(film, decoder):
    try:
        decode = make_decoder(decoder).decode
    except UserError as error:
        require(decoder, False, str(error))
        raise
    window = Window(Span(0.4, 5), size=(16, 16))
    with canaries(film) as (file, network):
        for script in SCRIPTS.values():
            for target in (str(film), f"http://127.0.0.1:{network.port}/x.ts"):
                media = script.replace("{target}", target).replace("{port}", str(network.port)).encode()
                with pytest.raises(MediaError):
                    decode(EncodedClip("k", "s", media, meta={"duration": 1.0}), window, np.array([0.5]))
        assert not file.opened
        assert network.calls == 0


def test_names_are_names_and_neither_patterns_nor_protocols(film, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = film.read_bytes()
    for name in ("frame%d.mp4", "file:canary.mp4", "pipe:0", "concat:a|b", "http:x", "-"):
        Path(name).write_bytes(data)
        with open_media(Path(name)) as container:
            assert video_stream(container).width == 32
    for number in range(3):
        (tmp_path / f"pattern{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(30))
    assert refused(tmp_path / "pattern%d.png") == "missing"
    (tmp_path / "pattern%d.png").write_bytes(data)  # it exists, and FFmpeg would take it for a pattern
    assert refused(tmp_path / "pattern%d.png") == "unreadable"
    assert refused(tmp_path / "pattern0.png") == "not a known container"


def test_pictures_beyond_the_limit_are_refused_before_they_take_memory(tmp_path):
    large = numbered(tmp_path / "large.mp4", frames=2, size=(320, 480)).read_bytes()
    with open_media(large, max_pixels=320 * 480 - 1) as container, pytest.raises(MediaError) as caught:
        video_stream(container, max_pixels=320 * 480 - 1)
    assert caught.value.cause == "picture too large"
    with open_media(large) as container:
        stream = video_stream(container, max_pixels=320 * 480)
        assert [frame.width for frame in container.decode(stream)] == [480, 480]
    with open_media(large) as container:  # what counts is the stream itself, whatever the header said
        stream = video_stream(container)
        stream.codec_context.options = {"max_pixels": "1000"}
        with pytest.raises(av.error.FFmpegError):
            list(container.decode(stream))


def test_more_streams_than_the_limit_are_refused(tmp_path):
    path = tmp_path / "many.mkv"
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in range(MAX_STREAMS)]
        frame = av.AudioFrame(format="s16", layout="mono", samples=80)
        frame.sample_rate = 8000
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        for stream in streams:
            for packet in stream.encode(frame):
                out.mux(packet)
    assert refused(path.read_bytes()) in ("too many streams", "unreadable")


def test_canaries_do_not_cry_without_cause(film):
    file, network = FileCanary(film), NetworkCanary()
    assert not file.opened
    assert network.calls == 0
    film.read_bytes()
    assert file.opened
    file.close()
    network.close()
