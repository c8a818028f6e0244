"""Flow from every source on pictures that move as known: sign, size and unit; warping by it brings frames nearer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mmssl.batch import Batch
from mmssl.clip import EncodedClip, Span, Window
from mmssl.data.collate import collate_clips
from mmssl.data.decode.pyav import PyAVDecoder
from mmssl.data.flow import CodecFlow, DISFlow, NetworkFlow, RAFTFlow, raft
from mmssl.errors import UserError
from mmssl.ops.flow import to_cells, warp
from tests import media
from tests.data.decode.test_motion import FPS, moving, texture

STEP = (3, -2)  # pixels a frame, to the right and up
SPAN = Span(0.64, FPS)


def film(path: Path, step: tuple[int, int] = STEP, motion: bool = False) -> tuple[Batch, torch.Tensor]:
    """A texture that moves so, through x264 as shards have it (no B pictures, one reference), and its times."""
    data = moving(path, step, gop=100).read_bytes()
    window = Window(SPAN, size=(96, 128), motion=motion)
    batch = collate_clips([PyAVDecoder().decode(EncodedClip("a", "", data), window, np.array([1.2]))])
    return batch, batch.times(SPAN)


@pytest.mark.parametrize("preset", ["ultrafast", "fast", "medium"])
def test_dis_finds_a_translation(tmp_path: Path, preset: str) -> None:
    pytest.importorskip("cv2")
    batch, times = film(tmp_path / "a.mp4")
    flow = DISFlow(preset)(batch, times)  # type: ignore[arg-type]
    assert flow.values.shape == (1, 7, 2, 96, 128)
    assert flow.known.all()
    pixels = flow.values / FPS
    error = (pixels - torch.tensor(STEP)[:, None, None]).norm(dim=2)
    assert float(error.median()) < 0.3
    frames = batch.frames_at(times)[0].float() / 255
    back, inside = warp(frames[1:], pixels[0])
    still = (frames[1:] - frames[:-1]).abs().mean(dim=1)[inside].mean()
    assert float((back - frames[:-1]).abs().mean(dim=1)[inside].mean()) < 0.25 * float(still)


def test_the_codec_tells_a_translation(tmp_path: Path) -> None:
    batch, times = film(tmp_path / "a.mp4", motion=True)
    flow = CodecFlow()(batch, times)
    vectors = flow.values.movedim(2, -1)[flow.known] / FPS
    assert float(flow.known.float().mean()) > 0.8
    assert np.allclose(vectors.median(dim=0).values, STEP, atol=0.3)
    right = (vectors - torch.tensor(STEP)).norm(dim=1) < 0.3
    assert float(right.float().mean()) > 0.95
    assert not flow.values.movedim(2, -1)[~flow.known].any()


def test_both_agree_cell_by_cell(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    batch, times = film(tmp_path / "a.mp4", motion=True)
    told, seen = CodecFlow()(batch, times), DISFlow("medium")(batch, times)
    cells, some = to_cells(seen.values[0], seen.known[0], CodecFlow.cell)
    both = some & told.known[0]
    apart = (cells - told.values[0]).norm(dim=1)[both] / FPS
    assert float(apart.median()) < 0.3


@pytest.mark.parametrize("source", ["dis", "network"])
def test_movement_is_divided_by_the_time_between_the_frames_that_are_shown(tmp_path: Path, source: str) -> None:
    """A film of 30 frames a second at 12.5: 2 or 3 frames on, the same flow a second; it ends, and none is known."""
    whole, size = texture(320), (64, 96)
    pictures = [whole[64 : 64 + size[0], 96 - n : 96 - n + size[1]] for n in range(24)]  # 1 pixel a frame: 30 a second
    path = media.write(tmp_path / "a.mp4", np.arange(24) / 30, pictures, size=size, fps=30)
    span = Span(0.96, 12.5)
    clip = PyAVDecoder().decode(EncodedClip("a", "", path.read_bytes()), Window(span, size=size), np.array([0.4]))
    batch = collate_clips([clip])
    times = batch.times(span)
    seconds = batch.frame_times_at(times).diff(dim=1)[0]
    assert {round(float(x) * 30) for x in seconds} == {0, 2, 3}
    if source == "dis":
        pytest.importorskip("cv2")
        flow = DISFlow("medium")(batch, times)
    else:
        shift = (seconds * 30).float()

        def estimate(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            return torch.stack([shift, 0 * shift], dim=1)[:, :, None, None].expand(-1, -1, *size)

        flow = NetworkFlow(estimate)(batch, times)
    ended = seconds == 0
    assert torch.equal(flow.known[0], ~ended[:, None, None].expand(-1, *size))
    assert not flow.values[0, ended].any()
    found = flow.values[0, ~ended, :, 16:-16, 16:-16].flatten(2).median(dim=2).values
    torch.testing.assert_close(found, torch.tensor([30.0, 0.0]).expand_as(found), atol=3.0, rtol=0)


def test_what_stands_still_has_no_flow(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    batch, times = film(tmp_path / "a.mp4", (0, 0), motion=True)
    assert float((DISFlow("fast")(batch, times).values / FPS).norm(dim=2).median()) < 0.05
    told = CodecFlow()(batch, times)
    assert float((told.values / FPS).norm(dim=2)[told.known].max()) < 0.05


def test_a_codec_flow_without_vectors_names_the_setting(tmp_path: Path) -> None:
    batch, times = film(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match="motion=True"):
        CodecFlow()(batch, times)


def test_a_network_is_asked_pair_by_pair_and_answers_in_pixels(tmp_path: Path) -> None:
    batch, times = film(tmp_path / "a.mp4")
    frames = batch.frames_at(times)[0].float() / 255
    asked: list[tuple[torch.Tensor, torch.Tensor]] = []

    def estimate(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        asked.append((first, second))
        return first[:, :2] + 2 * second[:, :2]

    flow = NetworkFlow(estimate, at_once=3)(batch, times)
    assert [len(first) for first, _ in asked] == [3, 3, 1]
    assert torch.equal(torch.cat([first for first, _ in asked]), frames[:-1])
    assert torch.equal(torch.cat([second for _, second in asked]), frames[1:])
    assert torch.allclose(flow.values[0] / FPS, frames[:-1, :2] + 2 * frames[1:, :2], atol=1e-5)
    assert flow.known.shape == (1, 7, 96, 128)


def test_raft_is_given_its_range_and_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision")
    torch.manual_seed(0)
    torch.save(raft("small").state_dict(), tmp_path / "raft.pt")
    source = RAFTFlow(tmp_path / "raft.pt", "small", updates=2)
    batch, times = film(tmp_path / "a.mp4")
    flow = source(batch, times[:, :3])
    assert flow.values.shape == (1, 2, 2, 96, 128)
    assert torch.isfinite(flow.values).all()
    given: list[torch.Tensor] = []

    def network(first: torch.Tensor, second: torch.Tensor, num_flow_updates: int) -> list[torch.Tensor]:
        given.extend([first, second])
        y, x = torch.meshgrid(*(torch.arange(side).float() for side in first.shape[-2:]), indexing="ij")
        return [torch.zeros(len(first), 2, *first.shape[-2:]), torch.stack([x, y]).expand(len(first), 2, -1, -1)]

    monkeypatch.setattr(source, "network", network)
    flow = source(batch, times[:, :3])
    assert [tuple(x.shape) for x in given] == [(2, 3, 128, 128)] * 2  # 96 rows are too few, 128 columns are enough
    assert torch.allclose(given[0][:, :, :96], 2 * batch.frames_at(times)[0, :2].float() / 255 - 1, atol=1e-6)
    assert torch.equal(given[0][:, :, 96:], given[0][:, :, 95:96].expand(-1, -1, 32, -1))
    # The last of its answers, cut to the picture, in pixels a second.
    assert torch.allclose(flow.values[0, 0, :, 95, 127] / FPS, torch.tensor([127.0, 95.0]), atol=1e-3)


def test_raft_reads_nothing_but_its_weights(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    with pytest.raises(UserError, match="raft_small"):
        RAFTFlow(tmp_path / "none.pt", "small")
    torch.save(raft("small").state_dict(), tmp_path / "raft.pt")
    with pytest.raises(UserError, match="raft_large"):
        RAFTFlow(tmp_path / "raft.pt", "large")
    torch.save({"a": Path("x")}, tmp_path / "code.pt")
    with pytest.raises(UserError, match="raft_small"):
        RAFTFlow(tmp_path / "code.pt", "small")
    with pytest.raises(UserError, match="small or large"):
        raft("middling")
