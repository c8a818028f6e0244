from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from mmssl.evaluation.linear import STRENGTHS, fit, fit_chosen
from tests.batches import WINDOW, World, small_encoders


def blobs(n, classes=5, width=24, spread=1.0, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, width))
    labels = rng.integers(0, classes, n)
    scales = np.geomspace(0.01, 100, width)  # standardisation matters
    return ((centres[labels] + spread * rng.normal(size=(n, width))) * scales).astype(np.float32), labels


@pytest.mark.parametrize("strength", [1.0, 1e-2, 1e-4])
def test_equals_scikit_learn(strength):
    x, y = blobs(300, spread=2.0)
    test, truth = blobs(1000, spread=2.0, seed=1)
    ours = fit(x, y, 5, (strength,))[0]
    scaler = StandardScaler().fit(x.astype(np.float64))
    theirs = LogisticRegression(C=1 / (strength * len(x)), max_iter=5000, tol=1e-8).fit(scaler.transform(x), y)
    ours_hits = (ours.logits(test).argmax(1) == truth).mean()
    theirs_hits = (theirs.predict(scaler.transform(test)) == truth).mean()
    assert abs(ours_hits - theirs_hits) <= 0.005
    np.testing.assert_allclose(
        ours.probabilities(test), theirs.predict_proba(scaler.transform(test)), atol=2e-2 if strength < 1e-3 else 1e-3
    )


@pytest.fixture(scope="module")
def rendered():
    """Clips of a rendered world, material, drift and events mixed at random; the label is material and drift."""
    world = World(560, replace(WINDOW, sound=None, text=False), seed=3)
    frames = world.frames[:, 0].transpose(1, 2).float() / 255  # [N, 3, T, H, W]
    return frames, (world.material * 2 + world.drift).numpy()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_scikit_learn_on_features_of_an_encoder(rendered, seed):
    frames, labels = rendered
    encoder = small_encoders(seed)["video"].eval()
    with torch.inference_mode():
        features = torch.cat([encoder(part).pooled for part in frames.split(70)]).numpy()
    (x, y), (test, truth) = (features[:280], labels[:280]), (features[280:], labels[280:])
    scaler = StandardScaler().fit(x.astype(np.float64))
    for strength, ours in zip(STRENGTHS, fit(x, y, 16, STRENGTHS, seed), strict=True):
        theirs = LogisticRegression(C=1 / (strength * len(x)), max_iter=20000, tol=1e-7).fit(scaler.transform(x), y)
        hits = (ours.logits(test).argmax(1) == truth).mean()
        assert abs(hits - (theirs.predict(scaler.transform(test)) == truth).mean()) <= 0.005, strength
    assert hits > 3 / 16


def test_a_constant_dimension_does_no_harm():
    x, y = blobs(200)
    x[:, 3] = 7.0
    probe = fit(x, y, 5, (1e-2,))[0]
    assert np.isfinite(probe.weight).all()
    assert (probe.logits(x).argmax(1) == y).mean() > 0.95


def test_the_strength_is_chosen_for_noisy_and_for_clean_features():
    x, y = blobs(60, width=200, spread=8.0)
    noisy = fit_chosen(x[:, None], y, 5, groups=np.arange(60))
    clean_x, clean_y = blobs(600, spread=0.8)
    clean = fit_chosen(clean_x[:, None], clean_y, 5, groups=np.arange(600))
    assert noisy.strength > clean.strength
    assert {noisy.strength, clean.strength} <= set(STRENGTHS)
    assert len(STRENGTHS) <= 5


def test_views_are_training_rows_and_one_seed_gives_one_probe():
    x, y = blobs(120)
    views = np.stack([x, x], axis=1)
    one = fit_chosen(views, y, 5, groups=np.arange(120), seed=3)
    again = fit_chosen(views, y, 5, groups=np.arange(120), seed=3)
    np.testing.assert_array_equal(one.weight, again.weight)
    assert one.probabilities(views).shape == (120, 2, 5)
