"""Soundstage: rendered scenes in which one object sounds, as real video files with subtitles and full truth."""

from __future__ import annotations

from mmssl.data.soundstage.clip import RenderedClip, render_clip, sparse_truth
from mmssl.data.soundstage.generate import Summary, generate
from mmssl.data.soundstage.layout import Layout, draw_layout
from mmssl.data.soundstage.motion import ACTIONS
from mmssl.data.soundstage.preset import PRESETS, Preset, find_preset

__all__ = [
    "ACTIONS",
    "PRESETS",
    "Layout",
    "Preset",
    "RenderedClip",
    "Summary",
    "draw_layout",
    "find_preset",
    "generate",
    "render_clip",
    "sparse_truth",
]
