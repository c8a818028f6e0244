"""Presets of Soundstage: how hard the corpus is, frozen under a name and a version.

A preset never changes once published; a change is a new version, so that figures stay comparable.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from mmssl.data.soundstage.materials import MATERIALS
from mmssl.errors import UserError, nearest
from mmssl.randomness import hash_name

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The knobs of a corpus.

    Args:
        name: Name in `PRESETS`; part of every seed.
        version: Raised with every change of a knob or of the generator that changes pixels or sound.
        size: Width and height of the picture in pixels.
        frame_rate: Frames per second, as a numerator and a denominator.
        frames: Frames of a clip; the sound lasts just as long.
        sample_rate: Samples per second of the mono sound.
        objects: Fewest and most objects of a clip.
        materials: Names of the materials in use, out of `materials.MATERIALS`.
        box_area: Bounds of an object's box, as a share of the picture (mean over the frames where it is seen).
        margin: Distance from the picture's border, as a share of its width, within which no path is centred.
        moving_share: Chance that a silent object beyond the first moves.
        camera_motion: Amplitude of the camera's sway; 1 shifts the picture by about 4 % of its width.
        clutter: Contrast of the patterns on ground and backdrop, 0 to 1.
        off_screen_share: Share of clips whose sounding object is outside the picture.
        silent_share: Share of clips where nothing sounds.
        picture_noise: Standard deviation of the sensor noise in grey levels.
        sound_noise: Level of the background noise in dB relative to the sound.
        loudness_jitter: Half-width of the uniform jitter of the loudness in dB.
        sentences: Cues of a clip: one true (none in a silent clip), the others chatter.
        no_action_share: Share of the true sentences that name no action.
        time_jitter: Half-width of the uniform jitter of a true cue's time in seconds.
    """

    name: str
    version: int
    size: int = 96
    frame_rate: tuple[int, int] = (25, 2)
    frames: int = 38
    sample_rate: int = 16000
    objects: tuple[int, int] = (3, 5)
    materials: tuple[str, ...] = tuple(MATERIALS)
    box_area: tuple[float, float] = (0.02, 0.06)
    margin: float = 0.14
    moving_share: float = 0.5
    camera_motion: float = 1.0
    clutter: float = 0.35
    off_screen_share: float = 0.0
    silent_share: float = 0.0
    picture_noise: float = 0.0
    sound_noise: float = -32.0
    loudness_jitter: float = 3.0
    sentences: int = 3
    no_action_share: float = 0.4
    time_jitter: float = 1.0

    @property
    def rate(self) -> Fraction:
        """Frames per second."""
        return Fraction(*self.frame_rate)

    @property
    def duration(self) -> float:
        """Seconds that picture and sound last."""
        return float(self.frames / self.rate)

    @property
    def samples(self) -> int:
        """Sound samples of a clip."""
        return round(self.frames / self.rate * self.sample_rate)

    def frame_times(self, extra: int = 0) -> np.ndarray:
        """Float64 [frames + extra]: the time of each frame in seconds."""
        return np.arange(self.frames + extra) / float(self.rate)

    def as_dict(self) -> dict[str, object]:
        """The knobs as plain values that JSON can hold."""
        return dataclasses.asdict(self)


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(name="demo", version=1),
        # In a second the picture moves by a tenth of its width: where the camera goes can be told from the pictures.
        Preset(name="moving_camera", version=1, camera_motion=5.0),
        Preset(name="quick", version=1, size=64, frames=25, objects=(3, 3), margin=0.16),
        Preset(
            name="hard",
            version=1,
            objects=(4, 6),
            camera_motion=2.0,
            clutter=0.8,
            off_screen_share=0.15,
            silent_share=0.15,
            picture_noise=4.0,
            sound_noise=-18.0,
            loudness_jitter=6.0,
        ),
    )
}


def find_preset(name: str) -> Preset:
    """Return the preset of that name.

    Raises:
        UserError: No preset has that name.
    """
    if name not in PRESETS:
        hint = nearest(name, PRESETS)
        raise UserError(f"unknown Soundstage preset '{name}'{hint}; presets are {', '.join(PRESETS)}")
    return PRESETS[name]


def check_split(split: str) -> str:
    """Return the split if it is one.

    Raises:
        UserError: It is not one of `SPLITS`.
    """
    if split not in SPLITS:
        hint = nearest(split, SPLITS)
        raise UserError(f"unknown Soundstage split '{split}'{hint}; splits are {', '.join(SPLITS)}")
    return split


def generator(preset: Preset, seed: int, split: str, index: int, part: str) -> np.random.Generator:
    """Random generator of one part (layout, sound, ...) of one clip: a function of its arguments alone."""
    words = (preset.name, f"v{preset.version}", split, part)
    entropy = [hash_name("\x1f".join(words)) & (2**64 - 1), seed & (2**64 - 1), index]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))
