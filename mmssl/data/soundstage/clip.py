"""One rendered clip: picture, sound, sentences and truth, a function of (preset, seed, split, index)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mmssl.data.soundstage.layout import Layout, boxes, draw_layout, track, visible_boxes
from mmssl.data.soundstage.motion import contacts
from mmssl.data.soundstage.preset import check_split, find_preset
from mmssl.data.soundstage.render import Dense, render
from mmssl.data.soundstage.sentences import Cue, write_sentences
from mmssl.data.soundstage.sound import synthesise


@dataclass(frozen=True)
class RenderedClip:
    """A clip before encoding.

    Args:
        key: its name in the corpus.
        frames: uint8 [T, H, W, 3].
        sound: float32 [S] in [-1, 1].
        cues: the sentences with their times in seconds.
        truth: what is known, as plain values for JSON.
        dense: truth for every pixel, where it was asked for.
    """

    key: str
    frames: np.ndarray
    sound: np.ndarray
    cues: tuple[Cue, ...]
    truth: dict[str, Any]
    dense: Dense | None


def clip_key(preset: str, seed: int, split: str, index: int) -> str:
    """Name of a clip in the corpus."""
    return f"{preset}-s{seed}-{split}-{index:06d}"


def render_clip(preset: str, seed: int, split: str, index: int, dense: bool = False) -> RenderedClip:
    """Render one clip; nothing but the arguments matters.

    Raises:
        UserError: no such preset or split.
    """
    layout = draw_layout(find_preset(preset), seed, check_split(split), index)
    frames, _, truth_dense = render(layout, dense)
    cues, _, _ = write_sentences(layout)
    key = clip_key(preset, seed, split, index)
    return RenderedClip(key, frames, synthesise(layout), cues, full_truth(layout), truth_dense)


def full_truth(layout: Layout) -> dict[str, Any]:
    """`sparse_truth`, and of the sentences which one is true (None in a silent clip) and whether it says the action."""
    _, true_cue, names_action = write_sentences(layout)
    return sparse_truth(layout) | {"true_sentence": true_cue, "names_action": names_action}


def sparse_truth(layout: Layout) -> dict[str, Any]:
    """What is known of a layout without rendering it, as plain values for JSON.

    Boxes are [x0, y0, x1, y1] as fractions of the frame, one for each frame, None where the body is not seen.
    """
    preset, camera = layout.preset, layout.camera
    times = preset.frame_times()

    def seen(index: int) -> list[list[float] | None]:
        body = layout.bodies[index]
        found = visible_boxes(boxes(body, track(body, preset.frame_times(extra=1)), camera), preset.size)
        return [None if np.isnan(box[0]) else [round(float(v), 4) for v in box] for box in found[: preset.frames]]

    sounding = layout.sounding
    heard = None if sounding is None else layout.bodies[sounding]
    return {
        "action": layout.action,
        "sounding": sounding is not None,
        "onscreen": sounding is not None and not layout.off_screen,
        "source": sounding,
        "material": None if heard is None else heard.material,
        "shape": None if heard is None else heard.shape,
        "materials": [body.material for body in layout.bodies],
        "shapes": [body.shape for body in layout.bodies],
        "moving": [body.motion.action != "rest" for body in layout.bodies],
        "contacts": [] if heard is None else [round(float(at), 4) for at in contacts(heard.motion, preset.duration)[0]],
        "box_times": [round(float(t), 4) for t in times],
        "boxes": None if sounding is None or layout.off_screen else seen(sounding),
        "silent_boxes": [seen(i) for i in range(len(layout.bodies)) if i != sounding],
        "camera_position": np.round(camera.position[: preset.frames], 4).tolist(),
        "camera_rotation": np.round(camera.rotation[: preset.frames].reshape(-1, 9), 5).tolist(),
    }
