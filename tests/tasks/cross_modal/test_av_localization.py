"""AVLocalization: frame and sound overlap, silence takes no part, the score is the best place of the map."""

from __future__ import annotations

import pytest
import torch

from mmssl.batch import Batch
from mmssl.errors import UserError
from mmssl.losses.info_nce import symmetric_info_nce
from mmssl.losses.similarity import place_scores
from mmssl.tasks.cross_modal.av_localization import AVLocalization, LocalizationExample
from mmssl.tasks.cross_modal.localization_rules import AvolNet
from tests.batches import World, make_batch
from tests.tasks.cross_modal.trained import LATE, changed, clock, multitask_of, outcome_of, ramp, train

SIZE = (32, 32)


def example_of(batch: Batch, **settings: object) -> LocalizationExample:
    task = AVLocalization(size=SIZE, augment=False, **settings)  # type: ignore[arg-type]
    return task.pretext(batch, batch.draws("task"), LATE)


def test_the_sound_lies_around_the_instant_of_the_frame() -> None:
    world = World(32, AVLocalization(size=SIZE).window)
    for epoch in range(4):
        batch = clock(ramp(world.batch(range(32), epoch)))
        example = example_of(batch)
        assert example.picture.shape == (32, 3, 32, 32)
        assert example.wave.shape == (32, 16000)
        shown = example.picture[:, 0, 0, 0].double() * 255 / 50
        start, end = example.wave[:, 0].double() * 10, example.wave[:, -1].double() * 10
        assert float((shown - (start + end) / 2).abs().max()) <= 0.5 + 0.02
        # Inside the decoded sound the two are centred on each other.
        inner = (shown > batch.anchors[:, 0] - 0.9) & (shown < batch.anchors[:, 0] + 0.9)
        inner &= (shown > 0.55) & (shown < 3.45)
        assert int(inner.sum()) > 3
        assert float((shown - (start + end) / 2).abs()[inner].max()) < 0.02


def test_frames_come_from_all_over_the_window_but_not_from_behind_the_clips_end() -> None:
    window = AVLocalization(size=SIZE).window
    for shorter, frames in (({}, 24), (dict.fromkeys(range(24), 1.0), 8)):
        world, places = World(24, window, shorter=shorter), []
        for epoch in range(12):
            batch = clock(world.batch(range(24), epoch))
            example = example_of(batch)
            shown = example.picture[:, 0, 0, 0].double() * 255 / 50
            places.append(((shown - batch.wanted_times[:, 0, 0]) * 8).round())
            assert example.weight.tolist() == [1.0] * 24
        assert torch.cat(places).unique().tolist() == list(range(frames))


def test_silence_and_holes_take_no_part_whatever_the_drawn_volume() -> None:
    batch = make_batch(range(6))
    audio = batch.audio.clone()
    audio[1] *= 1e-4  # 80 dB down
    audio[2] *= 10 ** (-53 / 20) / audio[2].square().mean().sqrt()  # 3 dB below the threshold; the volume may add 6
    weight = torch.ones(6)
    weight[4] = 0
    batch = changed(batch, audio=audio, weight=weight, has_audio=torch.tensor([True] * 5 + [False]))
    task = AVLocalization(size=SIZE)
    assert task.pretext(batch, batch.draws("task"), LATE).weight.tolist() == [1, 0, 0, 1, 0, 0]


def test_the_score_is_the_best_place_of_the_map() -> None:
    multitask = multitask_of(AVLocalization(size=SIZE, augment=False))
    batch = make_batch(range(5))
    task = multitask.tasks["task"]
    example = task.pretext(batch, batch.draws("task"), LATE)
    encoders, matcher = multitask.encoders, task.exports()
    assert matcher is not None
    with torch.no_grad():
        picture = encoders["image"](example.picture)
        sound = encoders["audio"](encoders["audio"].frontend(example.wave))
        scores = place_scores(matcher.places(matcher.project("picture", picture)), matcher.embed("sound", sound))
        for shift in range(5):
            rolled = encoders["audio"](encoders["audio"].frontend(example.wave.roll(shift, dims=0)))
            found = matcher.similarity_map(picture, rolled)
            assert found.shape == (5, 4, 4)  # stride 8 of 32 pixels
            best = found.flatten(1).amax(dim=1)
            torch.testing.assert_close(best, scores[torch.arange(5), (torch.arange(5) - shift) % 5])
        loss = outcome_of(multitask, batch).loss
        torch.testing.assert_close(loss, symmetric_info_nce(scores / 0.5, torch.ones(5)), atol=1e-4, rtol=1e-4)


def test_similarities_are_not_rounded_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []

    def spy(logits: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        seen.append(logits.dtype)
        assert not torch.equal(logits, logits.bfloat16().float())
        return symmetric_info_nce(logits, weight)

    monkeypatch.setattr("mmssl.tasks.cross_modal.localization_rules.symmetric_info_nce", spy)
    multitask = multitask_of(AVLocalization(size=SIZE))
    with torch.autocast("cpu", torch.bfloat16):
        outcome_of(multitask, make_batch(range(4)))
    assert seen == [torch.float32]


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(UserError, match="pool must be one of max, softmax, logsumexp, got 'mean'"):
        AvolNet(pool="mean")
    with pytest.raises(UserError, match="sharpness must be above 0, got 0"):
        AvolNet(sharpness=0)
    with pytest.raises(UserError, match=r"ceiling must be in \(0\.5, 1\], got 0\.4"):
        AVLocalization(ceiling=0.4)


def test_the_ceiling_of_a_corpus_is_told_beside_the_score() -> None:
    assert AVLocalization(ceiling=0.85).score.ceiling == 0.85
    assert AVLocalization().score.ceiling == AVLocalization.score.ceiling == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["max", "logsumexp"])
def test_the_map_peaks_on_what_sounds_and_follows_the_sound(pool: str) -> None:
    """Two patches in each picture, one of which sounds; told by material alone."""
    task = AVLocalization(size=(48, 48), augment=False, rule=AvolNet(pool=pool))
    multitask = train(task, steps=300, distractor=True)
    world = World(128, task.window, seed=1, distractor=True)
    batch = world.batch(range(128))
    example = task.pretext(batch, batch.draws("task"), LATE)
    # Where the patches are in the drawn frame: the frame is found again among the decoded ones.
    same = (batch.frames[:, 0].float() / 255 - example.picture[:, None]).abs().flatten(2).sum(dim=2)
    chosen = same.argmin(dim=1)
    centres = world.centres[torch.arange(128), 0, chosen]  # [128, 2 patches, (x, y)]
    encoders = multitask.encoders
    with torch.no_grad():
        picture = encoders["image"](example.picture)

        def peak(wave: torch.Tensor) -> torch.Tensor:
            found = task.matcher.similarity_map(picture, encoders["audio"](encoders["audio"].frontend(wave)))
            place = found.flatten(1).argmax(dim=1)
            across = found.shape[2]
            return torch.stack([(place % across + 0.5) / across, (place // across + 0.5) / found.shape[1]], dim=1)

        def hits(place: torch.Tensor) -> torch.Tensor:
            return (place - centres[:, 0]).norm(dim=1) < 0.25  # the patch, and half a cell of the map

        own, centre = hits(peak(example.wave)).float().mean(), hits(torch.full((128, 2), 0.5)).float().mean()
        silent = (peak(example.wave) - centres[:, 1]).norm(dim=1) < 0.25
        moved = hits(peak(example.wave.roll(1, dims=0))).float().mean()
    assert float(own) > 0.8
    assert float(own) > (1 + float(centre)) / 2
    assert float(silent.float().mean()) < 0.2
    assert float(moved) < float(own) - 0.2
