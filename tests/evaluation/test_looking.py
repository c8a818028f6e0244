"""What is drawn of an encoder: receptive fields, attention, maps of stages, and what filters answer to."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mmssl.clip import Span
from mmssl.errors import UserError
from mmssl.evaluation.attention import attention_maps, correlation, encode_with_attention, energy, rollout, token_grid
from mmssl.evaluation.receptive import receptive_fields
from mmssl.evaluation.stages import likeness, stage_maps
from mmssl.evaluation.top_activations import Best, Hit, top_activations
from mmssl.nn.audio import SmallAudioEncoder
from mmssl.nn.encoders import Build, Encoders
from mmssl.nn.features import Features
from mmssl.nn.image import SmallImageEncoder
from mmssl.nn.video import SmallVideoEncoder
from pipelines.cli import main
from tests.corpora import write_tar
from tests.evaluation.oracle import encode

SIZE, PATCH, RED = 48, 6, (6, 13, 20, 27, 4)  # clips with a red patch, at a place of its own each
HERE = "tests.evaluation.test_looking"


class FindsRed(nn.Module):
    """Filter 1 answers to red within 12 x 12 pixels around a cell of stride 4, filter 0 to brightness."""

    strides, width, level_widths = (4,), 2, {4: 2}

    def __init__(self, modality: str = "image") -> None:
        super().__init__()
        self.modality = modality
        self.look = nn.Conv2d(3, 2, 12, 4, 4, bias=False)
        with torch.no_grad():
            self.look.weight[0] = 1 / 432
            self.look.weight[1] = torch.tensor([1.0, -0.5, -0.5])[:, None, None].expand(3, 12, 12) / 144

    def forward(self, x: torch.Tensor) -> Features:
        """Images [B, 3, H, W], or video [B, 3, T, H, W] frame by frame."""
        flat = x.transpose(1, 2).flatten(0, 1) if x.ndim == 5 else x
        level = self.look(flat)
        if x.ndim == 5:
            level = level.unflatten(0, (len(x), x.shape[2])).transpose(1, 2)
        return Features(pooled=level.flatten(2).amax(dim=2), levels={4: level})


class Attends(nn.Module):
    """A class token and 4 x 4 patches through two of torch's attention layers."""

    modality, strides, width = "image", (), 8
    level_widths: dict[int, int] = {}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 12, 12)
        self.start = nn.Parameter(torch.randn(1, 1, 8))
        self.layers = nn.ModuleList(nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(2))

    def forward(self, x: torch.Tensor) -> Features:
        """Images [B, 3, H, W]."""
        tokens = torch.cat([self.start.expand(len(x), -1, -1), self.patches(x).flatten(2).transpose(1, 2)], dim=1)
        for layer in self.layers:
            tokens = tokens + layer(tokens, tokens, tokens, need_weights=False)[0]
        return Features(pooled=tokens[:, 0], tokens=tokens)


def red_place(number: int) -> tuple[int, int]:
    return 3 * (RED.index(number) + 1), 30 - 6 * RED.index(number)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """30 clips on grey, five of which show a red patch on one of their frames; two clips a source."""
    folder = tmp_path_factory.mktemp("reds")
    samples = []
    for number in range(30):
        frames = np.full((8, SIZE, SIZE, 3), 90 + number, dtype=np.uint8)
        if number in RED:
            top, left = red_place(number)
            frames[3:6, top : top + PATCH, left : left + PATCH] = (225, 15, 15)
        meta = {"source": f"film{number}.mp4", "duration": 0.8, "width": SIZE, "height": SIZE, "label": str(number % 2)}
        samples.append((f"clip{number:02d}", {"mp4": encode(frames, None), "json": json.dumps(meta).encode()}))
    write_tar(folder / "clips-000000.tar", samples)
    builds = {name: Build(f"{HERE}.FindsRed", {"modality": name}) for name in ("image", "video")}
    Encoders(builds | {"token": Build(f"{HERE}.Attends")}).save(folder / "run" / "encoders")
    return folder / "run", str(folder / "clips-000000.tar")


QUICK = {"picture": Span(0.8, 10), "size": SIZE, "workers": 0, "batch_size": 7}


@pytest.mark.parametrize("encoder", ["image", "video"])
def test_a_filter_that_answers_to_red_shows_exactly_the_red_clips_and_marks_the_patch(world, encoder):
    run, shards = world
    found = top_activations(str(run), shards, encoder=encoder, level=4, channels=[1], top=5, **QUICK)
    hits = found.filters[1]
    assert {hit.key for hit in hits} == {f"clip{n:02d}" for n in RED}
    for hit in hits:
        top, left = red_place(int(hit.key[4:]))
        x0, y0, x1, y1 = (v * SIZE for v in hit.region)
        assert max(x1 - x0, y1 - y0) <= 12
        assert x0 <= left < left + PATCH <= x1, "the region that the cell sees holds the patch"
        assert y0 <= top < top + PATCH <= y1
        seen = hit.picture[top : top + PATCH, left : left + PATCH].reshape(-1, 3).mean(axis=0)
        assert seen[0] > 150 > seen[1] + 50, "the shown frame is the one with the patch"
        assert 0.29 < hit.seconds < 0.61
        assert hit.frames[1] - hit.frames[0] == 1
    assert [h.value for h in hits] == sorted((h.value for h in hits), reverse=True)
    assert found.about["clips"] == 30


def test_a_stream_keeps_the_best_of_each_source_whatever_its_order():
    rng = np.random.default_rng(0)
    values, sources = rng.normal(size=400), rng.integers(0, 40, 400)
    picture = np.zeros((1, 1, 3), np.uint8)
    for order in (np.arange(400), np.argsort(values), np.argsort(-values), rng.permutation(400)):
        best = Best(9)
        for n in order:
            if best.wants(values[n], str(sources[n])):
                best.add(Hit(values[n], f"k{n}", str(sources[n]), None, 0.0, picture, (0, 0, 1, 1), (0, 1)))
            assert len(best.hits) <= 9
        highest = {s: values[sources == s].max() for s in set(sources.tolist())}
        assert [hit.value for hit in best.ranked()] == sorted(highest.values(), reverse=True)[:9]


def test_batches_change_nothing(world):
    run, shards = world
    one = top_activations(str(run), shards, **QUICK)
    other = top_activations(str(run), shards, **(QUICK | {"batch_size": 30}))
    assert one.as_dict() == other.as_dict()


@pytest.mark.parametrize(
    ("encoder", "stride", "shape", "wanted"),
    [
        # stem 7 x 7 by 4; a block adds 2 + 2 steps of its input's and output's stride
        (SmallImageEncoder, 4, (3, 48, 64), (23, 23)),
        (SmallImageEncoder, 8, (3, 96, 64), (47, 47)),
        (SmallImageEncoder, 16, (3, 160, 32), (95, 32)),
        (SmallVideoEncoder, 16, (3, 12, 96, 96), (7, 31, 31)),
        (SmallAudioEncoder, 8, (1, 64, 120), (47, 47)),
    ],
)
def test_receptive_fields_are_those_of_the_arithmetic(encoder, stride, shape, wanted):
    torch.manual_seed(0)
    part = encoder()
    found = receptive_fields(part, stride, shape)
    assert found.largest == wanted
    level = part(torch.rand(1, *shape)).levels[stride]
    assert tuple(len(axis) for axis in found.axes) == tuple(level.shape[2:])
    for axis, side in zip(found.axes, shape[1:], strict=True):
        assert all(0 <= start < stop <= side for start, stop in axis)
    assert not level.isnan().any(), "the encoder is as it was"


def test_a_cell_depends_on_nothing_outside_of_its_field_but_for_normalisation():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 5, 2, 2), nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1))

    class Wrapped(nn.Module):
        modality, strides = "image", (4,)

        def __init__(self) -> None:
            super().__init__()
            self.inner = plain

        def forward(self, x):
            return Features(pooled=x.flatten(1), levels={4: self.inner(x)})

    (y0, y1), (x0, x1) = receptive_fields(Wrapped(), 4, (3, 40, 40)).box((5, 2))
    picture = torch.rand(1, 3, 40, 40, requires_grad=True)
    torch.autograd.grad(plain(picture)[0, :, 5, 2].square().sum(), picture)
    other = torch.rand(1, 3, 40, 40)
    other[..., y0:y1, x0:x1] = picture.detach()[..., y0:y1, x0:x1]
    torch.testing.assert_close(plain(other)[0, :, 5, 2], plain(picture)[0, :, 5, 2])
    assert (y1 - y0, x1 - x0) == (9, 9)


def test_energy_and_correlation_are_their_formulas():
    level = torch.randn(2, 5, 3, 4, 4)
    for n, t, y, x in ((0, 1, 2, 3), (1, 2, 0, 0)):
        wanted = float(np.sqrt(np.mean([float(v) ** 2 for v in level[n, :, t, y, x]])))
        assert float(energy(level)[n, t, y, x]) == pytest.approx(wanted, rel=1e-5)
    a, b = np.random.default_rng(0).normal(size=(2, 3, 20))
    np.testing.assert_allclose(correlation(a, b), [np.corrcoef(p, q)[0, 1] for p, q in zip(a, b, strict=True)])
    assert np.isnan(correlation(np.ones((1, 4)), np.ones((1, 4)))).all()


def test_rollout_is_the_product_of_half_attention_and_half_self():
    layers = [torch.softmax(torch.randn(2, 3, 5, 5), dim=-1) for _ in range(3)]
    found = rollout(layers)
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(2, 5))
    wanted = np.eye(5)
    for layer in layers:
        wanted = (layer[1].double().mean(0).numpy() + np.eye(5)) / 2 @ wanted
    np.testing.assert_allclose(found[1].numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("length", "frames", "size", "wanted"),
    [
        (197, 1, (224, 224), (1, (1, 14, 14))),
        (196, 1, (224, 224), (0, (1, 14, 14))),
        (201, 1, (224, 224), (5, (1, 14, 14))),  # class and four registers
        (1568, 16, (224, 224), (0, (8, 14, 14))),
        (1 + 6 * 9, 1, (96, 144), (1, (1, 6, 9))),
    ],
)
def test_tokens_are_laid_on_the_picture(length, frames, size, wanted):
    assert token_grid(length, frames, *size) == wanted


def test_attention_of_torch_layers_is_kept_and_changes_no_feature():
    torch.manual_seed(0)
    part = Attends().eval()
    x = torch.rand(2, 3, SIZE, SIZE)
    features, layers = encode_with_attention(part, x)
    assert [tuple(layer.shape) for layer in layers] == [(2, 2, 17, 17)] * 2
    torch.testing.assert_close(features.pooled, part(x).pooled)
    tokens = torch.cat([part.start.expand(2, -1, -1), part.patches(x).flatten(2).transpose(1, 2)], dim=1)
    _, wanted = part.layers[0](tokens, tokens, tokens, average_attn_weights=False)
    torch.testing.assert_close(layers[0], wanted)
    assert attention_maps(layers, 1, SIZE, SIZE).shape == (2, 1, 4, 4)
    with pytest.raises(UserError, match="17 tokens lie on no grid"):
        attention_maps(layers, 1, 50, 31)


def test_attention_of_transformers_models_is_kept():
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8
    )
    model = ViTModel(config, add_pooling_layer=False).eval()
    before = model.config._attn_implementation

    class Given(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x):
            return Features(pooled=self.model(x).last_hidden_state[:, 0])

    x = torch.rand(2, 3, 32, 32)
    _, layers = encode_with_attention(Given(), x)
    assert [tuple(layer.shape) for layer in layers] == [(2, 2, 17, 17)] * 2
    model.set_attn_implementation("eager")
    wanted = model(x, output_attentions=True).attentions
    model.set_attn_implementation(before)
    for ours, theirs in zip(layers, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert model.config._attn_implementation == before


def test_stages_are_drawn_beside_random_weights(world, tmp_path, capsys):
    run, shards = world
    clips = list(stage_maps(str(run), shards, encoder="image", limit=6, **QUICK))
    assert [clip.key for clip in clips] == [f"clip{n:02d}" for n in range(6)]
    assert set(clips[0].stages) == {"stride 4"}
    assert clips[0].stages["stride 4"]["trained"].shape == (8, 12, 12)
    found = likeness(clips)["stride 4"]["random weights"]
    assert found["mean"] == pytest.approx(1.0), "this encoder has no random weights"
    options = ["--seconds", "0.8", "--rate", "10", "--size", "48", "--workers", "0", "--limit", "3", "--columns", "4"]
    main(["inspect", "attention", str(run), shards, str(tmp_path / "energy"), *options])
    assert Image.open(tmp_path / "energy" / "clip00.png").width >= 4 * 112
    stored = json.loads((tmp_path / "energy" / "attention.json").read_text())
    assert [clip["key"] for clip in stored["clips"]] == ["clip00", "clip01", "clip02"]
    assert "not what the network decides by" in (tmp_path / "energy" / "index.html").read_text()
    main(["inspect", "attention", str(run), shards, str(tmp_path / "rolled"), "--encoder", "token", *options])
    assert "attention rollout" in json.loads((tmp_path / "rolled" / "attention.json").read_text())["correlation"]
    capsys.readouterr()


def test_the_sheet_is_written(world, tmp_path, capsys):
    run, shards = world
    options = ["--seconds", "0.8", "--rate", "10", "--size", "48", "--workers", "0", "--level", "4", "--top", "5"]
    main(["inspect", "top-activations", str(run), shards, str(tmp_path), *options])
    assert "2 filters of stride 4 (receptive field 12 x 12) over 30 clips" in " ".join(capsys.readouterr().out.split())
    stored = json.loads((tmp_path / "top_activations.json").read_text())
    assert {hit["key"] for hit in stored["filters"]["1"]} == {f"clip{n:02d}" for n in RED}
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB")).astype(int)
    assert (sheet[..., 0] - sheet[..., 1:].max(axis=-1) > 100).mean() > 0.005, "the patches are on the sheet"
    assert (tmp_path / "index.html").read_text().count("<figure") == 10


def test_faults_name_the_way_out(world):
    run, shards = world
    with pytest.raises(UserError, match="no level at stride 8; choose of 4"):
        top_activations(str(run), shards, level=8, **QUICK)
    with pytest.raises(UserError, match="no filter 7: the level has 2"):
        top_activations(str(run), shards, channels=[7], **QUICK)
    with pytest.raises(UserError, match="gives no maps"):
        top_activations(str(run), shards, encoder="token", **QUICK)
    with pytest.raises(UserError, match="limit=0"):
        list(stage_maps(str(run), shards, limit=0, **QUICK))
