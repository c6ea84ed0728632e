# SPDX-License-Identifier: Apache-2.0
"""Registration: where a sensor is from its scans, by odometry, in a map, or one cloud in another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry, Path
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header

from perception_models.geometry import se3
from perception_models.registration.map_builder import MapBuilder
from perception_models.registration.odometry import OdometryStep
from perception_nodes.errors import NoResult
from perception_nodes.interfaces import RESULT_QOS, Input, Output
from perception_nodes.messages import Points, decode_points, encode_points, encode_pose_with_covariance, require_finite
from perception_nodes.node import PerceptionNode
from perception_nodes.parameters import Parameters, parameter
from perception_nodes.path_log import PathLog
from perception_nodes.point_times import decode_sweep
from perception_nodes.registration_frames import Placed, encode_odometry, sensor_to_base
from perception_nodes.registration_model import AnyRegistrar, RegistrationModel, load_registrar, settings_of
from perception_nodes.registration_transforms import FrameLinks
from perception_nodes.relocalization_services import TriggerServices
from perception_nodes.run import run_node
from perception_nodes.stamps import nanoseconds
from perception_nodes.transforms import Broadcaster, Transforms

SCANS = (Input("~/points", PointCloud2),)
PAIRS = (Input("~/source", PointCloud2, qos=RESULT_QOS), Input("~/target", PointCloud2, "remember_target", RESULT_QOS))


@dataclass(frozen=True)
class RegistrationParameters(Parameters):
    """Run-time tuning of the registration node."""

    mode: str = parameter(
        "odometry", "odometry, pair (~/source in ~/target) or map (in map_file)", choices=("odometry", "pair", "map"),
        fixed=True,
    )  # fmt: skip
    scale: str = parameter("lidar", "spinning LiDAR, or depth sensor", choices=("lidar", "indoor"), fixed=True)
    variant: str = parameter(
        "classical", "registration from nothing: classical, or a folder of models/registration/weights", fixed=True
    )
    backend: str = parameter("auto", "engine", choices=("auto", "onnxruntime", "tensorrt"), fixed=True)
    threads: int = parameter(0, "threads of odometry and engine; 0 is one for odometry", low=0, high=256, fixed=True)
    map_file: str = parameter("", "mode map: .ply, .pcd or .npy cloud of the place", fixed=True)
    min_range: float = parameter(
        0.0, "nearer points are the robot itself; 0 is the preset of scale", unit="m", low=0.0, high=50.0, fixed=True
    )
    max_range: float = parameter(
        0.0, "farther points are not used; 0 is the preset of scale", unit="m", low=0.0, high=500.0, fixed=True
    )
    deskew: bool = parameter(True, "straighten sweeps by their times of points, where they have such")
    odom_frame: str = parameter(
        "odom", "fixed frame of odometry; in mode map empty sends map -> base itself", fixed=True
    )
    map_frame: str = parameter("map", "frame of the map", fixed=True)
    base_frame: str = parameter("base_link", "frame whose pose is given; empty gives the sensor's", fixed=True)
    publish_tf: bool = parameter(True, "send odom -> base, in mode map map -> odom")
    tf_timeout: float = parameter(0.1, "longest wait for a transform at the scan's stamp", unit="s", low=0.0, high=5.0)
    tf_ahead: float = parameter(
        0.2, "map -> odom is sent for this long after the scan's stamp", unit="s", low=0.0, high=10.0
    )
    path_step: float = parameter(0.5, "from pose to pose of ~/path", unit="m", low=0.0, high=100.0, fixed=True)
    path_poses: int = parameter(1000, "of ~/path; the oldest go", low=1, high=100000, fixed=True)
    save_file: str = parameter("", "mode odometry: .ply that ~/save_map writes; empty collects no map", fixed=True)

    def problems(self) -> list[str]:
        """Mode map needs its map."""
        is_absent = self.mode == "map" and not FilePath(self.map_file).is_file()
        return super().problems() + (
            [f"map_file '{self.map_file}' is no file; mode map needs one"] if is_absent else []
        )


class RegistrationNode(PerceptionNode[RegistrationParameters, RegistrationModel]):
    """Publishes poses that the scans confirm; says in /diagnostics when it is lost, and finds itself again."""

    parameters_type = RegistrationParameters
    inputs: tuple[Input, ...] = SCANS
    outputs = (
        Output("~/odometry", Odometry),
        Output("~/path", Path),
        Output("~/aligned", PointCloud2),
        Output("~/pose", PoseWithCovarianceStamped),
    )

    def __init__(
        self, load_registrar: Callable[[str, str, int, str], AnyRegistrar] = load_registrar, **arguments: Any
    ) -> None:
        self._load_registrar = load_registrar
        self._busy = threading.Lock()  # services come on a thread of their own
        self._last: OdometryStep | None = None
        super().__init__("registration_node", **arguments)

    def load(self) -> RegistrationModel:
        """Loads the registrar and the map, and listens to TF."""
        p = self.parameters
        self.inputs = PAIRS if p.mode == "pair" else SCANS
        self._settings = settings_of(p.scale, p.min_range, p.max_range, p.threads)
        fixed = p.map_frame if p.mode == "map" else p.odom_frame
        transforms, broadcaster = self.keep(Transforms(self)), self.keep(Broadcaster(self))
        self._frames = FrameLinks(transforms, broadcaster, fixed, p.odom_frame, p.base_frame)
        registrar = self._load_registrar(p.variant, p.backend, p.threads, p.scale)
        return RegistrationModel.load(registrar, p.mode, self._settings, p.map_file)

    def activate(self) -> None:
        """Subscribes, and offers the services."""
        super().activate()
        services = TriggerServices(self, {"~/reset": self._restart, "~/save_map": self._save_map})
        self.while_active.callback(services.close)

    def reset(self) -> None:
        """Forgets where the sensor was; odometry begins anew at the origin."""
        p = self.parameters
        if self.model.odometry is not None:
            self.model.odometry.reset()
        self._origin: se3.Matrix | None = np.eye(4) if p.mode == "map" else None
        self._epoch: int | None = None
        self._target: Points | None = None
        self._target_header = Header()
        self._last = None
        self._path = PathLog(p.path_step, p.path_poses)
        self._record = MapBuilder(self._settings.spacing / 2, self._settings.keyframe_step) if p.save_file else None
        self._frames.forget()

    def facts(self) -> Mapping[str, object]:
        """Whether it is lost, and why."""
        last, mode = self._last, {"mode": self.parameters.mode}
        if last is None:
            return mode
        return {**mode, "lost": not last.valid, "matched": f"{last.matched:.2f}", "reason": last.reason}

    def remember_target(self, message: PointCloud2) -> None:
        """Mode pair: keeps the newest target."""
        self._target, self._target_header = _decode(message), message.header

    def process(self, message: PointCloud2) -> None:
        """One scan, or in mode pair one source."""
        with self._busy:
            if self.parameters.mode == "pair":
                self._register(message)
            else:
                self._follow(message)

    def _follow(self, message: PointCloud2) -> None:
        """Converts, places the scan, publishes where base_link is."""
        parameters, header = self.parameters, message.header
        with self.timing.stage("convert"):
            points, times = decode_sweep(message) if parameters.deskew else (_decode(message), None)
        mount = self._frames.mount(header, parameters.tf_timeout)
        odometry = self.model.odometry
        assert odometry is not None  # in these modes
        step = self._last = odometry.update(points, times, self._seconds(header))
        if not step.valid:
            raise NoResult(f"lost: {step.reason}")
        if step.recovered:
            self.warn("the sensor was found again, from nothing")
        if self._origin is None:
            self._origin = mount  # base_link stood at the origin of odom when the first scan was taken
        with self.timing.stage("publish"):
            self._publish(sensor_to_base(step, mount, self._origin), header)
        if self._record is not None or self.is_wanted("~/aligned"):
            self._show(se3.apply(self._origin, odometry.aligned), self._origin @ step.pose, header)

    def _seconds(self, header: Header) -> float:
        """Seconds since the first scan: small enough for a float to tell nanoseconds apart."""
        if self._epoch is None:
            self._epoch = nanoseconds(header.stamp)
        return (nanoseconds(header.stamp) - self._epoch) * 1e-9

    def _publish(self, placed: Placed, header: Header) -> None:
        parameters, fixed = self.parameters, self._fixed(header)
        self.publish("~/odometry", encode_odometry(placed, fixed, self._frames.base_of(header), self._settings.period))
        if self._path.add(placed.pose, fixed) and self.is_wanted("~/path"):
            self.publish("~/path", self._path.message(fixed))
        if parameters.mode == "map":
            pose = encode_pose_with_covariance(placed.pose, placed.covariance)
            self.publish("~/pose", PoseWithCovarianceStamped(header=fixed, pose=pose))
        if parameters.publish_tf:
            complaint = self._frames.send(placed.pose, header, parameters.tf_timeout, parameters.tf_ahead)
            if complaint:
                self.warn(complaint)

    def _show(self, points: NDArray[np.floating], sensor: se3.Matrix, header: Header) -> None:
        """The scan at its place, for who looks at it and for the map that is being made."""
        moved = np.asarray(points, np.float32)
        if self._record is not None:
            self._record.add(moved, sensor)
        if self.is_wanted("~/aligned"):
            self.publish("~/aligned", encode_points(moved, self._fixed(header)))

    def _fixed(self, header: Header) -> Header:
        return Header(stamp=header.stamp, frame_id=self._frames.fixed_frame)

    def _register(self, message: PointCloud2) -> None:
        """Mode pair: the pose of the source's frame in the target's."""
        with self.timing.stage("convert"):
            source = _decode(message)
        if self._target is None:
            raise NoResult("no cloud came yet on ~/target: publish it before the source")
        found = self.model.registrar.align(source, self._target)
        if not found.valid:
            raise NoResult(f"the source was not found in the target: {found.reason}")
        header = Header(stamp=message.header.stamp, frame_id=self._target_header.frame_id)
        pose = encode_pose_with_covariance(found.transform, found.covariance)
        self.publish("~/pose", PoseWithCovarianceStamped(header=header, pose=pose))
        if self.is_wanted("~/aligned"):
            moved = np.asarray(se3.apply(found.transform, source), np.float32)
            self.publish("~/aligned", encode_points(moved, header))

    def _restart(self) -> str:
        with self._busy:
            self.reset()
        return "begun anew"

    def _save_map(self) -> str:
        path = self.parameters.save_file
        if not path or self._record is None:
            raise NoResult("no map is collected: set save_file before the node is configured, in mode odometry")
        with self._busy:
            count = self._record.save(FilePath(path))
        return f"{count} points are in {path}"


def _decode(message: PointCloud2) -> Points:
    """x y z (N, 3) in the message's frame."""
    points = decode_points(message)
    require_finite(points)
    return points[:, :3]


def main() -> int:
    """Runs the node; the entry point of the executable `registration_node`."""
    return run_node(RegistrationNode)


if __name__ == "__main__":
    raise SystemExit(main())
