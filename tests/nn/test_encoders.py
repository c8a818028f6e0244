"""Encoders: shapes, gradients, independence of rows, the shared forward, saving and loading."""

from __future__ import annotations

import json

import pytest
import torch

from mmssl.errors import UserError
from mmssl.nn.encoders import Build, Encoders
from mmssl.nn.flow import FASTEST, SPEED
from mmssl.nn.image import MEAN, STD
from mmssl.nn.tokenizer import Tokenizer
from mmssl.nn.video import CHANGE, with_changes

SMALL = {
    "image": Build("mmssl.nn.image.SmallImageEncoder", {"width": 32, "channels": [16, 16, 32]}),
    "video": Build("mmssl.nn.video.SmallVideoEncoder", {"width": 32, "channels": [16, 16, 32]}),
    "audio": Build("mmssl.nn.audio.SmallAudioEncoder", {"width": 32, "channels": [16, 16, 32]}),
    "flow": Build("mmssl.nn.flow.SmallFlowEncoder", {"width": 32, "channels": [16, 16, 32]}),
    "text": Build("mmssl.nn.text.TextEncoder", {"vocabulary": 50, "width": 32}),
}


def example(name: str, rows: int = 3) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    if name == "image":
        return (torch.rand(rows, 3, 64, 48, generator=generator),)
    if name == "video":
        return (torch.rand(rows, 3, 6, 64, 48, generator=generator),)
    if name == "flow":
        return (30 * torch.randn(rows, 2, 6, 64, 48, generator=generator),)
    if name == "audio":
        return (torch.randn(rows, 1, 64, 101, generator=generator),)
    mask = torch.ones(rows, 7, dtype=torch.bool)
    mask[0, 4:] = False
    return torch.randint(1, 50, (rows, 7), generator=generator), mask


@pytest.fixture
def bundle() -> Encoders:
    torch.manual_seed(0)
    return Encoders(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_shapes_and_declared_widths(bundle: Encoders, name: str) -> None:
    features = bundle.encode(name, *example(name))
    encoder = bundle[name]
    assert features.pooled.shape == (3, encoder.width) == (3, 32)
    assert tuple(features.levels) == encoder.strides
    for stride, level in features.levels.items():
        assert level.shape[1] == encoder.level_widths[stride]
        if name in ("image", "video", "flow"):
            assert level.shape[-2:] == (64 // stride, 48 // stride)


@pytest.mark.parametrize("name", SMALL)
def test_a_row_does_not_depend_on_the_other_rows(bundle: Encoders, name: str) -> None:
    bundle.eval()
    inputs = example(name)
    together = bundle[name](*inputs).pooled
    alone = bundle[name](*(x[1:2] for x in inputs)).pooled
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_learns_after_one_step(bundle: Encoders, name: str) -> None:
    encoder = bundle[name].train()
    # Two steps: a text encoder meets only the tokens of its batch.
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.05)
    for _ in range(2):
        optimizer.zero_grad()
        encoder(*example(name)).pooled.square().sum().backward()
        optimizer.step()
    silent = [
        n for n, p in encoder.named_parameters() if p.grad is None or ((p.grad == 0).all() and "position" not in n)
    ]
    assert not silent


def test_a_cell_of_the_map_looks_at_the_middle_of_its_own_pixels(bundle: Encoders) -> None:
    encoder = bundle["image"].eval()
    picture = torch.full((1, 3, 64, 64), 0.5, requires_grad=True)
    encoder(picture).levels[8][0, :, 4, 3].square().sum().backward()
    assert picture.grad is not None
    seen = picture.grad.abs().sum(dim=(0, 1))
    pixels = torch.arange(64) + 0.5
    down, right = (float((seen.sum(dim=axis) * pixels).sum() / seen.sum()) for axis in (1, 0))
    assert abs(down - (4 * 8 + 4)) < 1.5
    assert abs(right - (3 * 8 + 4)) < 1.5


def test_a_video_shows_its_changes_beside_its_frames() -> None:
    clip = example("video")[0]
    made = with_changes(clip)
    assert made.shape == (3, 5, 6, 64, 48)
    torch.testing.assert_close(made[:, :3], (clip - MEAN) / STD)
    grey = ((clip - MEAN) / STD).mean(dim=1)
    torch.testing.assert_close(made[:, 3, 1:], CHANGE * (grey[:, 1:] - grey[:, :-1]), atol=1e-4, rtol=1e-4)
    assert torch.equal(made[:, 3, 1:], made[:, 4, :-1])
    assert torch.equal(made[:, 3, 0], made[:, 4, 0])
    assert torch.equal(made[:, 4, -1], made[:, 3, -1])
    assert not with_changes(clip[:, :, :1])[:, 3:].any()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(with_changes(clip), made.bfloat16())


def test_flow_is_seen_by_its_speed_and_wild_vectors_are_bounded(bundle: Encoders) -> None:
    encoder = bundle["flow"].eval()
    still, moving = (torch.full((1, 2, 4, 32, 32), speed) for speed in (0.0, 10.0))
    assert not torch.allclose(encoder(still).pooled, encoder(moving).pooled, atol=1e-3)  # alike everywhere, and seen
    fast, absurd = (torch.full((1, 2, 4, 32, 32), speed) for speed in (SPEED * FASTEST, 1e9))
    assert torch.equal(encoder(fast).pooled, encoder(absurd).pooled)


def test_padding_does_not_change_a_sentence(bundle: Encoders) -> None:
    bundle.eval()
    ids, mask = example("text")
    changed = ids.clone()
    changed[0, 4:] = 9
    torch.testing.assert_close(bundle["text"](ids, mask).pooled, bundle["text"](changed, mask).pooled)
    nothing = bundle["text"](ids, torch.zeros_like(mask)).pooled
    assert torch.equal(nothing, torch.zeros_like(nothing))


def test_the_same_tensor_is_encoded_once_a_step(bundle: Encoders) -> None:
    (x,) = example("image")
    first = bundle.encode("image", x)
    assert bundle.encode("image", x) is first
    assert bundle.calls["image"] == 1
    assert bundle.encode("image", x.clone()) is not first
    bundle.forget()
    assert bundle.encode("image", x) is not first


def test_log_mel_is_of_unit_scale_and_float32_under_autocast(bundle: Encoders) -> None:
    generator = torch.Generator().manual_seed(0)
    wave = 0.1 * torch.randn(2, 16000, generator=generator)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mel = bundle["audio"].frontend(wave)
    assert mel.dtype == torch.float32
    assert mel.shape == (2, 1, 64, 101)
    assert abs(float(mel.mean())) < 1.5
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)[None]
    band = int(bundle["audio"].frontend(tone)[0, 0].mean(dim=1).argmax())
    higher = torch.sin(2 * torch.pi * 4000 * torch.arange(16000) / 16000)[None]
    assert int(bundle["audio"].frontend(higher)[0, 0].mean(dim=1).argmax()) > band


def test_saved_and_loaded_is_the_same(bundle: Encoders, tmp_path) -> None:
    bundle.tokenizer = Tokenizer.train(["the red ball bounces", "a bell rings"], vocabulary=60)
    bundle.save(tmp_path / "encoders")
    loaded = Encoders.from_pretrained(tmp_path)
    for name in SMALL:
        torch.testing.assert_close(loaded[name](*example(name)).pooled, bundle.eval()[name](*example(name)).pooled)
    assert loaded.tokenizer is not None
    assert (loaded.tokenizer.encode(["red bell"]) == bundle.tokenizer.encode(["red bell"])).all()


def test_random_init_keeps_the_architecture_and_draws_by_seed(bundle: Encoders, tmp_path) -> None:
    bundle.save(tmp_path)
    state = torch.get_rng_state()
    a, b, c = (Encoders.from_pretrained(tmp_path, random_init=True, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    weights = [m["image"].stem.weight for m in (a, b, c, bundle)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[3])


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (Build("mmssl.nn.image.SmallImageEncodr"), "did you mean 'SmallImageEncoder'"),
        (Build("mmssl.nowhere.Thing"), "full dotted name"),
        (Build("json.dumps"), "not a torch module class"),
    ],
)
def test_wrong_classes_are_named(build: Build, text: str) -> None:
    with pytest.raises(UserError, match=text):
        build.make()


def test_missing_encoders_head_and_folder_are_named(bundle: Encoders, tmp_path) -> None:
    with pytest.raises(UserError, match=r"no encoder 'vide' in this bundle.*did you mean 'video'"):
        bundle["vide"]
    with pytest.raises(UserError, match="no encoders in"):
        Encoders.from_pretrained(tmp_path)
    bundle.save(tmp_path)
    with pytest.raises(UserError, match="no exported head 'av_localization'"):
        Encoders.load_head(tmp_path, "av_localization")
    assert json.loads((tmp_path / "config.json").read_text())["format"] == "mmssl-encoders-1"
