import json

import pytest
import torch

from mmssl.errors import UserError
from mmssl.nn.build import read_builds
from mmssl.nn.encoders import Build, Encoders, encoders_folder, evaluation_folder
from mmssl.nn.weights import load_tensors
from pipelines.evaluate import action
from tests.evaluation.oracle import planted_run, planted_shards

VIT = {"model_type": "vit", "image_size": 32, "patch_size": 16, "hidden_size": 16, "num_hidden_layers": 1}
VIT |= {"num_attention_heads": 2, "intermediate_size": 16}
TRANSFORMERS = "mmssl.nn.given.transformers.TransformersEncoder"


def test_a_file_of_builds_is_evaluated_as_a_run_is(tmp_path, capsys):
    shards = planted_shards(tmp_path / "shards", 12)
    run = planted_run(tmp_path / "run")
    about = {
        "video": {
            "class_path": "tests.evaluation.oracle.SeesSquares",
            "init_args": {"modality": "video"},
            "weights": "run/encoders/model.safetensors",
        },
        "image": {"class_path": TRANSFORMERS, "init_args": {"config": VIT}},
    }
    file = tmp_path / "given.json"
    file.write_text(json.dumps(about))
    results = action(file, shards, seconds=0.4, rate=5, size=48, seeds=2, workers=0)
    assert results["linear"]["pretrained"]["mean"] == 1.0
    assert results["linear"]["random_init"]["mean"] == 0.5
    assert (tmp_path / "evaluation" / "given" / "action" / "results.json").is_file()
    assert evaluation_folder(run) == run / "evaluation"
    image = action(file, shards, encoder="image", seconds=0.4, rate=5, size=48, seeds=2, workers=0)
    assert image["encoder"] == "image"
    assert image["features"] == {"clip_features": 60, "from_cache": 0}  # with motion and colours
    assert encoders_folder(file) == file


def test_yaml_and_random_weights_of_a_file(tmp_path):
    vit = Encoders({"image": Build(TRANSFORMERS, {"config": VIT})})
    vit["image"].model.save_pretrained(tmp_path / "vit")
    file = tmp_path / "given.yaml"
    file.write_text(f"image: {{class_path: {TRANSFORMERS}, init_args: {{folder: {tmp_path / 'vit'}}}}}\n")
    loaded = Encoders.from_pretrained(file).state_dict()
    drawn = [Encoders.from_pretrained(file, random_init=True, seed=seed).state_dict() for seed in (0, 0, 1)]
    name = "parts.image.model.embeddings.patch_embeddings.projection.weight"
    assert torch.equal(loaded[name], vit.state_dict()[name])
    assert torch.equal(drawn[0][name], drawn[1][name])
    assert not torch.equal(drawn[0][name], drawn[2][name])
    assert not torch.equal(drawn[0][name], loaded[name])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must hold encoders by name"),
        ("- a", "must hold encoders by name"),
        ("a: [", "cannot be read as YAML or JSON"),
        ("video: resnet18", "'video' must be {class_path"),
        ("video: {class_path: x.Y, weihgts: f}", "unknown setting 'video.weihgts'; did you mean 'weights'"),
        ("video: {class_path: x.Y, init_args: 3}", "'video.init_args' must be names and values"),
    ],
)
def test_files_that_hold_something_else_are_refused(tmp_path, text, said):
    (tmp_path / "f.yaml").write_text(text)
    with pytest.raises(UserError, match=said):
        read_builds(tmp_path / "f.yaml")


def test_weights_of_another_architecture_are_refused_by_name(tmp_path):
    small = Encoders({"video": Build("mmssl.nn.video.SmallVideoEncoder", {"width": 8, "channels": [8, 8, 16]})})
    small.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["encoders"]["video"]["init_args"] = {"width": 12, "channels": [8, 8, 16], "depth": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"missing: parts.video.*2 of another shape: parts.video.project.weight \(8,"):
        Encoders.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="1 unexpected: b"):
        load_tensors(torch.nn.Linear(1, 1, bias=False), {"weight": torch.zeros(1, 1), "b": torch.zeros(1)}, "f")
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"model.safetensors' cannot be read"):
        Encoders.from_pretrained(tmp_path)
