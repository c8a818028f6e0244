"""What was learned, measured: features once, many probes. EVALUATIONS is the one visible table of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mmssl.evaluation.action import evaluate_action
from mmssl.evaluation.audio import evaluate_audio
from mmssl.evaluation.crossmodal import evaluate_retrieval
from mmssl.evaluation.detection import evaluate_detection
from mmssl.evaluation.few_labels import evaluate_few_labels
from mmssl.evaluation.finetune import evaluate_finetune
from mmssl.evaluation.image import evaluate_image
from mmssl.evaluation.segmentation import evaluate_segmentation
from mmssl.evaluation.tracking import evaluate_propagation

#: Name on the command line -> function; what it gives has `as_dict()`, plain values for results.json.
EVALUATIONS: dict[str, Callable[..., Any]] = {
    "action": evaluate_action,
    "audio": evaluate_audio,
    "detection": evaluate_detection,
    "few_labels": evaluate_few_labels,
    "finetune": evaluate_finetune,
    "image": evaluate_image,
    "propagation": evaluate_propagation,
    "retrieval": evaluate_retrieval,
    "segmentation": evaluate_segmentation,
}
