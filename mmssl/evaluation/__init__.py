"""What was learned, measured: features once, many probes. EVALUATIONS is the one visible table of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmssl.evaluation.action import evaluate_action
from mmssl.evaluation.few_labels import evaluate_few_labels
from mmssl.evaluation.finetune import evaluate_finetune
from mmssl.evaluation.tracking import evaluate_propagation

#: Name on the command line -> function; what it gives has `as_dict()`, plain values for results.json.
EVALUATIONS: dict[str, Callable[..., Any]] = {
    "action": evaluate_action,
    "few_labels": evaluate_few_labels,
    "finetune": evaluate_finetune,
    "propagation": evaluate_propagation,
}
