# SPDX-License-Identifier: Apache-2.0
"""Images with depth and the truth of the camera's pose, to and from bags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry import se3
from perception_models.geometry.cameras import Floats, Matrix, RgbdFrame, unproject
from perception_nodes import bags
from perception_nodes.bag_messages import (
    encode_camera,
    encode_columns,
    encode_image,
    encode_odometry,
    encode_transforms,
    header,
    stamp_of,
)
from perception_nodes.bag_transforms import Poses
from perception_nodes.bags import BadBag, BagReader, BagWriter
from perception_nodes.camera_info import decode_camera
from perception_nodes.errors import InvalidMessage
from perception_nodes.images import decode_depth, decode_image
from perception_nodes.scans import BASE, CAMERA, ODOM

# base_link looks along x with z up (REP-103), the camera's optical frame along z with y down; they share their origin.
OPTICAL_IN_BASE = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
MILLIMETRES_MAX = 65535


def write_rgbd_rig(bag: BagWriter, stamp: int, camera_in_base: Matrix = OPTICAL_IN_BASE) -> None:
    """Write once where the camera (its optical frame) stands on base_link."""
    bag.write(bags.TF_STATIC, encode_transforms([(BASE, CAMERA, camera_in_base)], stamp), stamp)


def write_rgbd(
    bag: BagWriter,
    stamp: int,
    frame: RgbdFrame,
    truth_pose: Matrix | None,
    instances: NDArray[np.int32] | None = None,
    camera_in_base: Matrix = OPTICAL_IN_BASE,
) -> None:
    """Append one view: image, depth where it has any, camera info, and the truth: the pose (4, 4) camera -> world of
    the optical frame, and the instance of each pixel (H, W), 0 for none, as a labelled cloud of those with depth."""
    head, (height, width) = header(stamp, CAMERA), frame.rgb.shape[:2]
    if truth_pose is not None:
        pose = truth_pose @ se3.inverse(camera_in_base)
        bag.write(bags.TF, encode_transforms([(ODOM, BASE, pose)], stamp), stamp)
        bag.write(bags.TRUTH_ODOMETRY, encode_odometry(pose, header(stamp, ODOM), BASE), stamp)
    if instances is not None and frame.depth is not None:
        bag.write(bags.TRUTH_INSTANCES, _labelled_cloud(frame.depth, frame.camera_matrix, instances, head), stamp)
    projection = np.column_stack([frame.camera_matrix, np.zeros(3)])
    bag.write(bags.CAMERA_INFO, encode_camera(projection, width, height, head), stamp)
    if frame.depth is not None:
        millimetres = np.rint(frame.depth * 1000)
        whole = np.where(millimetres <= MILLIMETRES_MAX, millimetres, 0).astype(np.uint16)
        bag.write(bags.DEPTH, encode_image(whole, head), stamp)
    bag.write(bags.IMAGE, encode_image(frame.rgb, head), stamp)


def _labelled_cloud(depth: Floats, matrix: Matrix, instances: NDArray[np.int32], head: Any) -> Any:
    seen = depth > 0
    x, y, z = unproject(depth, matrix)[seen].T
    return encode_columns({"x": x, "y": y, "z": z, "label": instances[seen].astype(np.int32)}, head)


class RgbdBag:
    """The images of a bag in order, each once, rectified, with depth and pose where the bag has them of that stamp.

    A context manager. Poses (camera -> world) are the truth of /ground_truth/odometry, or where there is none, what /tf
    says: of the camera in `map`, else in `odom`. An image that cannot be used is left out, its reason in `rejected`.
    """

    def __init__(self, path: Path, topic: str | None = None) -> None:
        self._path, self._wanted, self._reader = path, topic, BagReader(path)
        self.rejected: list[str] = []

    def __enter__(self) -> RgbdBag:
        self._reader.__enter__()
        self._topic = self._reader.image_topic(self._wanted)
        if not self._reader.count(bags.CAMERA_INFO):
            raise BadBag(f"{self._path} has no {bags.CAMERA_INFO}, without which nothing can be measured in its images")
        self._poses = Poses(self._reader)
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.__exit__()

    def __len__(self) -> int:
        return self._reader.count(self._topic)

    def __iter__(self) -> Iterator[tuple[int, RgbdFrame]]:
        """Stamp in nanoseconds, and the frame; an image is given out when the next came, as its depth may be late."""
        held, info = None, None
        depths: dict[int, Any] = {}
        for topic, _, message in self._reader.messages([self._topic, bags.DEPTH, bags.CAMERA_INFO]):
            if topic == bags.CAMERA_INFO:
                info = message
            elif topic == bags.DEPTH:
                depths[stamp_of(message)] = message
            else:
                yield from self._usable(held, depths, info)
                held = message
                depths = {stamp: depth for stamp, depth in depths.items() if stamp >= stamp_of(held)}
        yield from self._usable(held, depths, info)

    def _usable(self, image: Any, depths: Mapping[int, Any], info: Any) -> Iterator[tuple[int, RgbdFrame]]:
        """The frame of an image, or none where there is no image yet or it cannot be used."""
        if image is None:
            return
        try:
            frame = self._frame(image, depths.get(stamp_of(image)), info)
        except InvalidMessage as error:
            self.rejected.append(str(error))
        else:
            yield stamp_of(image), frame

    def _frame(self, image: Any, depth: Any, info: Any) -> RgbdFrame:
        if info is None:
            raise InvalidMessage("the camera info comes after the image")
        camera = decode_camera(info)
        metres = None if depth is None else camera.rectify_depth(decode_depth(depth))
        pose = self._poses.of(image.header.frame_id, stamp_of(image))
        return RgbdFrame(camera.rectify(decode_image(image)), metres, camera.matrix, pose)
