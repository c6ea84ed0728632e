# SPDX-License-Identifier: Apache-2.0
"""Reconstruction: plain images in; points, depth and the camera's way in one world out, and a map of what it saw."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import numpy as np
from nav_msgs.msg import Odometry, Path
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from perception_models.geometry import se3
from perception_models.geometry.cameras import Matrix
from perception_models.reconstruction import View
from perception_nodes.camera_info import Camera, decode_camera
from perception_nodes.errors import InvalidMessage, NoResult, NotAsked
from perception_nodes.images import Rgb, decode_image
from perception_nodes.interfaces import RELIABLE_SENSOR_QOS, SENSOR_QOS, Input, Output
from perception_nodes.key_frames import KeyFrames
from perception_nodes.node import PerceptionNode
from perception_nodes.path_log import PathLog
from perception_nodes.reconstruction_display import depth_camera, depth_image, map_cloud, view_cloud
from perception_nodes.reconstruction_frames import Course, require_finite_view
from perception_nodes.reconstruction_model import ReconstructionModel, ReconstructionParameters, load_model
from perception_nodes.reconstruction_scale import Measured, scale_source
from perception_nodes.registration_frames import encode_odometry
from perception_nodes.registration_transforms import FrameLinks
from perception_nodes.relocalization_services import TriggerServices
from perception_nodes.run import run_node
from perception_nodes.stamps import nanoseconds
from perception_nodes.transforms import Broadcaster, Transforms

NEVER = -(10**18)


@dataclass
class Seen:
    """What became of the images since the stream began: the last view; the world of the last valid one, how often it
    changed, and why the state was last begun anew; how many are key frames; stamps (ns) of the image that was looked at
    last, and of the last ~/map."""

    last: View | None = None
    world: int | None = None
    resets: int = 0
    reset_reason: str = ""
    key_frames: int = 0
    looked: int = NEVER
    shown: int = NEVER


class ReconstructionNode(PerceptionNode[ReconstructionParameters, ReconstructionModel]):
    """Publishes what each image shows, and where it was taken; only key frames enter the state and the map. An image
    without a valid view is told in /diagnostics, with the reason, and publishes nothing."""

    parameters_type = ReconstructionParameters
    # Where both wait the camera info is taken first, so that the first image has one.
    inputs = (Input("~/camera_info", CameraInfo, "remember_camera", stamped=False), Input("~/image", Image))
    outputs = (
        Output("~/points", PointCloud2),
        Output("~/map", PointCloud2),
        Output("~/depth", Image),
        Output("~/depth/camera_info", CameraInfo),
        Output("~/odometry", Odometry),
        Output("~/path", Path),
    )

    def __init__(
        self, load_model: Callable[[ReconstructionParameters], ReconstructionModel] = load_model, **arguments: Any
    ) -> None:
        self._load_model = load_model
        self._busy = threading.Lock()  # services come on a thread of their own
        self._camera_info: CameraInfo | None = None
        self._seen = Seen()
        super().__init__("reconstruction_node", **arguments)

    def load(self) -> ReconstructionModel:
        """Loads the model, and listens to TF."""
        p = self.parameters
        transforms, broadcaster = self.keep(Transforms(self)), self.keep(Broadcaster(self))
        self._frames = FrameLinks(transforms, broadcaster, p.map_frame, p.odom_frame, p.base_frame)
        self._scale = scale_source(p.scale_source, transforms)
        return self._load_model(p)

    def activate(self) -> None:
        """Subscribes, to the scale's source on the node's own thread, as an image waits for it; offers the services."""
        super().activate()
        if self._scale is not None:
            qos = RELIABLE_SENSOR_QOS if self.parameters.reliable_input else SENSOR_QOS
            source = self.create_subscription(self._scale.kind, self._scale.topic, self._scale.messages.put, qos)
            self.while_active.callback(self.destroy_subscription, source)
        services = TriggerServices(self, {"~/reset": self._reset, "~/save_map": self._save})
        self.while_active.callback(services.close)

    def reset(self) -> None:
        """Forgets all that was seen."""
        self._start_over("the stream begins")

    def facts(self) -> Mapping[str, object]:
        """What became of the last image, the world it is in, and the size of the map."""
        last, held = self._seen.last, self._model
        seen = {"valid": last.valid, "reason": last.reason} if last else {}
        world = {"world": last.world, "scale": f"{last.scale:.4f}"} if last and last.valid else {}
        resets = {"resets": self._seen.resets, "reset_reason": self._seen.reset_reason}
        size = {"map_points": len(held.map), "map_full": held.map.full} if held else {}
        keys = {"scale_source": self.parameters.scale_source, "key_frames": self._seen.key_frames}
        return {**seen, **world, **resets, **keys, **size}

    def remember_camera(self, message: CameraInfo) -> None:
        """Keeps the newest camera info that can be used."""
        decode_camera(message, self.parameters.image_is_rectified)
        self._camera_info = message

    def process(self, message: Image) -> None:
        """One image, unless it comes too soon."""
        p, header, stamp = self.parameters, message.header, nanoseconds(message.header.stamp)
        if stamp - self._seen.looked < p.min_interval * 1e9:
            raise NotAsked
        with self.timing.stage("convert"):
            camera = self._camera(p)
            rgb = camera.rectify(decode_image(message)) if camera else decode_image(message)
        mount = self._frames.mount(header, p.tf_timeout) if p.base_frame else None
        measured = self._measured(header, camera, rgb, p)
        self._seen.looked = stamp
        with self._busy:
            view = self._look(rgb, camera.matrix if camera and p.use_camera_info else None, measured, stamp, p)
            self._publish(self._course.moved(view, mount), mount, header, p)

    def _camera(self, p: ReconstructionParameters) -> Camera | None:
        """What straightens images. Raises NoResult where it is wanted and did not come."""
        if self._camera_info is not None:
            return decode_camera(self._camera_info, p.image_is_rectified)
        if p.use_camera_info:
            raise NoResult(
                "no camera info came yet on ~/camera_info: is it published, and calibrated? "
                "Without one, set use_camera_info false"
            )
        return None

    def _measured(self, header: Header, camera: Camera | None, rgb: Rgb, p: ReconstructionParameters) -> Measured:
        """What tells the scale at an image; without it the scale stays as it is."""
        if self._scale is None:
            return Measured()
        try:
            with self.timing.stage("scale"):
                return self._scale.of(header, camera, rgb, p)
        except (InvalidMessage, NoResult) as error:
            self.warn(f"the scale is not renewed: {error}")
            return Measured()

    def _look(
        self, rgb: Rgb, matrix: Matrix | None, measured: Measured, stamp: int, p: ReconstructionParameters
    ) -> View:
        """The valid view of an image. Raises NoResult where there is none, ValueError where it holds no numbers."""

        def wants(pose: Matrix) -> bool:
            return self._keys.wants(pose, stamp, p)

        view = self._seen.last = self.model.reconstructor.update(rgb, matrix, measured.depth, measured.odometry, wants)
        self._seen.reset_reason = view.reset or self._seen.reset_reason
        if not view.valid:
            raise NoResult(f"the image gives no view: {view.reason}")
        require_finite_view(view, min(p.min_confidence, p.map_confidence))
        if self._seen.world not in (None, view.world):
            self._begin_world()
        self._seen.world = view.world
        if view.kept:
            self._keys.took(view.pose, stamp)
        return view

    def _publish(self, view: View, mount: Matrix | None, header: Header, p: ReconstructionParameters) -> None:
        """A view in the map's frame, and where base_frame is; `mount` (4, 4) is the camera's place on it."""
        fixed = Header(stamp=header.stamp, frame_id=p.map_frame)
        if view.kept:
            self._remember(view)
        with self.timing.stage("publish"):
            self._publish_pose(view.pose if mount is None else view.pose @ se3.inverse(mount), header, fixed, p)
            self.publish("~/depth/camera_info", depth_camera(view, header))
            self.publish("~/depth", depth_image(view, p.min_confidence, header))
            if self.is_wanted("~/points"):
                self.publish("~/points", view_cloud(view, p.min_confidence, fixed))
            self._publish_map(fixed, p)

    def _publish_pose(self, pose: Matrix, header: Header, fixed: Header, p: ReconstructionParameters) -> None:
        """Odometry, path and transform of base_frame at a pose (4, 4) in the map."""
        covariance = np.diag([p.sigma_position**2] * 3 + [p.sigma_rotation**2] * 3)
        placed, seconds = self._course.follow(pose, nanoseconds(header.stamp), covariance)
        self.publish("~/odometry", encode_odometry(placed, fixed, self._frames.base_of(header), seconds))
        if self._path.add(pose, fixed) and self.is_wanted("~/path"):
            self.publish("~/path", self._path.message(fixed))
        if p.publish_tf:
            complaint = self._frames.send(pose, header, p.tf_timeout, p.tf_ahead)
            if complaint:
                self.warn(complaint)

    def _remember(self, view: View) -> None:
        """A key frame enters the map."""
        self._seen.key_frames += 1
        with self.timing.stage("map"):
            self.model.map.add(view)
        if self.model.map.full:
            self.warn("the map is full, new places are not added: save and reset it, or raise capacity or voxel")

    def _publish_map(self, header: Header, p: ReconstructionParameters) -> None:
        """The whole map, now and then, where someone listens."""
        stamp = nanoseconds(header.stamp)
        if stamp - self._seen.shown >= p.map_period * 1e9 and self.is_wanted("~/map"):
            self.publish("~/map", map_cloud(self.model.map, header))
            self._seen.shown = stamp

    def _begin_world(self) -> None:
        """What was placed before no longer fits; the map begins anew by itself."""
        self._seen.resets += 1
        self._seen.shown = NEVER
        self._start_course()
        self.warn(f"reset, a new world begins, and map and path anew: {self._seen.reset_reason}")

    def _start_course(self) -> None:
        """base_link stands at the origin again."""
        p = self.parameters
        self._course, self._keys = Course(), KeyFrames()
        self._path = PathLog(p.path_step, p.path_poses)
        self._frames.forget()

    def _start_over(self, reason: str) -> None:
        with self._busy:
            self.model.reset(reason)
            self._seen = Seen()
            self._start_course()

    def _reset(self) -> str:
        held = len(self.model.map)
        self._start_over("asked for")
        return f"a map of {held} points is forgotten"

    def _save(self) -> str:
        """Writes the map. Raises NoResult where no file is named or the map is empty."""
        path = self.parameters.save_file
        if not path:
            raise NoResult("save_file is empty: set it to a name that ends in .ply or .pcd")
        with self._busy:
            count = len(self.model.map)
            if not count:
                raise NoResult("the map is empty: no key frame was taken in yet")
            self.model.map.save(FilePath(path))
        return f"{count} points are in {path}"


def main() -> int:
    """Runs the node; the entry point of the executable `reconstruction_node`."""
    return run_node(ReconstructionNode)


if __name__ == "__main__":
    raise SystemExit(main())
