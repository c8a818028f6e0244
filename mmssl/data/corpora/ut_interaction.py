"""UT-Interaction (Ryoo and Aggarwal, SDHA 2010): 6 interactions of two people, 2 sets of 10 sequences.

Read are the segmented sets: the original names ``{number}_{sequence}_{action}.avi`` (sequences 1 to 10 are set 1, 11
to 20 set 2), or class folders with ``set1_clip10_seq2.avi``. The protocol leaves one sequence out at a time within a
set; a sequence is a group. **Shortcut**: the segments were cropped action by action, so width, height and length alone
tell much of the action. Build with a fixed size and look at the row `file_facts`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from mmssl.data.corpora.files import Annotations, Found, Tree
from mmssl.data.corpora.source import Listing, Segment
from mmssl.errors import UserError

NAME = "ut-interaction"
ACTIONS = ("shake_hands", "hug", "kick", "point", "punch", "push")
SEQUENCES_OF_A_SET = 10
_ORIGINAL = re.compile(r"\d+_(\d+)_(\d+)")
_NAMED = re.compile(r"set(\d)_clip\d+_seq(\d+)")


def list_ut_interaction(root: Path, allow_missing: bool = False) -> Listing:
    """List the segments, with labels, the folds of leave-one-sequence-out, and the sequence as group.

    Args:
        root: folder of one set or of both.
        allow_missing: of no use here, there are no lists.

    Raises:
        UserError: no file is named in one of both ways, an action is unknown, or a set has a single sequence.
    """
    tree = Tree.of(root)
    clips: dict[tuple[int, int], list[tuple[str, str]]] = defaultdict(list)  # (set, sequence) -> [(path, label)]
    for stem in sorted(tree.videos):
        for path in tree.videos[stem]:
            if match := _ORIGINAL.fullmatch(stem):
                sequence, action = int(match[1]), int(match[2])
                if action >= len(ACTIONS):
                    raise UserError(
                        f"UT-Interaction: '{path}' has the action number {action}; 0 to {len(ACTIONS) - 1} are "
                        f"{', '.join(ACTIONS)}"
                    )
                clips[1 + (sequence - 1) // SEQUENCES_OF_A_SET, sequence].append((path, ACTIONS[action]))
            elif match := _NAMED.fullmatch(stem):
                label = path.split("/")[-2] if "/" in path else None
                if label is None:
                    raise UserError(f"UT-Interaction: '{path}' lies in no folder that names its action")
                clips[int(match[1]), int(match[2])].append((path, label))
    if not clips:
        raise UserError(
            f"UT-Interaction: no video below '{root}' is called as 0_1_4.avi (number, sequence, action) or "
            "set1_clip10_seq2.avi is"
        )
    found = Found("UT-Interaction", root, allow_missing)
    for (of_set, sequence), files in clips.items():
        others = [other for number, other in clips if number == of_set]
        if len(others) < 2:
            raise UserError(
                f"UT-Interaction: set {of_set} has the one sequence {sequence}; none would be left to train"
            )
        folds = {fold_name(of_set, other): "test" if other == sequence else "train" for other in sorted(others)}
        for path, label in files:
            found.add(path, path, Segment(label=label, folds=folds, group=fold_name(of_set, sequence)))
    found.pass_over(tree)
    return found.listing(Annotations.of(NAME, root, []))


def fold_name(of_set: int, sequence: int) -> str:
    """The name of the fold that tests a sequence, and of the sequence as a group."""
    return f"set{of_set}-seq{sequence:02d}"
