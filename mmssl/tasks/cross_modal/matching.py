"""What the cross-modal tasks share: which gathered rows are this rank's, and how well partners are told from others."""

from __future__ import annotations

import torch

from mmssl import distributed
from mmssl.ops.partners import ring_partner, win_rate
from mmssl.tasks.base import rate

#: With `same_time`: a row is compared with the clips that are the next so many before and after it in time.
NEAR_IN_TIME = 2


def own_rows(count: int) -> slice:
    """This rank's rows of a gathered tensor, where every rank holds `count`."""
    return slice(distributed.rank() * count, (distributed.rank() + 1) * count)


def without_the_lonely(weight: torch.Tensor, partner: torch.Tensor) -> torch.Tensor:
    """Weights [N] with 0 for rows that are their own partner: a batch with one valid row has nothing to compare."""
    alone = partner == torch.arange(len(partner), device=partner.device)
    return torch.where(alone, torch.zeros_like(weight), weight)


@torch.no_grad()
def matching_metrics(
    scores: torch.Tensor, weight: torch.Tensor, drawn: torch.Tensor, rows: slice, shifts: tuple[int, ...] = (1,)
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Metrics of this rank's rows of a matrix of scores.

    Args:
        scores: [N, N] over the gathered batch, larger where i and j belong together more.
        weight: [N], 0 for rows that take no part.
        drawn: float [N], draws (or times) that choose the other row of the two-way accuracy, see `ring_partner`.
        rows: this rank's rows.
        shifts: where on the ring it stands; the mean is taken over several.

    Returns:
        accuracy: share of rows that score higher with their own partner than with one other row's (ties count half,
            so a constant model is at 0.5); r_at_1: share whose own partner scores highest of all valid rows.
    """
    others = [ring_partner(drawn, weight > 0, shift) for shift in shifts]
    index = torch.arange(len(scores), device=scores.device)
    wins = torch.stack([win_rate(scores[index, index], scores[index, other]) for other in others]).mean(dim=0)
    own = scores.diagonal()
    # Rank 1 needs every other score below: a tie is no find, and a constant model finds nothing.
    rivals = scores.masked_fill((weight <= 0)[None], -torch.inf).masked_fill(index[:, None] == index, -torch.inf)
    first = own > rivals.amax(dim=1)
    paired = without_the_lonely(weight, others[0])[rows]
    return {"accuracy": rate(wins[rows], paired), "r_at_1": rate(first[rows], paired)}


@torch.no_grad()
def recall_metrics(
    scores: torch.Tensor, weight: torch.Tensor, drawn: torch.Tensor, rows: slice, candidates: int, prefix: str = ""
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Recall at 1 and 5 among a fixed number of candidates, so that batches of any size are judged alike.

    A row's candidates are its own partner and those of the next ``candidates - 1`` valid rows in the order of the
    draws. Ties are broken by lot: a row counts by the share of the orders of what ties in which its own is among the
    first k. Chance is ``k / candidates``, for whatever scores do not know which candidate is the own one (random ones,
    equal ones, those that like some columns best whatever the row): which of its candidates is a row's own was drawn.
    It holds only while all candidates are scored alike, so no score may be struck out because of the own one.

    Args:
        scores: [N, N], larger where row i and column j belong together more.
        weight: [N], 0 for rows that take no part.
        drawn: float [N], draws that choose the candidates.
        rows: this rank's rows.
        candidates: how many there are, the own one among them; with fewer valid rows nothing is counted.
        prefix: before the names.

    Returns:
        ``r_at_1_of_<candidates>`` and ``r_at_5_of_<candidates>``.
    """
    valid = weight > 0
    number = valid.sum()
    order = torch.where(valid, drawn, torch.full_like(drawn, torch.inf)).argsort(stable=True)
    index = torch.arange(len(scores), device=scores.device)
    place = torch.empty_like(order)
    place[order] = index
    steps = torch.arange(1, candidates, device=scores.device)
    others = order[(place[:, None] + steps) % number.clamp(min=1)]  # [N, candidates - 1]
    own, rival = scores.diagonal()[:, None], scores.gather(1, others)
    above, tied = (rival > own).sum(dim=1), (rival == own).sum(dim=1)
    counted = torch.where(valid & (number >= candidates), weight, torch.zeros_like(weight))[rows]
    # The own one is at each of the places above + 1, ..., above + tied + 1 equally often.
    hits = {k: (k - above).clamp(min=0).minimum(tied + 1) / (tied + 1) for k in (1, 5)}
    return {f"{prefix}r_at_{k}_of_{candidates}": rate(hit[rows], counted) for k, hit in hits.items()}
