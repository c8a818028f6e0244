"""`shards info` and `shards check` say what is there and what is wrong, through the library and the program."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from dataclasses import replace

import pytest

from mmssl.data.shards import BuildSettings, build
from mmssl.data.shards.check import check_shards
from mmssl.data.shards.check_clip import check_members
from mmssl.data.shards.index import index_path, read_index, read_members, write_index
from mmssl.data.shards.info import describe_shards
from mmssl.errors import UserError
from pipelines import build_shards
from tests import media

SETTINGS = BuildSettings(short_side=32, clip_seconds=1.0, min_seconds=0.5, samples_per_shard=3, processes=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("films")
    for i, label in enumerate(("dog", "dog", "rain")):
        path = root / label / f"{i}.mp4"
        media.flash_and_click(path, seconds=2.0, at=(0.4,), size=(32, 48), audio_codec="aac" if i else None)
        if i == 1:
            path.with_suffix(".srt").write_text("1\n00:00:00,200 --> 00:00:00,800\na dog\n")
    return build(root, root.parent / "shards", SETTINGS).folder


@pytest.fixture
def copy(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def rewrite(path, change):
    """Write a tar anew, with `change` applied to the list of (name, data)."""
    with tarfile.open(path) as tar:
        members = [(m.name, tar.extractfile(m).read()) for m in tar]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in change(members):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    index_path(path).unlink(missing_ok=True)
    read_index(path)


def test_info(folder):
    facts = describe_shards(str(folder))
    assert (len(facts.shards), facts.clips) == (2, 6)
    assert facts.hours == pytest.approx(6 * 1.04 / 3600, rel=0.01)
    assert facts.labels == {"dog": 4, "rain": 2}
    assert (facts.sound_share, facts.sentence_share, facts.sentences) == (4 / 6, 1 / 6, 1)
    assert (facts.unlabelled, facts.without_media) == (0, 0)


def test_whole_shards_pass(folder):
    report = check_shards(str(folder), decode=True)
    assert report.problems == report.notes == ()
    assert report.ok
    assert (report.shards, report.clips, report.decoded) == (2, 6, 6)
    assert check_shards(str(folder), processes=0).decoded == 0


def problems(folder, decode=False):
    return [problem.message for problem in check_shards(str(folder), decode, processes=0).problems]


def test_missing_index_is_said(copy):
    index_path(copy / "clips-000000.tar").unlink()
    assert any("no index beside it" in message for message in problems(copy))


def test_truncated_tar_is_said(copy):
    path = copy / "clips-000001.tar"
    path.write_bytes(path.read_bytes()[:-11000])
    assert any("cut short" in message or "not a readable" in message for message in problems(copy))


def test_tar_without_end_mark_is_said(copy):
    path = copy / "clips-000001.tar"
    last = max(at + -(-size // 512) * 512 for s in read_index(path).samples for at, size in s.members.values())
    path.write_bytes(path.read_bytes()[:last])
    assert any("no end mark" in message for message in problems(copy))


def test_index_of_wrong_places_is_said(copy):
    path = copy / "clips-000000.tar"
    samples = read_index(path).samples
    at, size = samples[0].members["mp4"]
    wrong = replace(samples[0], members={**samples[0].members, "mp4": (at + 512, size)})
    write_index(path, [wrong, *samples[1:]])
    assert any("at another place" in message for message in problems(copy))


def test_broken_members_are_said(copy):
    def change(members):
        changed = []
        for name, data in members:
            if name.endswith(".json"):
                meta = json.loads(data)
                data = b"{broken" if meta["label"] == "rain" else data
            changed.append((name, data))
        return changed

    for path in copy.glob("*.tar"):
        rewrite(path, change)
    assert sum("the json is not valid" in message for message in problems(copy)) == 2


def test_clips_that_do_not_decode_as_described(folder):
    sample = next(s for p in sorted(folder.glob("*.tar")) for s in read_index(p).samples if s.has_audio)
    path = next(p for p in folder.glob("*.tar") if sample in read_index(p).samples)
    members = read_members(path, sample)
    meta = json.loads(members["json"])
    assert check_members(members, decode=True) == []

    def messages(members, decode):
        return [fault.message for fault in check_members(members, decode)]

    def said(**changes):
        return messages({**members, "json": json.dumps({**meta, **changes}).encode()}, decode=True)

    assert said(frames=99) == [f"{meta['frames']} frames can be decoded, the json says 99"]
    assert "the json says another" in said(width=99)[0]
    assert "has_audio=False" in said(has_audio=False)[0]
    assert "fewer than 9.0 s need" in said(duration=9.0)[0]
    assert "the json says 9.0 s" in said(duration=9.0)[1]
    without_vtt = {name: data for name, data in members.items() if name != "vtt"}
    described = {**without_vtt, "json": json.dumps({**meta, "n_sentences": 3}).encode()}
    assert messages(described, decode=False) == ["the json says 3 sentences, there is no vtt"]
    with_vtt = {**described, "vtt": b"WEBVTT\n\n00:00.000 --> 00:01.000\none\n"}
    assert messages(with_vtt, decode=False) == ["the vtt has 1 cues, the json says 3"]
    assert "cannot be decoded" in messages({**members, "mp4": b"x" * 500}, decode=True)[0]
    assert messages({"json": members["json"]}, decode=True)[0] == "there is no video in it"


def test_programs(folder, copy, capsys, tmp_path):
    build_shards.info(str(folder))
    text = capsys.readouterr().out
    assert "66.7 %" in text
    assert "rain" in text
    build_shards.check(str(folder), decode=True)
    assert "2 shards, 6 clips, 6 decoded: whole" in capsys.readouterr().out
    index_path(copy / "clips-000000.tar").unlink()
    with pytest.raises(SystemExit) as stop:
        build_shards.check(str(copy))
    assert stop.value.code == 1
    assert "no index beside it" in capsys.readouterr().out
    with pytest.raises(UserError, match="does not exist"):
        build_shards.check(str(tmp_path / "nothing.tar"))


def test_build_program_prints_what_was_made(tmp_path, capsys):
    media.flash_and_click(tmp_path / "in" / "a.mp4", seconds=2.0, size=(32, 48))
    (tmp_path / "in" / "b.mp4").write_text("text" * 100)
    build_shards.build(tmp_path / "in", tmp_path / "out", clip_seconds=1.0, short_side=32, processes=1)
    text = capsys.readouterr().out
    assert "2 clips (0.00 h) in 1 shards; 2 with sound" in text
    assert "failures: 1 not a known container; listed in" in text
