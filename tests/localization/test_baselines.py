import numpy as np

from mmssl.localization.baselines import motion_saliency, other_sounds, random_maps


def test_motion_saliency_peaks_where_something_moved():
    before = np.zeros((2, 3, 48, 48), np.uint8)
    after = before.copy()
    after[0, :, 30:36, 8:14] = 200
    after[1, :, 5:11, 40:46] = 200
    found = motion_saliency(before, after)
    peaks = [np.unravel_index(m.argmax(), m.shape) for m in found]
    assert all(abs(y - a) <= 3 and abs(x - b) <= 3 for (y, x), (a, b) in zip(peaks, ((33, 11), (8, 43)), strict=True))
    np.testing.assert_allclose(found.sum(axis=(1, 2)), 36 * 200, rtol=0.02)


def test_a_still_picture_gives_a_constant_map():
    frames = np.full((1, 3, 20, 20), 90, np.uint8)
    assert np.ptp(motion_saliency(frames, frames)) == 0


def test_random_maps_are_of_seed_and_key():
    one = random_maps(["a", "b"], (6, 6), seed=1)
    np.testing.assert_array_equal(one[1], random_maps(["b"], (6, 6), seed=1)[0])
    assert (one[0] != random_maps(["a"], (6, 6), seed=2)[0]).any()


def test_the_other_sound_is_of_another_kind_and_source():
    rng = np.random.default_rng(0)
    kinds = [str(k) for k in rng.integers(0, 3, 80)]
    sources = [str(s) for s in rng.integers(0, 10, 80)]
    keys = [f"k{i}" for i in range(80)]
    found = other_sounds(keys, kinds, sources)
    assert all(kinds[i] != kinds[j] and sources[i] != sources[j] for i, j in enumerate(found))
    assert len(set(found.tolist())) > 30


def test_without_another_kind_there_is_no_other_sound():
    assert other_sounds(["a", "b"], ["x", "x"], ["1", "2"]).tolist() == [-1, -1]
    assert other_sounds(["a", "b"], [None, None], ["1", "2"]).tolist() == [1, 0]
    assert other_sounds(["a", "b"], ["x", "y"], ["1", "1"]).tolist() == [-1, -1]
