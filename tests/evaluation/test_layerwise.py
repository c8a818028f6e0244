import pytest
import torch
import torchvision
from torch import nn
from transformers import ResNetConfig, ResNetModel, VideoMAEConfig, VideoMAEModel, ViTConfig, ViTModel

from mmssl.evaluation.layerwise import layer_depths, layerwise_groups
from mmssl.nn.image import SmallImageEncoder
from mmssl.nn.video import SmallVideoEncoder

TINY = {"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 8, "image_size": 16}


def vision_transformer():
    return torchvision.models.VisionTransformer(
        image_size=16, patch_size=8, num_layers=3, num_heads=2, hidden_dim=8, mlp_dim=8, num_classes=2
    )


#: module, layers, and a parameter of some of them
KNOWN = {
    "small video": (
        lambda: SmallVideoEncoder(8, (4, 4, 4), depth=2),
        6,
        {"stem.gain": 0, "stages.0.0.norm_1.weight": 1, "stages.0.1.norm_1.weight": 2, "stages.1.1.norm_1.weight": 4}
        | {"norm.weight": 5, "project.bias": 5},
    ),
    "small image": (
        lambda: SmallImageEncoder(8, (4, 4, 4)),
        5,
        {"stem.weight": 0, "stages.0.0.norm_1.bias": 1, "stages.2.0.norm_1.bias": 3, "project.weight": 4},
    ),
    "resnet": (
        lambda: torchvision.models.resnet18(),
        10,
        {"conv1.weight": 0, "bn1.bias": 0, "layer1.0.conv1.weight": 1, "layer2.0.downsample.0.weight": 3, "fc.bias": 9},
    ),
    "r(2+1)d": (
        lambda: torchvision.models.video.r2plus1d_18(),
        10,
        {"stem.0.weight": 0, "stem.4.bias": 0, "layer1.0.conv1.0.0.weight": 1, "layer4.1.conv2.1.bias": 8},
    ),
    "vision transformer": (
        vision_transformer,
        5,
        {"class_token": 0, "conv_proj.weight": 0, "encoder.pos_embedding": 0, "encoder.ln.weight": 4}
        | {"encoder.layers.encoder_layer_0.ln_1.weight": 1, "heads.head.bias": 4},
    ),
    "transformers ViT": (
        lambda: ViTModel(ViTConfig(patch_size=8, **TINY)),
        5,
        {"embeddings.cls_token": 0, "embeddings.patch_embeddings.projection.bias": 0, "layernorm.weight": 4},
    ),
    "transformers VideoMAE": (
        lambda: VideoMAEModel(VideoMAEConfig(patch_size=8, num_frames=2, **TINY)),
        4,
        {"embeddings.patch_embeddings.projection.weight": 0, "encoder.layer.0.attention.attention.query.weight": 1}
        | {"encoder.layer.2.layernorm_after.bias": 3},
    ),
    "transformers ResNet": (
        lambda: ResNetModel(ResNetConfig(embedding_size=4, hidden_sizes=[4, 4], depths=[2, 1])),
        4,
        {"embedder.embedder.convolution.weight": 0, "encoder.stages.0.layers.0.layer.0.convolution.weight": 1}
        | {"encoder.stages.0.layers.1.layer.2.normalization.bias": 2},
    ),
    "no blocks": (
        lambda: nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Linear(1, 1)),
        2,
        {"0.weight": 0, "0.bias": 0, "2.weight": 1},
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_depths_follow_the_blocks_of_known_architectures(name):
    make, layers, expected = KNOWN[name]
    with torch.device("meta"):
        module = make()
    depths = layer_depths(module)
    assert {key: depths[key] for key in expected} == expected
    assert set(depths) == {key for key, _ in module.named_parameters()}
    assert sorted(set(depths.values())) == list(range(layers))


def test_rates_fall_from_the_head_to_the_stem_and_every_parameter_is_in_one_group():
    encoder, head = SmallVideoEncoder(8, (4, 4, 4)), nn.Linear(8, 3)
    groups = layerwise_groups([encoder, nn.Identity(), head], lr=1.0, layer_decay=0.5, weight_decay=0.1)
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert len(rate) == sum(len(g["params"]) for g in groups) == len([*encoder.parameters(), *head.parameters()])
    assert rate[id(head.weight)] == 1.0
    assert rate[id(encoder.project.weight)] == 0.5
    assert rate[id(encoder.stages[1][0].norm_1.weight)] == 0.25
    assert rate[id(encoder.stem.weight)] == 0.5**4
    for group in groups:
        assert all((p.ndim > 1) == (group["weight_decay"] > 0) for p in group["params"])


def test_frozen_parameters_have_no_group_and_one_rate_is_one_rate():
    encoder = SmallImageEncoder(8, (4, 4, 4))
    encoder.stem.requires_grad_(False)
    groups = layerwise_groups([encoder], lr=0.3, layer_decay=1.0, weight_decay=0.0)
    assert {group["lr"] for group in groups} == {0.3}
    assert id(encoder.stem.weight) not in {id(p) for group in groups for p in group["params"]}
    assert torch.optim.AdamW(groups).param_groups
