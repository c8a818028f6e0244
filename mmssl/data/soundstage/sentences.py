"""The subtitles of a clip: one true sentence among chatter, at a jittered time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmssl.data.soundstage.layout import Layout
from mmssl.data.soundstage.materials import MATERIALS
from mmssl.data.soundstage.preset import generator

VERBS: dict[str, tuple[str, ...]] = {
    "bounce": ("bounces up and down", "keeps bouncing", "hops again and again"),
    "roll": ("rolls to and fro", "is rolling", "turns over and over like a wheel"),
    "swing": ("swings from side to side", "is swinging", "sways like a pendulum"),
    "slide": ("slides along", "keeps sliding", "glides and stops and glides"),
    "spin": ("spins on the spot", "is spinning", "whirls round its own axis"),
    "orbit": ("goes round in circles", "is circling", "orbits round and round"),
    "shake": ("shakes hard", "is shaking", "trembles and rattles"),
    "approach": ("comes closer and goes away", "is coming nearer", "swells up and shrinks again"),
    "collide": ("crashes from stop to stop", "keeps colliding", "knocks against its limits"),
    "topple": ("topples over", "keeps falling over", "tips, falls and stands up again"),
}
NOUNS: dict[str, tuple[str, ...]] = {
    "ball": ("ball", "globe", "sphere"),
    "cube": ("cube", "box", "block"),
    "can": ("can", "cylinder", "tin"),
}
WITHOUT_ACTION = (
    "here is the {thing} we hear",
    "that sound is the {thing}",
    "look at the {thing}",
    "this {thing} makes the noise",
    "listen to the {thing}",
)
WITH_ACTION = (
    "the {thing} {verb}",
    "now the {thing} {verb}",
    "watch how the {thing} {verb}",
    "see, the {thing} {verb}",
)
CHATTER = (
    "thanks for joining us today",
    "we will be back after the break",
    "do not forget to write to us",
    "my sister called me this morning",
    "the weather should be fine tomorrow",
    "I had soup for lunch",
    "that reminds me of an old story",
    "traffic was heavy on the bridge",
    "let us know what you think",
    "the library closes at six",
    "he never answered my letter",
    "there is a market on Saturday",
    "we painted the kitchen last week",
    "nobody told me about the meeting",
    "the train to the coast leaves at noon",
    "please send us your questions",
)
CUE_SECONDS = 1.4


@dataclass(frozen=True)
class Cue:
    """A sentence with its times in seconds."""

    text: str
    start: float
    end: float


def write_sentences(layout: Layout) -> tuple[tuple[Cue, ...], int | None, bool]:
    """The cues in order of time, the index of the true one (None in a silent clip), whether it names the action."""
    preset = layout.preset
    random = generator(preset, layout.seed, layout.split, layout.index, "sentences")
    named = bool(random.random() >= preset.no_action_share)
    cues: list[Cue] = []
    if layout.sounding is not None:
        body = layout.bodies[layout.sounding]
        noun = _pick(NOUNS[body.shape], random)
        words = MATERIALS[body.material].words
        adjective = random.random() < 0.5
        thing = f"{words[0]} {noun}" if adjective else f"{noun} {words[1]}" if " " in words[1] else f"{words[1]} {noun}"
        sentence = _pick(WITH_ACTION if named else WITHOUT_ACTION, random)
        text = sentence.format(thing=thing, verb=_pick(VERBS[layout.action], random))
        middle = preset.duration / 2 + preset.time_jitter * (2 * random.random() - 1)
        cues.append(_cue(text, middle, preset.duration))
    true = cues[0] if cues else None
    chatter = random.permutation(len(CHATTER))[: preset.sentences - len(cues)]
    cues += [_cue(CHATTER[i], preset.duration * random.random(), preset.duration) for i in chatter]
    ordered = sorted(cues, key=lambda cue: (cue.start, cue.text))
    return tuple(ordered), None if true is None else ordered.index(true), named and true is not None


def _pick(words: tuple[str, ...], random: np.random.Generator) -> str:
    return words[int(random.integers(len(words)))]


def _cue(text: str, middle: float, duration: float) -> Cue:
    start = float(np.clip(middle - CUE_SECONDS / 2, 0.0, duration - CUE_SECONDS))
    return Cue(text, round(start, 3), round(start + CUE_SECONDS, 3))
