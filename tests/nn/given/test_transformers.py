import json

import numpy as np
import pytest
import torch
import transformers

from mmssl.errors import UserError
from mmssl.nn.build import Build
from mmssl.nn.encoders import Encoders
from mmssl.nn.features import Encoder
from mmssl.nn.given.shared import normalised
from mmssl.nn.given.transformers import TransformersEncoder
from mmssl.nn.given.transformers_audio import TransformersAudioEncoder

TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
VIT = {"model_type": "vit", "image_size": 32, "patch_size": 8, **TINY}
CLASS = "mmssl.nn.given.transformers.TransformersEncoder"


@pytest.mark.parametrize(
    ("config", "levels"),
    [
        (VIT, {8: (32, 4, 4)}),
        (
            {"model_type": "dinov2_with_registers", "image_size": 28, "patch_size": 14, "num_attention_heads": 2}
            | {"hidden_size": 32, "num_hidden_layers": 1},
            {14: (32, 2, 2)},
        ),
        ({"model_type": "siglip_vision_model", "image_size": 32, "patch_size": 8, **TINY}, {8: (32, 4, 4)}),
        (
            {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
            | {"layer_type": "basic"},
            {4: (8, 10, 10), 8: (16, 5, 5)},
        ),
        (
            {"model_type": "swin", "image_size": 64, "embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2]}
            | {"window_size": 4},
            {4: (16, 16, 16), 8: (32, 8, 8)},
        ),
        ({"model_type": "videomae", "image_size": 32, "patch_size": 8, "num_frames": 4, **TINY}, {8: (32, 2, 4, 4)}),
        ({"model_type": "timesformer", "image_size": 32, "patch_size": 8, "num_frames": 4, **TINY}, {8: (32, 4, 4, 4)}),
        (
            {"model_type": "vivit", "image_size": 32, "num_frames": 4, "tubelet_size": [2, 8, 8], **TINY},
            {8: (32, 2, 4, 4)},
        ),
    ],
    ids=lambda value: value.get("model_type", "") if isinstance(value, dict) else "",
)
@torch.inference_mode()
def test_features_of_random_models(config, levels):
    encoder = TransformersEncoder(config=config).eval()
    assert isinstance(encoder, Encoder)
    x = torch.rand(2, 3, 6, 40, 40) if encoder.modality == "video" else torch.rand(2, 3, 40, 40)
    found = encoder(x)
    assert found.pooled.shape == (2, encoder.width)
    assert {s: tuple(level.shape[1:]) for s, level in found.levels.items()} == levels
    assert encoder.strides == tuple(levels)
    assert encoder.level_widths == {s: shape[0] for s, shape in levels.items()}


@pytest.mark.parametrize("kind", ["videomae", "timesformer"])
def test_maps_of_video_tokens_lie_where_the_tokens_came_from(kind):
    """What changes in one place and time of the clip changes the embedding of that token, and the map there."""
    config = {"model_type": kind, "image_size": 32, "patch_size": 8, "num_frames": 4, **TINY, "num_hidden_layers": 1}
    encoder = TransformersEncoder(config=config).eval()
    layer = encoder.model.encoder.layer[0]
    layer.forward = lambda hidden, *_a, **_k: (hidden,) if kind == "timesformer" else hidden
    clip = torch.zeros(1, 3, 4, 32, 32)
    marked = clip.clone()
    marked[:, :, 2:4, 8:16, 24:32] = 1.0  # the second row, the last column, the later half
    with torch.inference_mode():
        change = (encoder(marked).levels[8] - encoder(clip).levels[8]).abs().sum(dim=1)[0]
    found = (change > 1e-6).nonzero().tolist()
    assert found == ([[1, 1, 3]] if kind == "videomae" else [[2, 1, 3], [3, 1, 3]])


def test_a_folder_is_loaded_with_its_colours_and_saved_without_it(tmp_path):
    torch.manual_seed(2)
    model = transformers.ViTForImageClassification(
        transformers.ViTConfig(**{k: v for k, v in VIT.items() if k != "model_type"})
    )
    model.save_pretrained(tmp_path / "vit")
    (tmp_path / "vit" / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5] * 3, "image_std": [0.2] * 3})
    )
    bundle = Encoders({"image": Build(CLASS, {"folder": str(tmp_path / "vit")})}).eval()
    x = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        wanted = model.eval().vit(normalised(x, [0.5] * 3, [0.2] * 3)).last_hidden_state[:, 0]
        torch.testing.assert_close(bundle["image"](x).pooled, wanted)
    bundle.save(tmp_path / "run")
    (tmp_path / "vit").rename(tmp_path / "gone")
    again = Encoders.from_pretrained(tmp_path / "run")
    with torch.inference_mode():
        torch.testing.assert_close(again["image"](x).pooled, wanted)
    drawn = Encoders.from_pretrained(tmp_path / "run", random_init=True).state_dict()
    kept = again.state_dict()
    assert drawn.keys() == kept.keys()
    name = "parts.image.model.embeddings.patch_embeddings.projection.weight"
    assert not torch.equal(drawn[name], kept[name])
    with pytest.raises(UserError, match=r"of another architecture than its config.json \(2 missing: pooler"):
        TransformersEncoder(folder=str(tmp_path / "gone"), pool="pooler")


def test_folders_that_do_not_fit_are_refused(tmp_path):
    model = TransformersEncoder(config=VIT).model
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"patch_size": 4}))
    with pytest.raises(UserError, match=r"of another shape: embeddings.patch_embeddings.projection.weight"):
        TransformersEncoder(folder=str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(UserError, match=r"missing: .* and \d+ more"):
        TransformersEncoder(folder=str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot be loaded"):
        TransformersEncoder(folder=str(tmp_path))
    with pytest.raises(UserError, match=r"config.json is missing"):
        TransformersEncoder(folder=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="either `folder` or `config`"):
        TransformersEncoder()
    with pytest.raises(UserError, match="no model_type 'vti'; did you mean 'vit'"):
        TransformersEncoder(config={"model_type": "vti"})
    with pytest.raises(UserError, match="'bert' of transformers cannot encode pictures"):
        TransformersEncoder(config={"model_type": "bert", **TINY})


@torch.inference_mode()
def test_audio_models_hear_what_their_own_extractors_make():
    sound = 0.1 * torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    rows = [row.numpy() for row in sound]
    ast = TransformersAudioEncoder(
        config={"model_type": "audio-spectrogram-transformer", "max_length": 128, "num_mel_bins": 64, **TINY}
    ).eval()
    wanted = transformers.ASTFeatureExtractor(max_length=128, num_mel_bins=64)(
        rows, sampling_rate=16000, return_tensors="pt"
    )
    found = ast(ast.frontend(sound))
    torch.testing.assert_close(found.pooled, ast.model(**wanted).last_hidden_state[:, :2].mean(dim=1))
    wav = TransformersAudioEncoder(
        config={"model_type": "wav2vec2", "conv_dim": [16] * 7, "num_conv_pos_embeddings": 16}
        | {"num_conv_pos_embedding_groups": 2, **TINY}
    ).eval()
    wanted = transformers.Wav2Vec2FeatureExtractor()(rows, sampling_rate=16000, return_tensors="pt")
    np.testing.assert_allclose(wav.frontend(sound)[:, 0, 0], wanted.input_values, atol=1e-5)
    assert wav(wav.frontend(sound)).pooled.shape == (2, 32)
    with pytest.raises(UserError, match="no audio encoder of 'vit'"):
        TransformersAudioEncoder(config=VIT)
