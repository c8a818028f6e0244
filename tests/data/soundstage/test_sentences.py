"""The subtitles: one true sentence among chatter, in the shares and the jitter that the preset states."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from mmssl.data.soundstage import ACTIONS, PRESETS, Layout, draw_layout
from mmssl.data.soundstage.materials import MATERIALS
from mmssl.data.soundstage.sentences import CHATTER, NOUNS, VERBS, Cue, write_sentences

DEMO, HARD = PRESETS["demo"], PRESETS["hard"]


@pytest.fixture(scope="module")
def written() -> list[tuple[Layout, tuple[Cue, ...], int, bool]]:
    found = []
    for index in range(500):
        layout = draw_layout(DEMO, 9, "train", index)
        cues, true, named = write_sentences(layout)
        assert true is not None
        found.append((layout, cues, true, named))
    return found


def test_40_percent_of_the_true_sentences_name_no_action(written) -> None:  # type: ignore[no-untyped-def]
    phrases = [phrase for verbs in VERBS.values() for phrase in verbs]
    spoken = [any(phrase in cues[true].text for phrase in phrases) for _, cues, true, _ in written]
    assert spoken == [named for *_, named in written]
    assert abs(1 - np.mean(spoken) - DEMO.no_action_share) < 0.07


def test_true_sentence_tells_the_truth(written) -> None:  # type: ignore[no-untyped-def]
    for layout, cues, true, named in written:
        body = layout.bodies[layout.sounding]
        text = cues[true].text
        assert any(noun in text for noun in NOUNS[body.shape])
        assert any(word in text for word in MATERIALS[body.material].words)
        for action in ACTIONS:
            says = any(verb in text for verb in VERBS[action])
            assert says == (named and action == layout.action), text


def test_other_sentences_are_chatter_at_any_place(written) -> None:  # type: ignore[no-untyped-def]
    for _, cues, true, _ in written:
        assert len(cues) == DEMO.sentences
        assert all(cue.text in CHATTER for number, cue in enumerate(cues) if number != true)
        assert list(cues) == sorted(cues, key=lambda cue: (cue.start, cue.text))
    places = Counter(true for _, _, true, _ in written)
    assert min(places[number] for number in range(DEMO.sentences)) > 0.2 * len(written)


def test_times_stay_in_the_clip_and_jitter_by_a_second(written) -> None:  # type: ignore[no-untyped-def]
    middles = []
    for _, cues, true, _ in written:
        for cue in cues:
            assert 0 <= cue.start < cue.end <= DEMO.duration + 1e-3
        middles.append((cues[true].start + cues[true].end) / 2 - DEMO.duration / 2)
    assert np.abs(middles).max() <= DEMO.time_jitter
    assert np.std(middles) > 0.4


def test_every_action_has_paraphrases_that_no_other_action_has() -> None:
    assert set(VERBS) == set(ACTIONS)
    phrases = [phrase for verbs in VERBS.values() for phrase in verbs]
    assert len(set(phrases)) == len(phrases) >= 3 * len(ACTIONS)


def test_silent_clip_has_chatter_only() -> None:
    silent = next(
        layout for layout in (draw_layout(HARD, 1, "train", index) for index in range(80)) if layout.sounding is None
    )
    cues, true, named = write_sentences(silent)
    assert true is None
    assert named is False
    assert len(cues) == HARD.sentences
    assert all(cue.text in CHATTER for cue in cues)
