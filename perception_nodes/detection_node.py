# SPDX-License-Identifier: Apache-2.0
"""3D detection: `~/points` in, `~/detections` and `~/markers` out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from perception_models.detection import Detections, Detector
from perception_models.detection.postprocess import Thresholds
from perception_models.detection.settings import DetectionSettings
from perception_models.geometry.boxes import transform_boxes
from perception_nodes.interfaces import Input, Model, Output
from perception_nodes.messages import Points, decode_points, encode_detections, encode_markers, require_finite
from perception_nodes.node import PerceptionNode
from perception_nodes.parameters import Parameters, parameter
from perception_nodes.run import run_node
from perception_nodes.transforms import Transforms


@dataclass(frozen=True)
class DetectionParameters(Parameters):
    """Run-time tuning of the detection node; facts of the model travel with its weights."""

    variant: str = parameter("compact", "weights: a folder of models/detection/weights", fixed=True)
    backend: str = parameter(
        "auto", "engine; auto is TensorRT where it runs", choices=("auto", "onnxruntime", "tensorrt"), fixed=True
    )
    precision: str = parameter(
        "fp32", "asked of the engine; diagnostics say what it got", choices=("fp32", "fp16"), fixed=True
    )
    threads: int = parameter(0, "threads of the engine on the CPU; 0 lets it choose", low=0, high=256, fixed=True)
    score_vehicle: float = parameter(
        0.5, "vehicles below are not published", low=0.0, high=1.0, name="score_threshold.vehicle"
    )
    score_pedestrian: float = parameter(
        0.5, "pedestrians below are not published", low=0.0, high=1.0, name="score_threshold.pedestrian"
    )
    score_cyclist: float = parameter(
        0.5, "cyclists below are not published", low=0.0, high=1.0, name="score_threshold.cyclist"
    )
    intensity_scale: float = parameter(
        0.0, "intensity that means full reflection; 0 chooses by datatype and values", low=0.0, high=65535.0
    )
    nms_iou: float = parameter(
        0.2, "bird's-eye overlap of two boxes of a class above which the lower score goes", low=0.0, high=1.0
    )
    target_frame: str = parameter("", "frame of the results; empty keeps the cloud's", fixed=True)
    tf_timeout: float = parameter(0.1, "longest wait for a transform at the scan's stamp", unit="s", low=0.0, high=5.0)
    publish_markers: bool = parameter(True, "publish ~/markers where someone listens")
    marker_text: bool = parameter(False, "class and score above each box of ~/markers; costs a message a box")

    def thresholds(self, classes: tuple[str, ...]) -> Thresholds:
        """Thresholds in the order of the model's classes; 0 for a class that has no parameter."""
        return Thresholds(tuple(float(getattr(self, f"score_{name}", 0.0)) for name in classes), self.nms_iou)


class AnyDetector(Model, Protocol):
    """What the node needs of a detector; tests give one of their own."""

    thresholds: Thresholds

    @property
    def settings(self) -> DetectionSettings:
        """Facts of the model, its classes in the order of the labels among them."""
        ...

    @property
    def overflow(self) -> int:
        """Pillars of the last scan beyond the model's capacity, which it left out."""
        ...

    def detect(self, points: Points) -> Detections:
        """Boxes in the frame of the points (N, 4)."""
        ...


def load_detector(parameters: DetectionParameters) -> Detector:
    """The detector that the parameters ask for."""
    return Detector.load(
        variant=parameters.variant,
        backend=parameters.backend,
        precision=parameters.precision,
        threads=parameters.threads or None,
    )


class DetectionNode(PerceptionNode[DetectionParameters, AnyDetector]):
    """Publishes the boxes of every scan, in the scan's frame or in `target_frame` at the scan's stamp."""

    parameters_type = DetectionParameters
    inputs = (Input("~/points", PointCloud2),)
    outputs = (Output("~/detections", Detection3DArray), Output("~/markers", MarkerArray))

    def __init__(
        self, load_detector: Callable[[DetectionParameters], AnyDetector] = load_detector, **arguments: Any
    ) -> None:
        self._load_detector = load_detector
        super().__init__("detection_node", **arguments)

    def load(self) -> AnyDetector:
        """Loads the detector, and listens to TF where a target frame is set."""
        self._transforms = self.keep(Transforms(self)) if self.parameters.target_frame else None
        return self._load_detector(self.parameters)

    def process(self, message: PointCloud2) -> None:
        """One scan: convert, detect, move to the target frame, publish."""
        parameters = self.parameters
        with self.timing.stage("convert"):
            points = decode_points(message, parameters.intensity_scale)
            require_finite(points)
        self.model.thresholds = parameters.thresholds(self.model.settings.classes)
        detections = self.model.detect(points)
        if self.model.overflow:
            self.warn(f"{self.model.overflow} pillars exceed the model's capacity and were left out; crop the cloud")
        detections, header = self._in_target_frame(detections, message.header, parameters)
        with self.timing.stage("publish"):
            self.publish("~/detections", encode_detections(detections, header))
        if parameters.publish_markers and self.is_wanted("~/markers"):
            with self.timing.stage("markers"):
                self.publish("~/markers", encode_markers(detections, header, parameters.marker_text))

    def _in_target_frame(
        self, detections: Detections, header: Header, parameters: DetectionParameters
    ) -> tuple[Detections, Header]:
        """Raises TransformUnavailable, after the wait, where the transform at the scan's stamp is not known."""
        if self._transforms is None:
            return detections, header
        target = parameters.target_frame
        transform = self._transforms.lookup(target, header.frame_id, header.stamp, parameters.tf_timeout)
        moved = replace(detections, boxes=transform_boxes(detections.boxes, transform))
        return moved, Header(stamp=header.stamp, frame_id=target)


def main() -> int:
    """Runs the node; the entry point of the executable `detection_node`."""
    return run_node(DetectionNode)


if __name__ == "__main__":
    raise SystemExit(main())
