"""The evaluation by label propagation: readers, protocol, baselines, and what may be said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mmssl.errors import UserError
from mmssl.evaluation.masked_clips import MaskedClip, masked_clips, numbered
from mmssl.evaluation.propagation import Propagation
from mmssl.evaluation.tracking import PropagationScores, evaluate_propagation, first_mask, judge
from tests.batches import small_encoders
from tests.evaluation.masks import discs, write_frames


def test_folders_of_frames_are_read_as_davis_lays_them_out(tmp_path: Path) -> None:
    wanted = {f"480p/{clip.key}": clip for clip in (discs(4, seed=0), discs(5, seed=1))}
    for place, clip in wanted.items():
        write_frames(tmp_path, clip, place)
    found = list(masked_clips(tmp_path))
    assert [clip.key for clip in found] == sorted(wanted)
    for clip in found:
        assert torch.equal(clip.masks, wanted[clip.key].masks)
        assert float((clip.frames.float() - wanted[clip.key].frames.float()).abs().mean()) < 8
    assert len(list(masked_clips(tmp_path, limit=1))) == 1


def test_one_clip_of_black_and_white_masks(tmp_path: Path) -> None:
    write_frames(tmp_path, discs(4), white=True)
    (clip,) = masked_clips(tmp_path)
    assert clip.key == tmp_path.name
    assert torch.equal(clip.masks, (discs(4).masks == 1).to(torch.uint8))
    three = torch.tensor([0, 1, 255], dtype=torch.uint8)
    assert torch.equal(numbered(three), three)


def test_what_is_no_such_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"neither manifest\.jsonl and truth/"):
        list(masked_clips(tmp_path))
    write_frames(tmp_path, discs(4))
    (tmp_path / "Annotations" / "00002.png").unlink()
    with pytest.raises(UserError, match="1 frames have no mask"):
        list(masked_clips(tmp_path))
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "manifest.jsonl").write_text(json.dumps({"key": "a", "path": "a.mp4", "split": "train"}) + "\n")
    with pytest.raises(UserError, match="no clip of split 'test' with dense truth"):
        list(masked_clips(corpus))


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    corpus, frames = tmp_path / "corpus", tmp_path / "frames"
    (corpus / "truth").mkdir(parents=True)
    (corpus / "manifest.jsonl").write_text(json.dumps({"key": "a", "path": "a.mp4", "split": "test"}) + "\n")
    (corpus / "truth" / "a.npz").write_bytes(b"no archive")
    with pytest.raises(UserError, match="holds no instances that can be read"):
        list(masked_clips(corpus))
    (corpus / "manifest.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="a line without key and path"):
        list(masked_clips(corpus))
    (corpus / "manifest.jsonl").write_text("key,path\n")
    with pytest.raises(UserError, match="a line that is no JSON"):
        list(masked_clips(corpus))
    write_frames(frames, discs(4))
    with pytest.raises(UserError, match="limit=0: at least 1 clip is needed"):
        list(masked_clips(frames, limit=0))
    (frames / "Annotations" / "00001.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="cannot be put together"):
        list(masked_clips(frames))


def test_the_protocol_leaves_the_first_and_the_last_frame_out() -> None:
    clip = discs(6)
    found = clip.masks.clone()
    found[0], found[-1] = 0, 0
    region, boundary = judge(found, clip)
    assert region.tolist() == boundary.tolist() == [1.0, 1.0]
    found[2] = 0
    assert judge(found, clip)[0].tolist() == [0.75, 0.75]


def test_objects_are_those_of_the_first_frame() -> None:
    clip = discs(6)
    late = MaskedClip("late", clip.frames, torch.where(torch.arange(6)[:, None, None] == 0, 0, clip.masks))
    late.masks[0] = torch.where(clip.masks[0] == 1, 1, 0).to(torch.uint8)
    assert judge(clip.masks, late)[0].shape == (1,)


def test_boxes_are_followed_as_filled_rectangles_and_judged_by_their_rectangles() -> None:
    clip = discs(6)
    first = first_mask(clip, "boxes")
    assert int((first == 1).sum()) > int((clip.masks[0] == 1).sum())
    assert torch.equal(first_mask(clip, "masks"), clip.masks[0])
    region, boundary = judge(clip.masks, clip, "boxes")
    assert region.tolist() == [1.0, 1.0]
    assert np.isnan(boundary).all()


@pytest.mark.parametrize("labels", ["masks", "boxes"])
def test_rows_and_what_is_said_of_them(tmp_path: Path, labels: str) -> None:
    """A new encoder is its own baseline of random weights, and follows plain discs better than the first mask does."""
    pytest.importorskip("cv2")
    encoders = small_encoders()
    encoders.save(tmp_path / "run" / "encoders")
    for seed in range(5):
        write_frames(tmp_path / "clips", discs(8, seed=seed), f"480p/discs{seed}")
    scores = evaluate_propagation(
        tmp_path / "run",
        tmp_path / "clips",
        how=Propagation(size=96),
        labels=labels,  # type: ignore[arg-type]
    )
    found = scores.as_dict()
    json.dumps(found, allow_nan=False)
    assert found["protocol"] == "propagation-davis-v1"
    assert (found["clips"], found["objects"]) == (5, 10)
    assert set(found["rows"]) == {"model", "random_init", "copy_first", "flow_warp"}
    assert found["model_minus"]["copy_first"]["verdict"] == "above"
    name = "j_and_f" if labels == "masks" else "box_iou"
    assert found["rows"]["model"][name] > found["rows"]["copy_first"][name] + 0.1
    assert abs(found["rows"]["model"][name] - found["rows"]["random_init"][name]) < 0.2


def test_a_few_clips_allow_no_interval() -> None:
    values = {row: np.array([0.5, 0.6]) for row in ("model", "random_init", "copy_first", "flow_warp")}
    scores = PropagationScores({"labels": "masks"}, (("a", 1), ("b", 1)), values, values)
    assert scores.difference("copy_first") == {"mean": 0.0, "verdict": "fewer than 5 clips: no interval"}


def test_clips_that_cannot_be_judged_are_noted(tmp_path: Path) -> None:
    small_encoders().save(tmp_path / "run" / "encoders")
    clip = discs(4)
    clip.masks[0] = 0
    write_frames(tmp_path / "clips", clip)
    with pytest.raises(UserError, match=r"no clip in .* shows an object in its first frame"):
        evaluate_propagation(tmp_path / "run", tmp_path / "clips")
