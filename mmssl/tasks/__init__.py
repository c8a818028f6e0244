"""Pretext tasks: one file each, under the folder of its family; TASKS is the one visible table of them."""

from __future__ import annotations

from typing import Any

from mmssl.tasks.base import PretextTask
from mmssl.tasks.context.clip_order_prediction import ClipOrderPrediction
from mmssl.tasks.context.order_prediction import OrderPrediction
from mmssl.tasks.context.order_verification import OrderVerification
from mmssl.tasks.context.pace_prediction import PacePrediction
from mmssl.tasks.context.rotation import Rotation
from mmssl.tasks.contrastive.dense_predictive_coding import DensePredictiveCoding
from mmssl.tasks.cross_modal.av_clustering import AVClustering
from mmssl.tasks.cross_modal.av_correspondence import AVCorrespondence
from mmssl.tasks.cross_modal.av_embedding import AVEmbedding
from mmssl.tasks.cross_modal.av_instance import AVInstance
from mmssl.tasks.cross_modal.av_localization import AVLocalization
from mmssl.tasks.cross_modal.av_sync import AVSync
from mmssl.tasks.cross_modal.rgb_flow import RGBFlow
from mmssl.tasks.cross_modal.subtitle_matching import SubtitleMatching
from mmssl.tasks.free_labels.ego_motion import EgoMotion
from mmssl.tasks.free_labels.flow_estimation import FlowEstimation
from mmssl.tasks.generation.video_colorization import VideoColorization
from mmssl.tasks.generation.video_prediction import VideoPrediction

#: Name on the command line and in results -> class. The contract suite runs over this table.
TASKS: dict[str, type[PretextTask[Any, Any]]] = {
    "av_clustering": AVClustering,
    "av_correspondence": AVCorrespondence,
    "av_embedding": AVEmbedding,
    "av_instance": AVInstance,
    "av_localization": AVLocalization,
    "av_sync": AVSync,
    "clip_order_prediction": ClipOrderPrediction,
    "dense_predictive_coding": DensePredictiveCoding,
    "ego_motion": EgoMotion,
    "flow_estimation": FlowEstimation,
    "order_prediction": OrderPrediction,
    "order_verification": OrderVerification,
    "pace_prediction": PacePrediction,
    "rgb_flow": RGBFlow,
    "rotation": Rotation,
    "subtitle_matching": SubtitleMatching,
    "video_colorization": VideoColorization,
    "video_prediction": VideoPrediction,
}
