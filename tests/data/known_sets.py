"""Tiny corpora laid out as known data sets are: their folders, their lists' very syntax, real encoded clips."""

from __future__ import annotations

import functools
import json
import tempfile
import wave
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmssl.data.corpora.source import Listing, Segment
from mmssl.data.shards.index import read_index, read_members
from tests.media import flash_and_click

UCF_CLASSES = ("ApplyEyeMakeup", "Archery", "HandstandPushups")
UCF_FOLDS = {"1": range(1, 3), "2": range(3, 5), "3": range(5, 7)}  # groups that test
HMDB_CLASSES = ("brush_hair", "cartwheel")
HMDB_NAMES = {
    "brush_hair": (
        "April_09_brush_hair_u_nm_np1_ba_goo_0.avi",
        "April_09_brush_hair_u_nm_np1_ba_goo_1.avi",
        "#20_Rhythm_clap_u_nm_np1_fr_goo_3_brush_hair_h_cm_np2_le_med_0.avi",
        "Brunette_Foxyanya_ultra_silky_long_hair_brushing_hairjob_brush_hair_u_nm_np1_ba_med_3.avi",
        "Bürste & Kamm; Teil 2!_brush_hair_f_nm_np1_fr_bad_12.avi",
    ),
    "cartwheel": (
        "(Rad)Schlag_die_Bank!_cartwheel_f_cm_np1_le_med_0.avi",
        "(Rad)Schlag_die_Bank!_cartwheel_f_cm_np1_le_med_1.avi",
        "Turnk_r_-Pippi_Michel_cartwheel_f_cm_np2_le_med_5.avi",
        "[Gym] Acrobacias_de_un_fenomeno_cartwheel_f_cm_np1_ba_bad_8.avi",
        "20060723sfjffbartsinger_wave_f_cm_np1_ba_med_0.avi",  # not named as its class would have it
    ),
}
HMDB_FLAGS = {"1": (1, 1, 2, 0, 2), "2": (1, 1, 2, 2, 0), "3": (2, 2, 1, 1, 1)}


@functools.cache
def clip(suffix: str, sound: bool = False, seconds: float = 1.0) -> bytes:
    """The bytes of one small clip."""
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"clip{suffix}"
        heard = ("pcm_s16le" if suffix == ".avi" else "aac") if sound else None
        flash_and_click(path, seconds=seconds, at=(0.4,), size=(32, 48), video_codec=codec, audio_codec=heard)
        return path.read_bytes()


def put(root: Path, names: Iterable[str], sound: bool = False, seconds: float = 1.0) -> None:
    """Write the clip under each name."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clip(path.suffix.lower(), sound, seconds))


def text(path: Path, *lines: str, end: str = "\n", last: bool = True) -> Path:
    """Write a list with the given line ends; `last` says whether the last line has one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((end.join(lines) + (end if last else "")).encode())
    return path


def ucf101(root: Path) -> Path:
    """Three classes of six groups of two clips; videos and lists in folders side by side, as the archives unpack."""
    clips = []
    for label in UCF_CLASSES:
        shown = "HandStandPushups" if label == "HandstandPushups" else label
        clips += [f"{label}/v_{shown}_g{g:02d}_c{c:02d}.avi" for g in range(1, 7) for c in (1, 2)]
    put(root / "UCF-101", clips)
    lists = root / "ucfTrainTestlist"
    text(lists / "classInd.txt", *(f"{n} {label}" for n, label in enumerate(UCF_CLASSES, start=1)), end="\r\n")
    for fold, tested in UCF_FOLDS.items():
        test = [name for name in clips if int(name.split("_g")[1][:2]) in tested]
        train = [f"{name} {UCF_CLASSES.index(name.split('/')[0]) + 1}" for name in clips if name not in test]
        text(lists / f"testlist0{fold}.txt", *test, end="\r\n", last=fold != "2")
        text(lists / f"trainlist0{fold}.txt", *train, end="\r\n" if fold == "1" else "\n", last=fold != "1")
    return root


def hmdb51(root: Path) -> Path:
    """Two classes; the lists' rows end in a space and have CRLF, names hold signs of all kinds."""
    for label in HMDB_CLASSES:
        put(root / "videos" / label, HMDB_NAMES[label])
        for fold, flags in HMDB_FLAGS.items():
            rows = [f"{name} {flag} " for name, flag in zip(HMDB_NAMES[label], flags, strict=True)]
            text(root / "testTrainMulti_7030_splits" / f"{label}_test_split{fold}.txt", *rows, end="\r\n")
    return root


def write_json(path: Path, value: Any) -> Path:
    """Write JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def still(root: Path, name: str, seconds: float = 1.5) -> None:
    """A picture and a wav of the same name."""
    root.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / f"{name}.jpg")
    tone = np.sin(np.arange(int(22050 * seconds)) * 0.1) * 9000
    with wave.open(str(root / f"{name}.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(22050)
        file.writeframes(tone.astype("<i2").tobytes())


def segments(listing: Listing) -> dict[str, Segment]:
    """The first segment of each source by the name of its file."""
    return {source.name.rsplit("/", 1)[-1]: source.segments[0] for source in listing.sources}


def metas(folder: Path) -> dict[str, Mapping[str, Any]]:
    """The descriptions of all clips in a folder of shards, by key."""
    found = {}
    for path in sorted(folder.glob("*.tar")):
        for sample in read_index(path).samples:
            found[sample.key] = json.loads(read_members(path, sample, ["json"])["json"])
    return found
