"""Listing corpora: folders, manifests, and what cannot be listed."""

from __future__ import annotations

import json
import sys

import pytest

from mmssl.data.corpora.listing import list_corpus
from mmssl.data.corpora.source import key_of
from mmssl.errors import UserError


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_folder_labels_splits_and_sidecars(tmp_path):
    touch(
        tmp_path,
        "top.mp4",
        "dog/a.MKV",
        "dog/a.en.vtt",
        "dog/a.de.vtt",
        "dog/b.one.mp4",
        "dog/b.one.srt",
        "dog/b.one.vtt",
        "train/cat/c.webm",
        "train/d.avi",
        ".hidden/e.mp4",
        "dog/.f.mp4",
        "readme.md",
    )
    listing = list_corpus(tmp_path)
    found = {
        source.name: (
            source.key,
            source.segments[0].label,
            source.segments[0].split,
            source.segments[0].subtitles and source.segments[0].subtitles.name,
        )
        for source in listing.sources
    }
    assert found == {
        "top.mp4": ("top", None, None, None),
        "dog/a.MKV": ("dog_a", "dog", None, "a.en.vtt"),
        "dog/b.one.mp4": ("dog_b_one", "dog", None, "b.one.srt"),
        "train/cat/c.webm": ("train_cat_c", "cat", "train", None),
        "train/d.avi": ("train_d", None, "train", None),
    }
    assert listing.ignored == {".md": 1}
    assert {s.segments[0].label for s in list_corpus(tmp_path, labels="none").sources} == {None}


@pytest.mark.parametrize(
    ("files", "language", "chosen"),
    [
        (["a.en.vtt", "a.de.vtt"], "de", "a.de.vtt"),
        (["a.en-US.vtt", "a.de.vtt"], "en", "a.en-US.vtt"),
        (["a.srt", "a.de.vtt"], "en", "a.srt"),
        (["a.de.vtt"], "en", None),
        (["a.fr.vtt", "a.de.vtt"], None, "a.de.vtt"),
        (["a.vtt", "a.srt", "a.ass"], None, "a.srt"),
    ],
)
def test_choice_among_subtitles(tmp_path, files, language, chosen):
    touch(tmp_path, "a.mp4", *files)
    (source,) = list_corpus(tmp_path, language=language).sources
    assert (source.segments[0].subtitles and source.segments[0].subtitles.name) == chosen


def test_folders_of_frames_are_listed_as_unusable(tmp_path):
    touch(tmp_path, "v.mp4", "cover.jpg", *(f"run/{i:03d}.jpg" for i in range(5)))
    listing = list_corpus(tmp_path)
    assert [(item.name, item.cause) for item in listing.unusable] == [("run", "folder of frames")]
    assert listing.ignored == {"pictures": 1}


def test_csv_manifest(tmp_path):
    (tmp_path / "m.csv").write_text(
        "\ufeffpath;start;end;label;split;subtitles;key;truth;note\n"
        'a.mp4;1.5;0:01:03;dog;train;a.srt;k1;"{""box"": [1, 2]}";hm\n'
        "a.mp4;70;;cat;;;;;\n"
        "sub/b.mp4;;;;;;;;\n",
        encoding="utf-8",
    )
    a, b = list_corpus(tmp_path / "m.csv").sources
    assert (a.name, a.path, b.name, b.key) == ("a.mp4", tmp_path / "a.mp4", "sub/b.mp4", "sub_b")
    first, second = a.segments
    assert (first.start, first.end, first.label, first.split, first.key) == (1.5, 63.0, "dog", "train", "k1")
    assert (first.subtitles, first.truth, first.extra) == (tmp_path / "a.srt", {"box": [1, 2]}, {"note": "hm"})
    assert (second.start, second.end, second.label, second.extra) == (70.0, None, "cat", {})


def test_json_lines_and_soundstage_folder(tmp_path):
    rows = [
        {"path": "c/1.mp4", "key": "s-1", "label": "roll", "truth": "t/1.json", "extra_number": 3},
        {"path": "c/2.mp4", "key": "s-2", "truth": {"x": 1}, "start": 1, "end": 2.5},
    ]
    touch(tmp_path, "c/1.mp4", "c/2.mp4", "t/1.json")
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    for source in (tmp_path, tmp_path / "manifest.jsonl"):
        one, two = list_corpus(source).sources
        assert one.segments[0].truth == tmp_path / "t" / "1.json"
        assert one.segments[0].extra == {"extra_number": 3}
        assert (two.segments[0].truth, two.segments[0].end) == ({"x": 1}, 2.5)


def test_parquet_manifest(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    table = pyarrow.table({"path": ["a.mp4"], "start": [1.0], "label": [None]})
    parquet.write_table(table, tmp_path / "m.parquet")
    (source,) = list_corpus(tmp_path / "m.parquet").sources
    assert (source.segments[0].start, source.segments[0].label) == (1.0, None)


def test_parquet_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    touch(tmp_path, "m.parquet")
    with pytest.raises(UserError, match="needs the package pyarrow; install it, or write the manifest as CSV"):
        list_corpus(tmp_path / "m.parquet")


def test_all_faults_of_a_manifest_at_once(tmp_path):
    (tmp_path / "m.csv").write_text(
        "path,start,end,key\na.mp4,soon,,\nb.mp4,5,4,\n,1,2,\nc.mp4,,,a b\nd.mp4,,,k\ne.mp4,,,K\n"
    )
    with pytest.raises(UserError) as error:
        list_corpus(tmp_path / "m.csv")
    for part in (
        "row 2: start='soon' is neither seconds nor h:mm:ss",
        "row 3: end=4.0 must be after start=5.0",
        "row 4: the path is empty",
        "row 5: the key 'a b' may hold",
        "row 7: the key 'K' is used twice",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", "pth,label\na.mp4,dog\n", "no column 'path' .columns: pth, label.; did you mean 'pth'"),
        ("m.csv", "", "no column 'path' .columns: none."),
        ("m.csv", "path,label\na.mp4,dog,more\n", "line 2 has more fields than the header"),
        ("m.jsonl", '{"path": "a.mp4"}\nnot json\n', "line 2 is no JSON"),
        ("m.jsonl", "[1]\n", "line 1 is no JSON object"),
        ("m.xyz", "", "is neither a folder, a manifest"),
        ("m.csv", "path,label\n", "empty corpus: .* lists no video"),
    ],
)
def test_manifests_that_cannot_be_used(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        list_corpus(tmp_path / name)


def test_one_video_and_its_subtitles(tmp_path):
    touch(tmp_path, "a.mp4", "a.vtt", "b.mp4")
    (source,) = list_corpus(tmp_path / "a.mp4").sources
    assert (source.key, source.segments[0].subtitles) == ("a", tmp_path / "a.vtt")


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        list_corpus(tmp_path / "nothing")
    touch(tmp_path, "a.txt", "f/1.png", "f/2.png", "f/3.png")
    with pytest.raises(UserError, match=r"empty corpus: .* lists no video \(seen: 1 \.txt\); 3 pictures"):
        list_corpus(tmp_path)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("dog/a b.mp4", "dog_a_b"),
        ("Café été.mkv", "Cafe_ete"),
        ("a.b.c.mp4", "a_b_c"),
        ("no-suffix", "no-suffix"),
        ("v1.2/film", "v1_2_film"),
    ],
)
def test_plain_keys(name, key):
    assert key_of(name) == key


def test_keys_without_plain_letters_or_too_long():
    assert key_of("日本.mp4").startswith("clip-")
    assert key_of("日本.mp4") != key_of("中国.mp4")
    assert len(key_of("x" * 300 + ".mp4")) == 60
    assert key_of("x" * 300 + "1.mp4") != key_of("x" * 300 + "2.mp4")
