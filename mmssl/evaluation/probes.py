"""The probes of frozen features by name: the one visible table of them."""

from __future__ import annotations

from collections.abc import Sequence

from mmssl.errors import UserError, nearest
from mmssl.evaluation.attentive import AttentiveProbe
from mmssl.evaluation.knn import NearestNeighbours
from mmssl.evaluation.linear import Linear
from mmssl.evaluation.probing import Probe
from mmssl.evaluation.retrieval import Retrieval

#: Name on the command line -> probe.
PROBES: dict[str, Probe] = {
    "linear": Linear(),
    "knn": NearestNeighbours(),
    "retrieval": Retrieval(),
    "attentive": AttentiveProbe(),
}


def chosen_probes(names: Sequence[str]) -> dict[str, Probe]:
    """The probes of the given names, in the table's order.

    Raises:
        UserError: no name, or an unknown one.
    """
    for name in names:
        if name not in PROBES:
            raise UserError(f"no probe '{name}'{nearest(name, PROBES)}; there are {', '.join(PROBES)}")
    if not names:
        raise UserError(f"no probes are given; there are {', '.join(PROBES)}")
    return {name: probe for name, probe in PROBES.items() if name in names}
