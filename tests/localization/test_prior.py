"""The object prior: rows of its own, the same whatever sounds, and no other row is touched by it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmssl.errors import UserError
from mmssl.localization.evaluate import evaluate_localization
from mmssl.localization.prior import ROWS, object_prior, with_prior
from mmssl.metrics.localization import normalise_map, resize_map
from mmssl.nn.encoders import Encoders
from pipelines.localize import run as localize
from tests.evaluation.oracle import planted_run, planted_shards


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    run = planted_run(tmp_path_factory.mktemp("run"))
    return Encoders.from_pretrained(run), Encoders.load_head(run, "av_localization")


def test_is_mixed_as_published():
    random = np.random.default_rng(0)
    maps, prior = random.random((2, 4, 4)), random.random((2, 6, 6))
    expected = 0.4 * normalise_map(resize_map(maps)) + 0.6 * normalise_map(resize_map(prior))
    np.testing.assert_allclose(with_prior(maps, prior), expected)
    np.testing.assert_allclose(with_prior(maps, prior, 0.0), normalise_map(resize_map(maps)))


def test_its_rows_are_labelled_and_the_others_unchanged(bundle, tmp_path):
    shards = planted_shards(tmp_path / "shards", 8)
    plain = evaluate_localization(*bundle, shards, size=48, workers=0).as_dict()
    found = evaluate_localization(*bundle, shards, size=48, workers=0, prior=bundle[0]).as_dict()
    assert "object_prior" not in plain
    assert set(found["rows"]) - set(plain["rows"]) == set(ROWS)
    assert {name: found["rows"][name] for name in plain["rows"]} == plain["rows"]
    assert found["peak_in_box"] == plain["peak_in_box"] == 1.0
    assert found["object_prior"]["rows"] == list(ROWS)
    assert found["object_prior"]["share"] == 0.6
    # Both squares are objects: the prior alone cannot tell which of them sounds.
    assert found["rows"]["object_prior"]["peak_in_box"] < 0.9


def test_only_a_picture_encoder_gives_one(bundle):
    frames = torch.zeros(2, 3, 48, 48, dtype=torch.uint8)
    assert object_prior(bundle[0], frames).shape[0] == 2
    with pytest.raises(UserError, match="the object prior needs an image encoder, 'audio' is of modality 'audio'"):
        object_prior(bundle[0], frames, "audio")


def test_a_prior_that_cannot_serve_is_refused_before_anything_is_drawn(tmp_path):
    run, out = planted_run(tmp_path / "run"), tmp_path / "maps"
    (tmp_path / "film.mp4").write_bytes(b"a film")
    with pytest.raises(UserError, match="nothing is scored without shards that have boxes"):
        localize(run, out, video=tmp_path / "film.mp4", object_prior=run)
    assert not out.exists()
