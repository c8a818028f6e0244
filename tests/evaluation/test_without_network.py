import torch

from mmssl.evaluation.without_network import PIXELS, ColourHistogram, MotionEnergy, pixel_bundles


def test_motion_energy_says_where_and_when():
    clip = torch.zeros(2, 3, 17, 96, 96)
    clip[1, :, 4:8:2, 84:, :12] = 1.0  # flashes in the lower left corner, in the second quarter
    found = MotionEnergy()(clip).pooled.reshape(2, 4, 8, 8)
    assert (found[0] == 0).all()
    assert found[1, 1, 7, 0] > 0.5
    elsewhere = found[1].clone()
    elsewhere[:2, 6:, :2] = 0  # the antialiased neighbours, and the change at the quarter's beginning
    assert (elsewhere == 0).all()


def test_what_stands_still_or_is_one_picture_has_no_motion():
    still = torch.rand(1, 3, 1, 48, 48).expand(1, 3, 5, 48, 48)
    assert MotionEnergy()(still).pooled.abs().max() < 1e-6
    one = MotionEnergy()(torch.rand(2, 3, 1, 48, 48)).pooled
    assert one.shape == (2, 256)
    assert (one == 0).all()


def test_colours_are_counted_wherever_they_are():
    clip = torch.zeros(1, 3, 2, 8, 8)
    clip[:, 0, :, :4] = 1.0  # the upper half is red, the lower black
    found = ColourHistogram()(clip).pooled[0]
    assert found.shape == (64,)
    torch.testing.assert_close(found[[0, 48]], torch.tensor([0.5, 0.5]).sqrt())
    assert found.count_nonzero() == 2
    torch.testing.assert_close(ColourHistogram()(clip.flip(3)).pooled[0], found)


def test_they_run_as_bundles_without_weights():
    bundles = pixel_bundles("eye")
    assert list(bundles) == list(PIXELS) == ["motion_energy", "colour_histogram"]
    for bundle in bundles.values():
        assert bundle["eye"].modality == "video"
        assert not list(bundle.parameters())
        assert bundle["eye"](torch.rand(2, 3, 4, 16, 16)).pooled.shape == (2, bundle["eye"].width)
