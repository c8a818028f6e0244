"""The sentences of an encoded clip: its own cues and those of its context, on its clock."""

from __future__ import annotations

import math

from mmssl.clip import EncodedClip, Sentence
from mmssl.data.subtitles import read_subtitles


def sentences_of(clip: EncodedClip) -> tuple[Sentence, ...]:
    """The clip's cues and the ``context`` of its description, sorted by time, each once.

    A context row that is not ``{"text": str, "start": seconds, "end": seconds}`` is left out: foreign descriptions
    may hold anything under that name.

    Raises:
        UserError: the subtitles are no text in a known form.
    """
    found: dict[tuple[str, float], Sentence] = {}
    if clip.subtitles:
        for cue in read_subtitles(clip.subtitles).cues:
            found[cue.text, round(cue.start, 2)] = Sentence(cue.text, cue.start, cue.end)
    context = clip.meta.get("context")
    for row in context if isinstance(context, list) else ():
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            continue
        times = [row.get("start"), row.get("end")]
        if all(isinstance(time, int | float) and math.isfinite(time) for time in times):
            sentence = Sentence(row["text"], float(row["start"]), float(row["end"]))
            found.setdefault((sentence.text, round(sentence.start, 2)), sentence)
    return tuple(sorted(found.values(), key=lambda s: (s.start, s.end, s.text)))
