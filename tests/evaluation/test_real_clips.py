"""Real two-person actions: shards, features and probes in one go, on encoders that have learned nothing."""

import pytest

from mmssl.evaluation.action import evaluate_action
from mmssl.nn.encoders import Build, Encoders
from pipelines.build_shards import build
from tests.requirements import real_data


@pytest.mark.slow
def test_leave_one_sequence_out_and_what_the_crops_give_away(tmp_path):
    build(real_data() / "A" / "ut_interaction_set1", tmp_path / "ut", clip_seconds=None, size=(96, 96), fit="stretch")
    Encoders({"video": Build("mmssl.nn.video.SmallVideoEncoder")}).save(tmp_path / "run" / "encoders")
    found = evaluate_action(tmp_path / "run", str(tmp_path / "ut"), group=r"_seq(\d+)", seeds=1, workers=0).as_dict()
    assert (found["folds"], found["test_clips"], len(found["classes"])) == (10, 60, 6)
    assert not found["left_out"]
    assert found["linear"]["file_facts"]["mean"] > 0.4, "clips were cropped action by action"
    assert found["linear"]["motion_energy"]["mean"] > 0.55, "frame differences alone tell most of these actions"
    assert found["linear"]["colour_histogram"]["mean"] < 0.4, "one scene"
    assert found["linear"]["pretrained"]["mean"] < 0.6
