"""`shards check --decode`: each way in which a shard can be bad is found, named by its cause, and is not the end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmssl.clip import Clip, EncodedClip, Window
from mmssl.data.decode.pyav import PyAVDecoder
from mmssl.data.shards import BuildSettings, build
from mmssl.data.shards.check import CheckProgress, check_shards
from mmssl.data.shards.check_clip import check_decoder
from mmssl.data.shards.check_plain import read_plainly
from mmssl.data.shards.index import index_path, read_index
from mmssl.errors import UserError
from tests import media
from tests.corpora import write_tar

SCRIPT = Path(sys.executable).with_name("mmssl")
Members = dict[str, dict[str, bytes]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Two shards of our own with three clips each; all but one have sound, two have a sentence."""
    root = tmp_path_factory.mktemp("films")
    for number in range(3):
        path = root / f"film{number}.mp4"
        media.flash_and_click(path, seconds=4.0, at=(0.5, 3.1), size=(32, 48), audio_codec="aac" if number else None)
        if number == 1:
            path.with_suffix(".srt").write_text("1\n00:00:00,200 --> 00:00:03,800\na dog barks twice\n")
    settings = BuildSettings(short_side=32, clip_seconds=2.0, samples_per_shard=3, processes=1, shuffle=False)
    return build(root, root.parent / f"{root.name}-checked", settings).folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "shards")
    return tmp_path / "shards"


def change(folder: Path, edit: Callable[[Members], None]) -> None:
    """Rewrite all shards of a folder with the members of their samples edited, and their indices anew."""
    for path in sorted(folder.glob("*.tar")):
        samples: Members = {}
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                samples.setdefault(key, {})[extension] = tar.extractfile(member).read()
        edit(samples)
        write_tar(path, list(samples.items()))
        index_path(path).unlink()
        read_index(path)


def found(folder: Path | str, **settings) -> list[tuple[str | None, str, str]]:
    report = check_shards(str(folder), decode=True, processes=0, **settings)
    return [(problem.key, problem.cause, problem.message) for problem in report.problems]


def test_whole_shards_have_nothing_wrong_and_several_processes_say_the_same(whole: Path) -> None:
    seen: list[CheckProgress] = []
    report = check_shards(str(whole), decode=True, on_progress=seen.append, processes=2)
    assert report.problems == report.notes == ()
    assert (report.shards, report.clips, report.decoded) == (2, 6, 6)
    assert [progress.clips for progress in seen] == [1, 2, 3, 4, 5, 6]
    assert seen[-1].shards_done == seen[-1].shards == 2
    assert report.as_dict()["clips_per_second"] == pytest.approx(6 / report.seconds, rel=0.01)


def test_a_truncated_tar(folder: Path) -> None:
    path = folder / "clips-000001.tar"
    path.write_bytes(path.read_bytes()[:-11000])
    (key, cause, message), *others = found(folder)
    assert (key, cause, others) == (None, "tar", [])
    assert "cut short within 'film2-0001." in message


def test_a_shard_that_was_cut_without_its_index_knowing(folder: Path) -> None:
    """A tar on a network disk that loses its end keeps its index; here the size in the index is made to agree."""
    path = folder / "clips-000001.tar"
    path.write_bytes(path.read_bytes()[:-12000])
    lines = index_path(path).read_text().splitlines()
    status = path.stat()
    header = json.loads(lines[0]) | {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
    index_path(path).write_text("\n".join([json.dumps(header), *lines[1:]]) + "\n")
    causes = {cause for _, cause, _ in found(folder)}
    assert "cut short" in causes
    assert causes & {"tar", "missing member"}


def test_a_missing_vtt_and_a_missing_json(folder: Path) -> None:
    def edit(samples: Members) -> None:
        for key, members in samples.items():
            if "vtt" in members:
                del members["vtt"]
            elif key.startswith("film2"):
                del members["json"]

    change(folder, edit)
    rows = found(folder)
    assert [cause for _, cause, _ in rows] == ["missing member"] * 4
    assert sum("there is no vtt" in message for _, _, message in rows) == 2
    assert sum("there is no json" in message for _, _, message in rows) == 2


def test_a_sample_without_its_video(folder: Path) -> None:
    def edit(samples: Members) -> None:
        for key, members in samples.items():
            if key == "film1-0000":
                del members["mp4"]

    change(folder, edit)
    ((key, cause, message),) = found(folder)
    assert (key, cause) == (None, "missing member")
    assert "1 samples hold no video" in message


def test_a_corrupt_mp4(folder: Path, tmp_path: Path) -> None:
    def edit(samples: Members) -> None:
        for key, members in samples.items():
            if key == "film1-0000":
                members["mp4"] = members["mp4"][:1500]
            if key == "film2-0000":
                (tmp_path / "in.mp4").write_bytes(members["mp4"])
                members["mp4"] = media.damaged(tmp_path / "out.mp4", tmp_path / "in.mp4", 0.3, 0.9).read_bytes()

    change(folder, edit)
    rows = found(folder)
    assert {key for key, _, _ in rows} == {"film1-0000", "film2-0000"}
    assert any("cannot be decoded" in message for key, _, message in rows if key == "film1-0000")


def test_no_sound_though_the_json_says_so(folder: Path, tmp_path: Path) -> None:
    def edit(samples: Members) -> None:
        members = samples.get("film1-0000")
        if members:
            meta = json.loads(members["json"])
            silent = media.flash_and_click(
                tmp_path / "silent.mp4", seconds=2.0, size=(meta["height"], meta["width"]), fps=12.5, audio_codec=None
            )
            members["mp4"] = silent.read_bytes()

    change(folder, edit)
    ((key, cause, message),) = found(folder)
    assert (key, cause) == ("film1-0000", "sound")
    assert "0 samples of sound can be decoded, the json says has_audio=True" in message


def test_sound_that_ends_early(folder: Path, tmp_path: Path) -> None:
    def edit(samples: Members) -> None:
        members = samples.get("film1-0000")
        if members:
            meta = json.loads(members["json"])
            short = media.flash_and_click(
                tmp_path / "short.mp4",
                seconds=2.0,
                size=(meta["height"], meta["width"]),
                fps=12.5,
                audio_rate=16000,
                audio_seconds=1.2,
            )
            members["mp4"] = short.read_bytes()

    change(folder, edit)
    rows = found(folder)
    assert {key for key, _, _ in rows} == {"film1-0000"}
    assert {cause for _, cause, _ in rows} == {"sound coverage", "length mismatch"}


def test_a_vtt_that_does_not_fit(folder: Path) -> None:
    def edit(samples: Members) -> None:
        if "vtt" in samples.get("film1-0000", {}):
            samples["film1-0000"]["vtt"] += b"\n00:00:00.500 --> 00:00:01.000\nanother one\n"
        if "vtt" in samples.get("film1-0001", {}):
            samples["film1-0001"]["vtt"] = b"\0\1\2\3" * 50

    change(folder, edit)
    rows = found(folder)
    assert [(key, cause) for key, cause, _ in rows if cause == "subtitles"] == [
        ("film1-0000", "subtitles"),
        ("film1-0001", "subtitles"),
    ]
    assert "the vtt has 2 cues, the json says 1" in rows[0][2]


def test_a_description_of_another_clip(folder: Path) -> None:
    def edit(samples: Members) -> None:
        if "film2-0000" in samples and "film2-0001" in samples:
            samples["film2-0000"]["json"] = samples["film2-0001"]["json"]

    change(folder, edit)
    ((key, cause, message),) = found(folder)
    assert (key, cause) == ("film2-0000", "description")
    assert "the json is that of 'film2-0001'" in message


def test_a_key_in_two_shards(folder: Path) -> None:
    shutil.copy(folder / "clips-000000.tar", folder / "clips-000002.tar")
    shutil.copy(index_path(folder / "clips-000000.tar"), folder / "clips-000002.idx")
    rows = found(folder)
    assert [cause for _, cause, _ in rows] == ["key"] * 3
    assert "also in 'clips-000000.tar'" in rows[0][2]


def children() -> list[int]:
    """Numbers of this process's children."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(folder.name))
    return found


def kill_after_the_first(signal_number: int) -> Callable[[CheckProgress], None]:
    def on_progress(progress: CheckProgress) -> None:
        if progress.clips == 1:
            (worker,) = children()
            os.kill(worker, signal_number)

    return on_progress


@pytest.mark.parametrize(("number", "cause"), [(signal.SIGKILL, "worker died"), (signal.SIGSTOP, "timed out")])
def test_a_worker_that_dies_or_hangs_costs_one_clip(whole: Path, number: int, cause: str) -> None:
    report = check_shards(
        str(whole), decode=True, on_progress=kill_after_the_first(number), processes=1, stall_seconds=2.0
    )
    (problem,) = report.problems
    assert problem.cause == cause
    assert problem.key == "film0-0001"
    assert report.clips == 6
    assert not children(), "a worker stayed behind"


def foreign(path: Path, **clips: tuple[Path, dict]) -> Path:
    samples = []
    for key, (file, meta) in clips.items():
        members = {file.suffix[1:]: file.read_bytes()}
        if meta:
            members["json"] = json.dumps(meta).encode()
        samples.append((key, members))
    return write_tar(path, samples)


def test_foreign_shards_are_held_to_what_can_be_known(tmp_path: Path) -> None:
    plain = media.flash_and_click(tmp_path / "plain.mkv", seconds=2.0, start=0.4)
    late = media.flash_and_click(tmp_path / "late.mp4", seconds=2.0, audio_start=0.5, audio_seconds=2.0)
    little = media.flash_and_click(tmp_path / "little.mp4", seconds=2.0, at=(0.1, 1.0), audio_start=0.002)
    gap = media.flash_and_click(tmp_path / "gap.mp4", seconds=3.0, at=(0.5,), sound_gap=(1.0, 1.6))
    turned = media.numbered(tmp_path / "turned.mp4", frames=50, variable_rate=True, rotation=90)
    tar = foreign(
        tmp_path / "foreign.tar",
        plain=(plain, {"frames": 9999, "width": "wide", "duration": 2.0}),
        late=(late, {}),
        little=(little, {}),
        gap=(gap, {"caption": "a gap"}),
        turned=(turned, {}),
        nothing=(plain, {}),
    )
    report = check_shards(str(tar), decode=True, processes=0)
    assert report.ok, report.problems
    causes = {(note.key, note.cause) for note in report.notes}
    assert ("late", "start") in causes
    assert ("gap", "sound coverage") in causes
    assert not [note for note in report.notes if note.key in ("plain", "little", "turned", "nothing")]


def test_a_foreign_clip_that_is_broken_or_lies_is_a_problem(tmp_path: Path) -> None:
    clip = media.flash_and_click(tmp_path / "clip.mp4", seconds=2.0)
    cut = media.truncated(tmp_path / "cut.mp4", clip)
    text = tmp_path / "text.mp4"
    text.write_text("no video " * 50)
    tar = foreign(
        tmp_path / "foreign.tar", good=(clip, {}), cut=(cut, {}), text=(text, {}), lies=(clip, {"duration": 9.5})
    )
    rows = found(tar)
    assert [(key, cause) for key, cause, _ in rows] == [
        ("cut", "unreadable"),
        ("text", "not a known container"),
        ("lies", "duration"),
    ]


class LateDecoder(PyAVDecoder):
    """Gives what lies 0.2 s later."""

    name = "late"

    def decode(self, clip: EncodedClip, window: Window, anchors: np.ndarray) -> Clip:
        right = super().decode(clip, window, anchors)
        return replace(right, frame_times=right.frame_times + 0.2, audio=np.roll(right.audio, 3200, axis=1))


class BrokenDecoder(PyAVDecoder):
    name = "broken"

    def decode(self, clip: EncodedClip, window: Window, anchors: np.ndarray) -> Clip:
        raise UnicodeDecodeError("utf-8", b"", 0, 1, "as decoders do")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_the_streams_decoder_is_compared_with_a_plain_reading(tmp_path: Path, suffix: str) -> None:
    codecs = {"video_codec": "mpeg4", "audio_codec": "mp2"} if suffix == ".avi" else {}
    file = media.numbered(tmp_path / f"clip{suffix}", frames=100, **({"audio_codec": "aac"} | codecs))
    clip = EncodedClip("clip", "here", file.read_bytes())
    reading = read_plainly(clip.media)
    assert len(reading.stamps) == 100
    assert check_decoder(clip, reading, PyAVDecoder()) == []
    late = check_decoder(clip, reading, LateDecoder())
    assert [fault.cause for fault in late] == ["decoder", "decoder"]
    assert "gives another picture" in late[0].message
    assert "gives other sound" in late[1].message
    (broken,) = check_decoder(clip, reading, BrokenDecoder())
    assert "UnicodeDecodeError" in broken.message


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, "shards", "check", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_the_program_lists_faults_by_cause_and_writes_a_report(folder: Path, tmp_path: Path) -> None:
    def edit(samples: Members) -> None:
        for key, members in samples.items():
            if key.startswith("film2"):
                members["mp4"] = b"nothing"

    change(folder, edit)
    report = tmp_path / "new" / "report.json"
    done = check(str(folder), "--decode", "--json", str(report))
    assert done.returncode == 1, done.stderr
    assert "by cause: 2 not a known container" in done.stdout
    assert "2 shards, 6 clips, 6 decoded: 2 problems" in done.stdout
    assert "clips/s" in done.stdout
    rows = json.loads(report.read_text())
    assert rows["causes"] == {"not a known container": 2}
    assert [row["key"] for row in rows["problems"]] == ["film2-0000", "film2-0001"]
    assert rows["problems"][0]["shard"].endswith("clips-000001.tar")
    assert not rows["ok"]


def test_the_programs_faults_are_clear(whole: Path, tmp_path: Path) -> None:
    done = check(str(whole), "--json", str(tmp_path))
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    with pytest.raises(UserError, match="did you mean 'pyav'"):
        check_shards(str(whole), decoder="pyaf")
    with pytest.raises(UserError, match="processes=-1"):
        check_shards(str(whole), processes=-1)
