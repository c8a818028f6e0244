import json

import numpy as np
import pytest
import torch

from mmssl.clip import Span
from mmssl.errors import UserError
from mmssl.evaluation.footage import KeptFootage, StreamedFootage, make_footage, survey
from tests.corpora import write_tar
from tests.evaluation.oracle import RATE, encode, planted_clip

PICTURE = Span(0.4, RATE)


def counting_clip(seconds, height=32, width=64):
    """Every frame is one grey level brighter by 8, so a frame tells its time."""
    count = round(seconds * RATE)
    frames = np.zeros((count, height, width, 3), dtype=np.uint8) + 8 * np.arange(count)[:, None, None, None].astype(
        np.uint8
    )
    return encode(frames, None), {"width": width, "height": height, "duration": seconds, "label": "a", "source": "s"}


@pytest.fixture(scope="module")
def looked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("counting")
    samples = []
    for number, seconds in enumerate((2.0, 2.0, 0.2, 1.0)):
        media, meta = counting_clip(seconds)
        samples.append((f"clip{number}", {"mp4": media, "json": json.dumps(meta).encode()}))
    samples.append(("broken", {"mp4": b"nothing", "json": b"{}"}))
    write_tar(folder / "clips-000000.tar", samples)
    return survey([str(folder)], workers=0)


def level(frames):
    return (frames.float().mean(dim=(-1, -2, -3)) / 8).round().long()


def test_a_survey_tells_lengths_shapes_and_what_is_left_out(looked):
    assert looked.keys == ("clip0", "clip1", "clip2", "clip3")
    np.testing.assert_allclose(looked.durations, [2.0, 2.0, 0.2, 1.0], atol=0.01)
    np.testing.assert_allclose(looked.aspects, 2.0)
    assert looked.left_out == {"broken": "could not be decoded"}
    assert looked.sizes == (4,)


@pytest.mark.parametrize("memory", [1 << 30, 0])
def test_views_lie_evenly_and_a_short_clip_shows_its_last_frame_on(looked, memory):
    footage = make_footage(looked, PICTURE, 32, memory=memory, workers=0)
    assert isinstance(footage, KeptFootage if memory else StreamedFootage)
    found = {int(row): frames for batch, rows in footage.views(np.array([2, 0, 3]), 2, 2)
             for row, frames in zip(rows, batch, strict=True)}  # fmt: skip
    assert sorted(found) == [0, 2, 3]
    assert found[0].shape == (2, 4, 3, 32, 64)
    assert level(found[0]).tolist() == [[3, 4, 5, 6], [13, 14, 15, 16]]
    assert level(found[2]).tolist() == [[0, 1, 1, 1]] * 2
    assert footage.about()["shorter_than_a_view"] == 1


@pytest.mark.parametrize("memory", [1 << 30, 0])
def test_training_sees_every_wanted_clip_once_an_epoch_and_no_other(looked, memory):
    footage = make_footage(looked, PICTURE, 32, memory=memory, workers=0)
    rows = np.array([0, 1, 3])
    batches = list(footage.training(rows, seed=1, batch_size=2, steps=6))
    seen = np.concatenate([batch[1] for batch in batches])
    for epoch in range(4):
        assert sorted(seen[3 * epoch : 3 * epoch + 3]) == [0, 1, 3]
    starts = {int(level(frames)[place, 0]) for frames, _, _ in batches for place in range(2)}
    assert len(starts) > 4, "views lie at drawn times"
    again = list(footage.training(rows, seed=1, batch_size=2, steps=6))
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[2], b[2]) for a, b in zip(batches, again, strict=True))
    assert next(iter(footage.training(rows, seed=2, batch_size=2, steps=1)))[2].tolist() != batches[0][2].tolist()


def test_memory_and_stream_draw_the_same_times(looked):
    found = []
    for memory in (1 << 30, 0):
        footage = make_footage(looked, PICTURE, 32, memory=memory, workers=0)
        batches = list(footage.training(np.array([0, 1]), seed=3, batch_size=2, steps=5))
        found.append(
            {int(s): int(level(f)[0]) for frames, _, seeds in batches for s, f in zip(seeds, frames, strict=True)}
        )
    assert found[0].keys() == found[1].keys()
    assert all(abs(found[0][seed] - found[1][seed]) <= 1 for seed in found[0])


def test_shards_without_pictures_are_named(tmp_path):
    write_tar(tmp_path / "clips-000000.tar", [("a", {"mp4": b"x", "json": b"{}"})])
    with pytest.raises(UserError, match=r"no clip of .* has a picture"):
        survey([str(tmp_path)], workers=0)


def test_two_sets_are_counted_apart(tmp_path):
    for name in ("train", "test"):
        samples = []
        for number in range(2):
            media, meta = planted_clip(number)
            samples.append((f"{name}{number}", {"mp4": media, "json": json.dumps(meta).encode()}))
        write_tar(tmp_path / f"{name}-000000.tar", samples)
    looked = survey([str(tmp_path / f"{name}-000000.tar") for name in ("train", "test")], workers=0)
    assert looked.sizes == (2, 2)
    footage = make_footage(looked, PICTURE, 32, memory=0, workers=0)
    assert [row for _, rows in footage.views(np.array([3, 0]), 1, 4) for row in rows.tolist()] == [0, 3]
