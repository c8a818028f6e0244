"""Which samples of some shards have dense truth: said before a run that needs it begins."""

from __future__ import annotations

from mmssl.data.dense_truth import MEMBER
from mmssl.data.shards.catalog import Catalog
from mmssl.errors import UserError


def without_truth(catalog: Catalog) -> int:
    """Samples without the member of dense truth; reads the indices of all shards, no media and no truth."""
    shards = range(len(catalog.shards))
    return sum(MEMBER not in entry.members for number in shards for entry in catalog.entries(number))


def check_truth(name: str, catalog: Catalog) -> None:
    """Refuse shards of which no sample has dense truth.

    Raises:
        UserError: it says how shards get it.
    """
    samples = int(catalog.lengths.sum())
    if without_truth(catalog) == samples:
        raise UserError(
            f"a task needs dense truth, and none of the {samples} samples of '{name}' has a member '.{MEMBER}': build "
            "the shards with 'dense_truth: true' from a corpus that was rendered with dense truth, or leave out such "
            "tasks"
        )
