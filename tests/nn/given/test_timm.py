import sys

import pytest
import torch

from mmssl.errors import UserError
from mmssl.nn.build import Build
from mmssl.nn.encoders import Encoders
from mmssl.nn.features import Encoder
from mmssl.nn.given.shared import normalised
from mmssl.nn.given.timm import TimmEncoder
from tests import requirements

VIT = {"img_size": 32, "embed_dim": 24, "depth": 2, "num_heads": 2}


@pytest.mark.parametrize(
    ("name", "settings", "levels"),
    [("resnet18", {}, {4: 64, 8: 128, 16: 256, 32: 512, 2: 64}), ("vit_tiny_patch16_224", VIT, {16: 24})],
)
@torch.inference_mode()
def test_pooled_is_what_enters_the_classifier(tmp_path, name, settings, levels):
    timm = requirements.timm()
    torch.manual_seed(3)
    model = timm.create_model(name, pretrained=False, num_classes=5, **settings).eval()
    torch.save(model.state_dict(), tmp_path / "w.pth")
    encoder = TimmEncoder(name, str(tmp_path / "w.pth"), settings).eval()
    assert isinstance(encoder, Encoder)
    x = torch.rand(2, 3, 32, 32)
    wanted = model(normalised(x, encoder.mean, encoder.std))
    found = encoder(x)
    torch.testing.assert_close(model.get_classifier()(found.pooled), wanted, atol=1e-4, rtol=1e-4)
    assert encoder.level_widths == levels
    assert {s: level.shape[1] for s, level in found.levels.items()} == levels
    assert found.levels[16].shape[-2:] == (2, 2)
    assert encoder(torch.rand(1, 3, 40, 60)).pooled.shape == (1, encoder.width)


def test_saved_loaded_and_random(tmp_path):
    requirements.timm()
    bundle = Encoders(
        {"image": Build("mmssl.nn.given.timm.TimmEncoder", {"name": "vit_tiny_patch16_224", "settings": VIT})}
    )
    bundle.save(tmp_path)
    again, drawn = (Encoders.from_pretrained(tmp_path, random_init=random).state_dict() for random in (False, True))
    assert all(torch.equal(again[name], value) for name, value in bundle.state_dict().items())
    assert not all(torch.equal(drawn[name], value) for name, value in bundle.state_dict().items())
    with pytest.raises(UserError, match="timm has no model 'resnet81'"):
        TimmEncoder("resnet81")
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w.pth' are of another architecture"):
        TimmEncoder("vit_tiny_patch16_224", str(tmp_path / "w.pth"), VIT)


def test_without_timm_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match="pip install timm"):
        TimmEncoder("resnet18")
