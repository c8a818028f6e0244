import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from mmssl.errors import UserError
from mmssl.nn.build import Build
from mmssl.nn.encoders import Encoders
from mmssl.nn.features import Encoder
from mmssl.nn.given.shared import normalised
from mmssl.nn.given.torchvision import TorchvisionEncoder

CLASS = "mmssl.nn.given.torchvision.TorchvisionEncoder"
SMALL_VIT = {"image_size": 64, "num_classes": 7}


def stored(path, name, **settings):
    """A torchvision model with random weights and running statistics of its own, and the file of them."""
    torch.manual_seed(5)
    model = models.get_model(name, weights=None, **settings)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.uniform_(part.running_mean, -0.1, 0.1)
            nn.init.uniform_(part.running_var, 0.5, 2)
    torch.save({"state_dict": {f"module.{n}": t for n, t in model.state_dict().items()}}, path)
    return model.eval()


@pytest.mark.parametrize(
    ("name", "shape", "head"), [("resnet18", (2, 3, 64, 48), "fc"), ("mc3_18", (2, 3, 4, 32, 32), "fc")]
)
@torch.inference_mode()
def test_pooled_is_what_enters_the_classifier_and_levels_are_the_stages(tmp_path, name, shape, head):
    model = stored(tmp_path / "w.pth", name, num_classes=11)
    encoder = TorchvisionEncoder(name, str(tmp_path / "w.pth")).eval()
    assert isinstance(encoder, Encoder)
    x = torch.rand(shape)
    seen = {}
    for number in range(1, 5):
        getattr(model, f"layer{number}").register_forward_hook(lambda _m, _i, out, n=number: seen.update({n: out}))
    wanted = model(normalised(x, encoder.mean, encoder.std))
    found = encoder(x)
    torch.testing.assert_close(getattr(model, head)(found.pooled), wanted, atol=1e-4, rtol=1e-4)
    first = 4 if name == "resnet18" else 2
    for number in range(1, 5):
        torch.testing.assert_close(found.levels[first * 2 ** (number - 1)], seen[number], atol=1e-4, rtol=1e-4)
    assert {s: level.shape[1] for s, level in found.levels.items()} == encoder.level_widths
    assert tuple(found.levels) == encoder.strides
    assert encoder.modality == ("image" if len(shape) == 4 else "video")


@torch.inference_mode()
def test_a_transformer_gets_its_one_size_and_its_tokens_become_a_map():
    encoder = TorchvisionEncoder("vit_b_32", settings=SMALL_VIT).eval()
    found = encoder(torch.rand(2, 3, 40, 96))
    assert found.pooled.shape == (2, 768)
    assert found.levels[32].shape == (2, 768, 2, 2)
    tokens = encoder.model(normalised(torch.rand(1, 3, 64, 64), encoder.mean, encoder.std))[encoder.nodes["encoder.ln"]]
    assert tokens.shape == (1, 5, 768)


def test_saved_without_its_file_of_weights_and_random_when_asked(tmp_path):
    stored(tmp_path / "w.pth", "squeezenet1_1")
    build = Build(CLASS, {"name": "squeezenet1_1", "weights": str(tmp_path / "w.pth"), "size": 64})
    bundle = Encoders({"image": build}).eval()
    bundle.save(tmp_path / "run")
    (tmp_path / "w.pth").unlink()
    again = Encoders.from_pretrained(tmp_path / "run")
    x = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(again["image"](x).pooled, bundle["image"](x).pooled)
        drawn = [Encoders.from_pretrained(tmp_path / "run", random_init=True, seed=seed) for seed in (0, 0, 1)]
        one, same, other = (d["image"].model.state_dict()["features.0.weight"] for d in drawn)
    trained = again["image"].model.state_dict()["features.0.weight"]
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not torch.equal(one, trained)
    assert again["image"].fixed_size == (64, 64)


def test_gradients_reach_all_weights():
    encoder = TorchvisionEncoder("squeezenet1_1").train()
    encoder(torch.rand(2, 3, 64, 64)).pooled.square().sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


def test_faults_name_the_way_out(tmp_path):
    with pytest.raises(UserError, match="no classifier 'resnet81'; did you mean 'resnet18'"):
        TorchvisionEncoder("resnet81")
    stored(tmp_path / "w.pth", "squeezenet1_1")
    with pytest.raises(UserError, match=r"w.pth' are of another architecture .* missing: .*unexpected: .*and \d+ more"):
        TorchvisionEncoder("resnet18", str(tmp_path / "w.pth"))
    tensors = models.get_model("squeezenet1_1", weights=None).state_dict()
    save_file(tensors | {"features.0.weight": torch.zeros(64, 3, 5, 5)}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"of another shape: features.0.weight .* instead of \(64, 3, 3, 3\)"):
        TorchvisionEncoder("squeezenet1_1", str(tmp_path / "x.safetensors"))
    (tmp_path / "broken.pt").write_bytes(b"\x80\x02nothing")
    with pytest.raises(UserError, match=r"broken.pt' (cannot be read|hold more than tensors)"):
        TorchvisionEncoder("squeezenet1_1", str(tmp_path / "broken.pt"))
    with pytest.raises(UserError, match="cannot be read"):
        TorchvisionEncoder("squeezenet1_1", str(tmp_path / "none.pt"))
    with pytest.raises(UserError, match="does not take these settings"):
        TorchvisionEncoder("squeezenet1_1", settings={"widht": 3})


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    (
        "alexnet convnext_tiny densenet121 efficientnet_b0 googlenet inception_v3 maxvit_t mobilenet_v3_small "
        "regnet_y_400mf squeezenet1_0 swin_t vgg11 vit_b_16 mvit_v2_s r2plus1d_18 s3d swin3d_t"
    ).split(),
)
@torch.inference_mode()
def test_every_family_gives_features(name):
    encoder = TorchvisionEncoder(name).eval()
    x = torch.rand((1, 3, 8, 96, 96) if encoder.modality == "video" else (1, 3, 96, 96))
    found = encoder(x)
    assert found.pooled.shape == (1, encoder.width)
    assert found.levels
    assert {s: level.shape[1] for s, level in found.levels.items()} == encoder.level_widths
