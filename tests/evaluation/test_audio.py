import io
import json
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from mmssl.errors import UserError
from mmssl.evaluation import EVALUATIONS
from mmssl.evaluation.audio import evaluate_audio
from mmssl.evaluation.features import FeatureTable, extract
from mmssl.evaluation.labels import label_sets_at, labels_at, relabelled
from mmssl.nn.encoders import Build, Encoders
from mmssl.nn.sound_statistics import SoundStatistics
from pipelines.evaluate_audio import audio
from tests.corpora import write_tar
from tests.evaluation.shades import SHADES, SOUND_RATE, shade_run, shade_shards

QUICK = {"seconds": 0.5, "workers": 0, "batch_size": 8}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shades")
    return shade_run(folder / "run"), shade_shards(folder / "shards", silent=(3,))


def test_a_planted_pitch_is_heard_beside_random_weights_spectrum_and_loudness(world):
    run, shards = world
    found = evaluate_audio(run, shards, label="truth.dark", seeds=2, **QUICK).as_dict()
    assert found["protocol"] == {"linear": "audio-linear-v1", "knn": "audio-knn-v1"}
    assert found["classes"] == ["False", "True"]
    assert found["label"] == "truth.dark"
    assert (found["clips"], found["test_clips"], found["left_out"]) == (SHADES - 1, 8, {"clip03": "has no sound"})
    assert found["linear"]["pretrained"]["mean"] > 0.9
    assert found["linear"]["mel_statistics"]["mean"] > 0.8, "the pitch is in the mean spectrum"
    assert found["linear"]["random_init"]["mean"] < 0.7, "a constant"
    assert found["linear"]["loudness"]["mean"] < 0.75, "all tones are as loud"
    assert set(found["knn"]) >= {"pretrained", "random_init", "mel_statistics"}
    assert "loudness" not in found["knn"]
    minus = found["linear"]["pretrained_minus"]
    assert minus["random_init"]["verdict"] == "above"
    assert minus["mel_statistics"]["low"] <= minus["mel_statistics"]["mean"] <= minus["mel_statistics"]["high"]
    assert found["linear"]["difference"]["mean"] == minus["random_init"]["mean"]
    assert EVALUATIONS["audio"] is evaluate_audio


def test_the_program_writes_results_and_says_what_was_left_out(world, tmp_path, capsys):
    run, shards = world
    settings = {"label": "truth.dark", "seeds": 1, "views": 2, "seconds": 0.5, "workers": 0}
    results = audio(run, shards, out=tmp_path / "out", **settings)
    stored = json.loads((tmp_path / "out" / "results.json").read_text())
    assert stored == json.loads(json.dumps(results))
    assert stored["views"] == 2
    shown = " ".join(capsys.readouterr().out.split())
    assert "linear: pretrained minus mel statistics" in shown
    assert "1 clips left out, for instance 'clip03': has no sound" in shown


def sound_alone(number):
    """An mp4 without a picture: the tone of a shade."""
    file = io.BytesIO()
    time = np.arange(SOUND_RATE) / SOUND_RATE
    wave = (0.5 * np.sin(2 * np.pi * (400 + 200 * number) * time)).astype(np.float32)
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=SOUND_RATE, layout="mono")
        for begin in range(0, len(wave), 1024):
            frame = av.AudioFrame.from_ndarray(wave[None, begin : begin + 1024].copy(), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, begin, Fraction(1, SOUND_RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def test_clips_of_sound_alone_do_and_folds_come_from_their_names(world, tmp_path):
    """As ESC-50 names its clips: the fold first (``3-12345-A-7``)."""
    run, _ = world
    samples = []
    for number in range(SHADES):
        about = {"label": "low" if number < SHADES // 2 else "high"}
        key = f"{number % 5 + 1}-{number:05d}-A-{number}"
        samples.append((key, {"mp4": sound_alone(number), "json": json.dumps(about).encode()}))
    write_tar(tmp_path / "esc-000000.tar", samples)
    found = evaluate_audio(run, str(tmp_path), group=r"^(\d)-\d+-[A-Z]-\d+$", seeds=1, **QUICK).as_dict()
    assert (found["folds"], found["test_clips"]) == (5, SHADES)
    assert found["linear"]["pretrained"]["mean"] > 0.8, "the middle pitches may be missed"


def test_statistics_are_mean_spread_and_loudness():
    rng = np.random.default_rng(0)
    wave = torch.from_numpy(rng.normal(size=(3, 8000)).astype(np.float32)) * 0.1
    made = SoundStatistics()
    found = made(made.frontend(wave)).pooled.numpy()
    bands = made.log_mel(wave)[:, 0].numpy().astype(np.float64)
    np.testing.assert_allclose(found[:, :64], bands.mean(axis=2), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[:, 64:128], bands.std(axis=2), rtol=1e-4, atol=1e-5)
    rms = np.sqrt((wave.numpy().astype(np.float64) ** 2).mean(axis=1))
    np.testing.assert_allclose(found[:, 128], 20 * np.log10(rms), rtol=1e-4)
    assert found.shape == (3, made.width)


def test_the_statistics_of_clips_are_extracted_as_of_any_encoder(world):
    _, shards = world
    bundle = Encoders({"audio": Build("mmssl.nn.sound_statistics.SoundStatistics")})
    table = extract(bundle, shards, encoder="audio", workers=0)
    loud = table.features[:, 0, -1]
    assert np.allclose(loud, 20 * np.log10(0.5 / 2**0.5), atol=0.5)


def test_labels_lie_anywhere_in_the_description():
    metas = ({"truth": {"m": "tin", "all": ["tin", "ice"], "n": 3}}, {"truth": {"m": None}}, {"truth": {"m": "ice"}})
    assert labels_at(metas, "truth.m") == ("tin", None, "ice")
    assert labels_at(metas, "truth.n") == ("3", None, None)
    assert label_sets_at(metas, "truth.all") == (frozenset({"tin", "ice"}), frozenset(), frozenset())
    table = FeatureTable(("a", "b", "c"), np.zeros((3, 1, 2), np.float32), (None,) * 3, metas, {"left_out": {}})
    kept = relabelled(table, "truth.m")
    assert (kept.keys, kept.labels) == (("a", "c"), ("tin", "ice"))
    assert kept.about["left_out"] == {"b": "has no truth.m"}
    with pytest.raises(UserError, match=r"label 'truth.all' leads to .* give the path of one value"):
        labels_at(metas, "truth.all")
    with pytest.raises(UserError, match=r"did you mean 'truth.[mn]'\? \(there: truth.all, truth.m, truth.n\)"):
        labels_at(metas, "truth.k")
    with pytest.raises(UserError, match="neither a label nor a list"):
        label_sets_at(({"x": 1.5},), "x")


def test_faults_name_the_way_out(world, tmp_path):
    run, shards = world
    with pytest.raises(UserError, match="encoder 'video' is of modality 'video'"):
        evaluate_audio(run, shards, encoder="video")
    with pytest.raises(UserError, match="seeds is 0"):
        evaluate_audio(run, shards, seeds=0)
    with pytest.raises(UserError, match="seconds=0"):
        evaluate_audio(run, shards, seconds=0)
    with pytest.raises(UserError, match="give either --shards"):
        evaluate_audio(run)
    mute = shade_shards(tmp_path / "mute", silent=tuple(range(SHADES)))
    with pytest.raises(UserError, match=r"gives features of the encoder 'audio' \(has no sound\)"):
        evaluate_audio(run, mute, seeds=1, **QUICK)
