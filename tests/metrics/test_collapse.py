import math

import pytest
import torch

from mmssl.metrics.collapse import effective_rank, feature_std, measure_collapse


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_gaussian_features_are_healthy():
    found = measure_collapse(normal(4096, 32))
    assert found.std == pytest.approx(1.0, abs=0.03)
    assert found.rank > 31.5
    assert found.spectrum[0] == 1.0
    assert found.spectrum.shape == (32,)
    assert not found.warning


def test_constant_features_are_seen_as_collapsed():
    found = measure_collapse(torch.ones(300, 16) * 2.5)
    assert found.std == pytest.approx(0.0, abs=1e-6)
    assert found.rank == 0.0
    assert found.rank_uncentred == pytest.approx(1.0, abs=1e-6)


def test_a_common_direction_hides_the_rest_from_the_uncentred_rank_only():
    features = normal(1000, 16) + 100.0
    assert effective_rank(features, centred=True) > 15.5
    assert effective_rank(features, centred=False) < 1.5


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_effective_rank_of_equal_singular_values_is_their_number(rank):
    q, _ = torch.linalg.qr(normal(64, 8).double())
    v, _ = torch.linalg.qr(normal(8, 8, 1).double())
    features = q[:, :rank] @ v[:rank]
    assert effective_rank(features, centred=False) == pytest.approx(rank, rel=1e-6)


def test_effective_rank_equals_the_formula_for_known_singular_values():
    values = torch.tensor([4.0, 2.0, 1.0, 1.0], dtype=torch.float64)
    q, _ = torch.linalg.qr(normal(40, 4).double())
    p = [0.5, 0.25, 0.125, 0.125]
    expected = math.exp(-sum(x * math.log(x) for x in p))
    assert effective_rank(q * values, centred=False) == pytest.approx(expected)


def test_length_of_features_does_not_count_in_std():
    features = normal(2000, 8)
    assert feature_std(features * torch.rand(2000, 1).add(0.1)) == pytest.approx(feature_std(features), abs=1e-4)


def test_too_few_samples_are_said():
    assert "63 samples for 16 dimensions, 64 are needed" in measure_collapse(normal(63, 16)).warning
    assert not measure_collapse(normal(64, 16)).warning


def test_faults_are_named():
    with pytest.raises(ValueError, match=r"features must be \[N >= 2, D\], got \[1, 4\]"):
        measure_collapse(torch.zeros(1, 4))
    with pytest.raises(ValueError, match="1 of 3 features are not finite"):
        measure_collapse(torch.tensor([[0.0], [math.inf], [1.0]]))
