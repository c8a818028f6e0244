"""The map of clips: its sample, its neighbours, their agreement, and t-SNE against what it must keep."""

import json

import numpy as np
import pytest

from mmssl.clip import Span
from mmssl.errors import UserError
from mmssl.evaluation.clip_map import agreement, map_clips, nearest, principal, tsne, unit
from mmssl.evaluation.looking import look
from mmssl.nn.encoders import Encoders
from pipelines.cli import main
from tests.evaluation.oracle import planted_run, planted_shards

WINDOW = {"picture": Span(0.4, 5), "size": 48, "workers": 0, "batch_size": 8}
QUICK = WINDOW | {"seeds": 2}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    return planted_run(folder / "run"), planted_shards(folder / "shards", 16)


def blobs(n=90, width=20, groups=3, seed=0):
    rng = np.random.default_rng(seed)
    kinds = np.arange(n) % groups
    return (4 * np.eye(groups, width)[kinds] + rng.normal(size=(n, width)) * 0.4).astype(np.float32), kinds


def test_the_planted_labels_are_found_and_random_weights_find_none(world):
    run, shards = world
    made = map_clips(str(run), shards, limit=16, **QUICK)
    found = made.agreement()
    assert found["agreement"]["pretrained"]["mean"] == 1.0
    assert found["agreement"]["chance"] == pytest.approx(7 / 15)
    assert found["agreement"]["random_init"]["mean"] < 0.9
    assert found["judged"] == 16
    assert sorted(made.keys) == [f"clip{n:03d}" for n in range(16)]
    assert made.pictures.shape == (16, 48, 48, 3)
    n = made.keys.index("clip004")  # its middle frame shows a red square on the left
    assert made.pictures[n, 24:36, 4:16, 0].mean() > 200 > made.pictures[n, 24:36, 4:16, 2].mean() * 2
    assert made.places.min() >= 0.0
    assert made.places.max() <= 1.0


def test_a_sample_is_drawn_by_its_seed_and_the_same_twice(world):
    run, shards = world
    keys = [map_clips(str(run), shards, limit=6, seed=s, method="pca", **QUICK).keys for s in (0, 0, 1)]
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == 6
    assert set(keys[0]) != set(keys[2])


def test_every_clip_is_decoded_once(world):
    run, shards = world
    seen = list(look(Encoders.from_pretrained(run), shards, encoder="image", **WINDOW))
    assert [len(one) for one in seen] == [8, 8]
    assert seen[0].inputs.shape == (16, 3, 48, 48)
    assert seen[0].frames.shape == (8, 2, 3, 48, 48)
    np.testing.assert_allclose(seen[0].inputs.numpy() * 255, seen[0].frames.reshape(16, 3, 48, 48), atol=1e-4)


def test_a_clip_s_own_source_does_not_count_as_found():
    features, _ = blobs(12)
    sources = [f"film{n // 2}" for n in range(12)]
    found, similarity = nearest(features, sources, 3)
    for n, row in enumerate(found):
        assert all(sources[k] != sources[n] for k in row)
        made = unit(features)
        others = [k for k in range(12) if sources[k] != sources[n]]
        assert set(row) == set(sorted(others, key=lambda k, n=n: -float(made[n] @ made[k]))[:3])
    assert (np.diff(similarity, axis=1) <= 0).all()
    lone, _ = nearest(features, ["one"] * 12)
    assert (lone == -1).all()


def test_agreement_is_that_of_a_loop_and_unlabelled_clips_are_left_out():
    labels = ["a", "a", "b", None, "b", "a", "a", "b"]
    sources = [f"s{n}" for n in range(8)]
    found = np.array([[1, 2], [0, 3], [4, 7], [0, 1], [2, 0], [6, 1], [5, 2], [4, 2]])
    made = agreement(found, [found] * 5, labels, sources)
    shares, chances = [], []
    for n, row in enumerate(found):
        known = [k for k in row if labels[k] is not None]
        if labels[n] is not None and known:
            shares.append(np.mean([labels[k] == labels[n] for k in known]))
            others = [k for k in range(8) if k != n and labels[k] is not None]
            chances.append(np.mean([labels[k] == labels[n] for k in others]))
    assert made["agreement"]["pretrained"]["mean"] == pytest.approx(np.mean(shares))
    assert made["agreement"]["chance"] == pytest.approx(np.mean(chances))
    assert made["agreement"]["difference"]["verdict"] == "not behind"
    assert made["judged"] == 7
    few = agreement(found, [found], labels, sources)["agreement"]["difference"]
    assert few["verdict"] == "not judged: 1 random initialisations, the rule asks for 5"
    assert agreement(found, [found], [None] * 8, sources)["agreement"] == {}


def test_t_sne_keeps_neighbours_better_than_two_components():
    """Five groups in 20 dimensions overlap in two components; on the map a clip's nearest are of its group."""
    features, kinds = blobs(100, groups=5)

    def kept(places):
        distance = ((places[:, None] - places[None]) ** 2).sum(-1)
        np.fill_diagonal(distance, np.inf)
        return (kinds[distance.argsort(axis=1)[:, :5]] == kinds[:, None]).mean()

    ours = tsne(features)
    assert kept(ours) > 0.98
    assert kept(ours) >= kept(principal(unit(features), 2))
    np.testing.assert_array_equal(ours, tsne(features))
    assert (tsne(np.ones((10, 4), np.float32)) == 0).all(), "a collapsed encoder has one place"


def test_components_are_those_of_the_covariance():
    features, _ = blobs(40, 6)
    found = principal(features, 2)
    values = np.linalg.eigvalsh(np.cov(features.T))[::-1]
    np.testing.assert_allclose(found.var(axis=0, ddof=1), values[:2], rtol=1e-4)
    assert principal(features[:, :1], 2).shape == (40, 2)


def test_the_command_writes_a_page_and_says_what_it_found(world, tmp_path, capsys):
    run, shards = world
    options = ["--seconds", "0.4", "--rate", "5", "--size", "48", "--workers", "0", "--limit", "12"]
    main(["inspect", "clips", str(run), shards, str(tmp_path), *options])
    shown = capsys.readouterr().out
    assert "100.0 % [100.0, 100.0] have the clip's label" in shown
    stored = json.loads((tmp_path / "clips.json").read_text())
    assert stored["protocol"] == "neighbour-agreement-v1"
    assert len(stored["clips"]) == stored["drawn"] == 12
    assert "torch" in stored["versions"]
    page = (tmp_path / "index.html").read_text()
    assert page.count('class="clip tile') == 12
    assert "<img" not in page


def test_faults_name_the_way_out(world):
    run, shards = world
    with pytest.raises(UserError, match="between 3 and 2000 clips"):
        map_clips(str(run), shards, limit=2, **QUICK)
    with pytest.raises(UserError, match="choose tsne or pca"):
        map_clips(str(run), shards, method="umap", **QUICK)
    with pytest.raises(UserError, match=r"no encoder 'vidoe'.*video"):
        map_clips(str(run), shards, encoder="vidoe", **QUICK)
