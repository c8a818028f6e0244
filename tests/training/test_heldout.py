"""Held-out scores: true clips, eval mode, each task beside its floor and with its input taken away."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch

from mmssl.nn.blinded import blinded
from mmssl.nn.encoders import Build, Encoders
from mmssl.tasks.base import Moment, Outcome, Score, rate
from mmssl.training.heldout import heldout_scores
from tests.training.stand_ins import TinyStream, Turn, UpOrDown, tiny_multitask

MOMENT = Moment(10, 20, 1, 0.5)


def stream() -> TinyStream:
    return TinyStream(clips=24, repeat=False)


class Brightness(UpOrDown):
    """Knows the answer without training: the brighter half is above. Its floor depends on what it says."""

    score: ClassVar = Score(metric="right", floor=None, ceiling=1.0)

    def forward(self, example: Turn, encoders: Encoders, moment: Moment) -> Outcome:
        seen = encoders.encode("image", example.frames).pooled
        said = (seen[:, 0] > 0).long()
        right = said == example.label
        metrics = {
            "right": rate(right, example.weight),
            "floor": rate(0.3 + 0.2 * (said == 0).all() * torch.ones_like(seen[:, 0]), example.weight),
        }
        return Outcome({"none": (self.head(seen) * 0).sum()}, metrics)


def test_scores_floor_and_ablated() -> None:
    multitask = tiny_multitask(guess=UpOrDown(), knows=Brightness())
    encoder = multitask.encoders["image"]
    below_minus_above = torch.cat([-torch.ones(3, 4, 8), torch.ones(3, 4, 8)], dim=1)
    encoder.layers[1] = torch.nn.Linear(192, 32, bias=False)
    with torch.no_grad():
        encoder.layers[1].weight.copy_(below_minus_above.flatten().expand(32, -1))
    encoder.layers[2] = torch.nn.Identity()
    encoder.layers[3] = torch.nn.Identity()
    with torch.no_grad():
        encoder.project.weight.fill_(1.0)
        encoder.project.bias.zero_()
    calls: list[int] = []
    encoder.register_forward_hook(lambda module, given, made: calls.append(len(given[0])))
    found = heldout_scores(multitask, stream, 2, MOMENT)
    knows = found["knows"]
    assert (knows["score_name"], knows["score"], knows["count"]) == ("right", 1.0, 15)  # 16 clips, one hole
    assert knows["floor"] == pytest.approx(0.3)
    assert knows["ablated"] is not None
    assert 0 < knows["ablated"] < 1  # zeros say "upright" to every clip
    assert found["guess"]["floor"] == found["guess"]["ablated_floor"] == 0.5
    assert knows["ablated_floor"] == pytest.approx(0.5)
    assert calls == [8] * 8  # two batches, two tasks, with and without the picture
    assert multitask.training


def test_without_ablation_one_forward() -> None:
    found = heldout_scores(tiny_multitask(), stream, 9, MOMENT, ablated=False)
    assert found["turn"]["ablated"] is found["turn"]["ablated_floor"] is None
    assert found["turn"]["count"] == 23


def test_no_valid_clip_gives_no_score() -> None:
    class Silent(UpOrDown):
        needs = ("sound",)

    found = heldout_scores(tiny_multitask(turn=Silent()), stream, 9, MOMENT)
    assert (found["turn"]["score"], found["turn"]["ablated"], found["turn"]["count"]) == (None, None, 0)


def test_the_same_clips_give_the_same_scores() -> None:
    multitask = tiny_multitask()
    assert heldout_scores(multitask, stream, 3, MOMENT) == heldout_scores(multitask, stream, 3, MOMENT)


def test_only_the_encoders_of_one_input_are_blinded() -> None:
    tiny = "tests.training.stand_ins.TinyEncoder"
    encoders = Encoders({n: Build(tiny, {"modality": m}) for n, m in (("a", "image"), ("b", "audio"), ("c", "video"))})
    encoders.eval()
    picture = torch.rand(4, 3, 8, 8)
    blank = {name: encoders[name](torch.zeros_like(picture)).pooled for name in "abc"}
    plain = {name: encoders[name](picture).pooled for name in "abc"}

    def same(name: str, as_: dict[str, Any]) -> bool:
        return torch.equal(encoders[name](picture).pooled, as_[name])

    with blinded(encoders, "picture"):
        assert same("a", blank)
        assert same("c", blank)
        assert same("b", plain)
    with blinded(encoders, "sound"):
        assert same("b", blank)
        assert same("a", plain)
    assert all(same(name, plain) for name in "abc")
    with pytest.raises(ValueError, match="an input is picture, sound, text, got 'smell'"), blinded(encoders, "smell"):
        pass
