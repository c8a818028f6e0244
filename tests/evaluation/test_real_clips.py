"""Real two-person actions: shards, features and probes in one go, on encoders that have learned nothing."""

import pytest

from mmssl.evaluation.action import evaluate_action
from mmssl.evaluation.finetune import evaluate_finetune
from mmssl.evaluation.supervised import Recipe
from mmssl.nn.encoders import Build, Encoders
from pipelines.build_shards import build
from tests.requirements import real_data


@pytest.mark.slow
def test_leave_one_sequence_out_and_what_the_crops_give_away(tmp_path):
    source, settings = real_data() / "A" / "ut_interaction_set1", {"clip_seconds": None, "size": (96, 96)}
    build(source, tmp_path / "ut", corpus="ut-interaction", fit="stretch", **settings)
    Encoders({"video": Build("mmssl.nn.video.SmallVideoEncoder")}).save(tmp_path / "run" / "encoders")
    found = evaluate_action(tmp_path / "run", str(tmp_path / "ut"), seeds=1, workers=0).as_dict()
    assert found["split"] == "official folds of ut-interaction"
    assert (found["folds"], found["test_clips"], len(found["classes"])) == (10, 60, 6)
    assert not found["left_out"]
    assert found["linear"]["file_facts"]["mean"] > 0.4, "clips were cropped action by action"
    assert found["linear"]["motion_energy"]["mean"] > 0.55, "frame differences alone tell most of these actions"
    assert found["linear"]["colour_histogram"]["mean"] < 0.4, "one scene"
    assert found["linear"]["pretrained"]["mean"] < 0.6


@pytest.mark.slow
def test_wide_clips_of_many_sizes_are_fine_tuned_and_tested_by_three_crops(tmp_path):
    build(real_data() / "A" / "surv_fight", tmp_path / "fights", clip_seconds=None, short_side=64)
    encoder = Build("mmssl.nn.video.SmallVideoEncoder", {"width": 16, "channels": [8, 8, 16]})
    Encoders({"video": encoder}).save(tmp_path / "run" / "encoders")
    light = Recipe(epochs=2, learning_rates=(3e-3,), layer_decays=(0.75,))
    scores = evaluate_finetune(
        tmp_path / "run",
        str(tmp_path / "fights"),
        group=r"fi(\d)\d\d",
        size=48,
        views=2,
        seeds=1,
        recipe=light,
        workers=0,
    )
    found = scores.as_dict()
    assert (found["folds"], found["test_clips"], found["crops"]) == (2, 36, 3)
    assert found["size"][0] == 48
    assert found["size"][1] > 60
    assert not found["left_out"]
    assert 0 <= found["finetune"]["pretrained"]["mean"] <= 1
