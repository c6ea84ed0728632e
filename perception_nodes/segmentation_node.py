# SPDX-License-Identifier: Apache-2.0
"""Segmentation: `~/image` with depth and TF in, a map of objects out that keep their ids."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PointStamped
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from perception_models.geometry import se3
from perception_models.geometry.cameras import RgbdFrame
from perception_models.geometry.cloud_file import write_cloud
from perception_models.segmentation.online import InstanceMap, MapUpdate
from perception_models.segmentation.online_objects import ObjectList, point_at
from perception_nodes.camera_info import decode_camera
from perception_nodes.errors import InvalidMessage, NoResult, NotAsked
from perception_nodes.images import decode_image, encode_image
from perception_nodes.interfaces import COMMAND_QOS, RELIABLE_SENSOR_QOS, SENSOR_QOS, Input, Output
from perception_nodes.key_frames import KeyFrames
from perception_nodes.messages import encode_detections
from perception_nodes.node import PerceptionNode
from perception_nodes.relocalization_services import TriggerServices
from perception_nodes.run import run_node
from perception_nodes.segmentation_display import as_detections, colours_of, labelled_cloud, object_markers, told
from perception_nodes.segmentation_frames import DepthImages, DepthSource, LidarDepth
from perception_nodes.segmentation_model import SegmentationParameters, load_map
from perception_nodes.stamps import nanoseconds
from perception_nodes.transforms import Transforms

Place = NDArray[np.float64]
NEVER = -(10**18)


class SegmentationNode(PerceptionNode[SegmentationParameters, InstanceMap]):
    """Publishes the objects of the map with every key frame that it takes in; one that it leaves out is told in
    /diagnostics, with the reason, and changes nothing."""

    parameters_type = SegmentationParameters
    # Where several wait the camera info is taken first, so that the first image has one.
    inputs = (
        Input("~/camera_info", CameraInfo, "remember_camera", stamped=False),
        Input("~/clicked_point", PointStamped, "prompt", COMMAND_QOS, stamped=False, every=True),
        Input("~/image", Image),
    )
    outputs = (
        Output("~/labelled_points", PointCloud2),
        Output("~/label_image", Image),
        Output("~/detections", Detection3DArray),
        Output("~/markers", MarkerArray),
        Output("~/prompted_points", PointCloud2),
    )

    def __init__(self, load_map: Callable[[SegmentationParameters], InstanceMap] = load_map, **arguments: Any) -> None:
        self._load_map = load_map
        self._busy = threading.Lock()  # services come on a thread of their own
        self._camera_info: CameraInfo | None = None
        self._clicked: Place | None = None
        self._shown: int = NEVER  # when the cloud was published, ns
        self._forget_all()
        super().__init__("segmentation_node", **arguments)

    def load(self) -> InstanceMap:
        """Loads the model, and listens to TF."""
        p = self.parameters
        self._transforms = self.keep(Transforms(self))
        is_lidar = p.depth_source == "points"
        self._depth: DepthSource = LidarDepth(self._transforms, p.map_frame) if is_lidar else DepthImages()
        return self._load_map(p)

    def activate(self) -> None:
        """Subscribes, to depth on the node's own thread, as an image waits for it; offers the services."""
        super().activate()
        qos = RELIABLE_SENSOR_QOS if self.parameters.reliable_input else SENSOR_QOS
        depth = self.create_subscription(self._depth.kind, self._depth.topic, self._depth.messages.put, qos)
        self.while_active.callback(self.destroy_subscription, depth)
        actions = {"~/reset": self._reset, "~/save_map": self._save, "~/segment_clicked": self._segment_clicked}
        services = TriggerServices(self, actions)
        self.while_active.callback(services.close)

    def reset(self) -> None:
        """Forgets the map."""
        with self._busy:
            self.model.reset()
            self._forget_all()

    def facts(self) -> Mapping[str, object]:
        """The size of the map, and what became of the views."""
        held = self._model
        size = {"voxels": len(held), "superpoints": held.superpoints} if held is not None else {}
        views = {"key_frames": self._taken, "left_out": self._left_out, "left_out_reason": self._reason}
        return {"depth_source": self.parameters.depth_source, **size, "objects": self._objects_told, **views}

    def remember_camera(self, message: CameraInfo) -> None:
        """Keeps the newest camera info that can be used."""
        decode_camera(message, self.parameters.image_is_rectified)
        self._camera_info = message

    def process(self, message: Image) -> None:
        """One image, where it is to become a key frame."""
        p, stamp = self.parameters, nanoseconds(message.header.stamp)
        try:
            frame = self._frame(message, p)
        except (InvalidMessage, NoResult) as error:
            self._leave_out(str(error))
            raise
        with self._busy:
            update = self.model.update(frame, stamp * 1e-9)
            if not update.accepted:
                self._leave_out(update.reason)
                raise NoResult(f"the view is left out: {update.reason}")
            self._taken += 1
            if frame.pose is not None:
                self._keys.took(frame.pose, stamp)
            self._publish(update, message.header, p)

    def prompt(self, message: PointStamped) -> None:
        """The object at a point that was clicked; its stamp is that of a mouse, and does not matter."""
        place = np.array([message.point.x, message.point.y, message.point.z])
        if not np.isfinite(place).all():
            raise InvalidMessage(f"the clicked point {place.tolist()} is not finite")
        p, frame = self.parameters, message.header.frame_id
        if frame != p.map_frame:
            place = np.asarray(se3.apply(self._transforms.lookup(p.map_frame, frame, Time(), p.tf_timeout), place))
        self._clicked = place
        self._segment_clicked()

    def _frame(self, message: Image, p: SegmentationParameters) -> RgbdFrame:
        """The view of an image. Raises NotAsked where it is no key frame, NoResult or InvalidMessage where something of
        it is missing or wrong."""
        if self._camera_info is None:
            raise NoResult("no camera info came yet on ~/camera_info: is it published, and calibrated?")
        header, stamp = message.header, nanoseconds(message.header.stamp)
        pose = self._transforms.lookup(p.map_frame, header.frame_id, header.stamp, p.tf_timeout)
        if not self._keys.wants(pose, stamp, p):
            raise NotAsked
        camera = decode_camera(self._camera_info, p.image_is_rectified)
        with self.timing.stage("convert"):
            rgb = camera.rectify(decode_image(message))
        with self.timing.stage("depth"):
            depth = self._depth.of(stamp, camera, pose, p)
        return RgbdFrame(rgb, depth, camera.matrix, pose)

    def _leave_out(self, reason: str) -> None:
        self._left_out += 1
        self._reason = reason

    def _publish(self, update: MapUpdate, header: Header, p: SegmentationParameters) -> None:
        """Everything that someone may want of the map, in its frame, with the image's stamp; the label image as the
        image."""
        placed = Header(stamp=header.stamp, frame_id=p.map_frame)
        with self.timing.stage("objects"):
            objects = told(self._objects.of(self.model), p.largest)
            self._objects_told = len(objects.ids)
        with self.timing.stage("publish"):
            self.publish("~/label_image", encode_image(update.labels, header))
            self.publish("~/detections", encode_detections(as_detections(objects), placed, objects.ids.tolist()))
            self._publish_cloud(placed, p)
        if p.publish_markers and self.is_wanted("~/markers"):
            with self.timing.stage("markers"):
                self.publish("~/markers", object_markers(objects, placed))

    def _publish_cloud(self, header: Header, p: SegmentationParameters) -> None:
        """The whole map, now and then, where someone listens."""
        stamp = nanoseconds(header.stamp)
        if stamp - self._shown < p.cloud_period * 1e9 or not self.is_wanted("~/labelled_points"):
            return
        voxels, ids = self.model.voxels, self.model.ids
        colors = voxels.colors if p.color_by == "camera" else colours_of(ids)
        self.publish("~/labelled_points", labelled_cloud(voxels.points, colors, ids, header))
        self._shown = stamp

    def _segment_clicked(self) -> str:
        """Segments what was clicked at last, in the view and the map as they are now. Raises NoResult for nothing."""
        p, place = self.parameters, self._clicked
        if place is None:
            raise NoResult("nothing was clicked yet: publish a point on ~/clicked_point")
        with self._busy:
            try:
                found = point_at(self.model, place, p.click_distance)
            except ValueError as error:
                raise NoResult(str(error)) from error
            some = self.model.voxels.where(found.rows)
            ids = np.full(len(found.rows), found.identity)
            header = Header(stamp=self.get_clock().now().to_msg(), frame_id=p.map_frame)
            self.publish("~/prompted_points", labelled_cloud(some.points, some.colors, ids, header))
        return f"object {found.identity}: {len(found.rows)} voxels, by the {found.source}"

    def _reset(self) -> str:
        held = len(self.model)
        self.reset()
        return f"a map of {held} voxels is forgotten"

    def _save(self) -> str:
        """Writes the map. Raises NoResult where no file is named or the map is empty."""
        path = self.parameters.save_file
        if not path:
            raise NoResult("save_file is empty: set it to a name that ends in .ply")
        with self._busy:
            voxels, ids = self.model.voxels, self.model.ids
            if not len(voxels):
                raise NoResult("the map is empty: no view was taken in yet")
            write_cloud(Path(path), voxels.points, voxels.colors, {"label": ids.astype(np.int32)})
        return f"{path}: {len(ids)} voxels, {len(np.unique(ids))} instances"

    def _forget_all(self) -> None:
        self._keys, self._objects = KeyFrames(), ObjectList()
        self._clicked = None
        self._taken = self._left_out = self._objects_told = 0
        self._reason = ""
        self._shown = NEVER


def main() -> int:
    """Runs the node; the entry point of the executable `segmentation_node`."""
    return run_node(SegmentationNode)


if __name__ == "__main__":
    raise SystemExit(main())
