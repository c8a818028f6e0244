"""What was learned, measured: features once, many probes. EVALUATIONS is the one visible table of them."""

from __future__ import annotations

from collections.abc import Callable

from mmssl.evaluation.action import evaluate_action
from mmssl.evaluation.scores import Scores

#: Name on the command line -> function.
EVALUATIONS: dict[str, Callable[..., Scores]] = {"action": evaluate_action}
