"""Pretext tasks: one file each, under the folder of its family; TASKS is the one visible table of them."""

from __future__ import annotations

from typing import Any

from mmssl.tasks.base import PretextTask
from mmssl.tasks.context.order_prediction import OrderPrediction
from mmssl.tasks.context.rotation import Rotation
from mmssl.tasks.cross_modal.av_localization import AVLocalization
from mmssl.tasks.cross_modal.av_sync import AVSync
from mmssl.tasks.cross_modal.subtitle_matching import SubtitleMatching
from mmssl.tasks.free_labels.flow_estimation import FlowEstimation

#: Name on the command line and in results -> class. The contract suite runs over this table.
TASKS: dict[str, type[PretextTask[Any, Any]]] = {
    "av_localization": AVLocalization,
    "av_sync": AVSync,
    "flow_estimation": FlowEstimation,
    "order_prediction": OrderPrediction,
    "subtitle_matching": SubtitleMatching,
    "rotation": Rotation,
}
