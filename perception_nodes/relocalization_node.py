# SPDX-License-Identifier: Apache-2.0
"""Relocalization: `~/image` and `~/camera_info` in, `~/pose` in the map and the transform map -> odom out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from perception_models.relocalization import Fix
from perception_models.relocalization.pipeline import METHODS
from perception_nodes.camera_info import decode_camera
from perception_nodes.errors import NoResult, NotAsked
from perception_nodes.images import decode_image
from perception_nodes.interfaces import Input, Output
from perception_nodes.messages import encode_points, encode_pose_with_covariance
from perception_nodes.node import PerceptionNode
from perception_nodes.parameters import Parameters, parameter
from perception_nodes.relocalization_frames import MapToOdom, moved
from perception_nodes.relocalization_map import AnyRelocalizer, SwitchableRelocalizer, load_relocalizer
from perception_nodes.relocalization_services import Requests, TriggerServices
from perception_nodes.run import run_node
from perception_nodes.stamps import nanoseconds
from perception_nodes.transforms import Broadcaster, Transforms

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass(frozen=True)
class RelocalizationParameters(Parameters):
    """Run-time tuning of the relocalization node; what is known of the place is in the map's file."""

    map_file: str = parameter("", "file made by `perception map build`; after a change call ~/load_map")
    method: str = parameter("landmarks", "how the map is used; a network must be in it", choices=METHODS, fixed=True)
    threads: int = parameter(0, "threads of the engine on the CPU; 0 lets it choose", low=0, high=256, fixed=True)
    mode: str = parameter(
        "continuous", "every image it has time for, or only one at each call of ~/localize",
        choices=("continuous", "trigger"),
    )  # fmt: skip
    trigger_timeout: float = parameter(5.0, "longest wait of ~/localize for an image", unit="s", low=0.0, high=60.0)
    image_is_rectified: bool = parameter(False, "~/image comes without distortion, and P of its camera info counts")
    prior_age: float = parameter(
        2.0, "a pose found so recently is where the next is looked for first; 0 always looks everywhere",
        unit="s", low=0.0, high=60.0,
    )  # fmt: skip
    map_frame: str = parameter("map", "frame of the map", fixed=True)
    odom_frame: str = parameter("odom", "frame in which odometry gives base_frame", fixed=True)
    base_frame: str = parameter(
        "base_link", "frame whose pose is published; empty publishes the camera's, and no transform", fixed=True
    )
    tf_timeout: float = parameter(0.1, "longest wait for a transform at the image's stamp", unit="s", low=0.0, high=5.0)
    publish_tf: bool = parameter(True, "send map_frame -> odom_frame")
    tf_ahead: float = parameter(
        0.5, "map_frame -> odom_frame is sent for this long after the image's stamp", unit="s", low=0.0, high=10.0
    )

    def problems(self) -> list[str]:
        """A map that is named must be there."""
        is_absent = self.map_file and not Path(self.map_file).is_file()
        return super().problems() + ([f"map_file '{self.map_file}' is no file"] if is_absent else [])


class RelocalizationNode(PerceptionNode[RelocalizationParameters, SwitchableRelocalizer]):
    """Publishes where base_link is in the map, for every image in which enough of the map is seen again."""

    parameters_type = RelocalizationParameters
    # Where both wait the camera info is taken first, so that the first image has one.
    inputs = (Input("~/camera_info", CameraInfo, "remember_camera", stamped=False), Input("~/image", Image))
    outputs = (Output("~/pose", PoseWithCovarianceStamped), Output("~/landmarks", PointCloud2, LATCHED))

    def __init__(
        self, load_relocalizer: Callable[[str, str, int], AnyRelocalizer] = load_relocalizer, **arguments: Any
    ) -> None:
        self._load_relocalizer = load_relocalizer
        self._requests = Requests()
        self._busy = threading.Lock()  # an image is looked for in one map from its first step to its last
        self._camera_info: CameraInfo | None = None
        self._last: Fix | None = None
        self._found_at = 0
        self._map_file = ""
        super().__init__("relocalization_node", **arguments)

    def load(self) -> SwitchableRelocalizer:
        """Loads the map, and listens to TF."""
        parameters = self.parameters
        self._map_file = parameters.map_file
        self._transforms = self.keep(Transforms(self))
        broadcaster = self.keep(Broadcaster(self))
        self._correction = MapToOdom(self._transforms, broadcaster, parameters.map_frame, parameters.odom_frame)
        return SwitchableRelocalizer(self._load(parameters))

    def activate(self) -> None:
        """Subscribes, shows the map, and offers the services."""
        super().activate()
        self._show_landmarks()
        services = TriggerServices(self, {"~/localize": self._localize_next, "~/load_map": self._load_map})
        self.while_active.callback(services.close)
        self.while_active.callback(self._requests.cancel)

    def reset(self) -> None:
        """Forgets where the camera was and how odometry was to be corrected."""
        self._last, self._found_at = None, 0
        self._correction.forget()

    def facts(self) -> Mapping[str, object]:
        """The map in use and what became of the last image."""
        last = self._last
        fix = {"fix_valid": last.valid, "fix_inliers": last.inliers, "fix_reason": last.reason} if last else {}
        return {"mode": self.parameters.mode, "map_file": self._map_file, **fix}

    def remember_camera(self, message: CameraInfo) -> None:
        """Keeps the newest camera info that can be used."""
        decode_camera(message, self.parameters.image_is_rectified)
        self._camera_info = message

    def process(self, message: Image) -> None:
        """One image, where it is wanted; what is known of map -> odom is sent with every one."""
        parameters = self.parameters
        try:
            if parameters.mode == "trigger" and not self._requests:
                raise NotAsked
            with self._busy, self._requests.answered(self._praise):
                self._localize(message, parameters)
        finally:
            if parameters.publish_tf:
                self._correction.send(message.header.stamp, parameters.tf_ahead)

    def _localize(self, message: Image, parameters: RelocalizationParameters) -> None:
        """Converts, finds the camera, publishes."""
        if self._camera_info is None:
            raise NoResult("no camera info came yet on ~/camera_info: is it published, and calibrated?")
        with self.timing.stage("convert"):
            camera = decode_camera(self._camera_info, parameters.image_is_rectified)
            image = camera.rectify(decode_image(message))
        stamp = nanoseconds(message.header.stamp)
        is_recent = 0 < stamp - self._found_at < parameters.prior_age * 1e9
        prior = self._last.pose if is_recent and self._last and self._last.valid else None
        fix = self._last = self.model.localize(image, camera.matrix, prior)
        if not fix.valid:
            raise NoResult(f"the image was not found in the map: {fix.reason}")
        self._found_at = stamp
        self._publish(fix, message.header, parameters)

    def _publish(self, fix: Fix, header: Header, parameters: RelocalizationParameters) -> None:
        """The pose of base_link, else of the camera, and the correction of odometry that follows from it."""
        base, timeout = parameters.base_frame, parameters.tf_timeout
        if base:
            fix = moved(fix, self._transforms.lookup(header.frame_id, base, header.stamp, timeout))
        with self.timing.stage("publish"):
            pose = encode_pose_with_covariance(fix.pose, fix.covariance)
            placed = Header(stamp=header.stamp, frame_id=parameters.map_frame)
            self.publish("~/pose", PoseWithCovarianceStamped(header=placed, pose=pose))
        if base and parameters.publish_tf:
            try:
                self._correction.correct(fix.pose, base, header.stamp, timeout)
            except NoResult as error:
                self.warn(f"the transform from '{parameters.map_frame}' is not corrected: {error}")

    def _show_landmarks(self) -> None:
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self.parameters.map_frame)
        self.publish("~/landmarks", encode_points(self.model.scene_map.landmarks.positions, header))

    def _load(self, parameters: RelocalizationParameters) -> AnyRelocalizer:
        return self._load_relocalizer(parameters.map_file, parameters.method, parameters.threads)

    def _praise(self) -> str:
        return f"found by {self._last.inliers} inliers" if self._last else "found"

    def _localize_next(self) -> str:
        return self._requests.wait(self.parameters.trigger_timeout)

    def _load_map(self) -> str:
        """Takes in the map that `map_file` names now; the former stays where it cannot be loaded."""
        parameters = self.parameters
        loaded = self._load(parameters)
        with self._busy:
            self.model.switch(loaded)
            self._map_file = parameters.map_file
            self.reset()
        self._show_landmarks()
        return f"{parameters.map_file} is loaded: {len(self.model.scene_map.landmarks)} landmarks"


def main() -> int:
    """Runs the node; the entry point of the executable `relocalization_node`."""
    return run_node(RelocalizationNode)


if __name__ == "__main__":
    raise SystemExit(main())
