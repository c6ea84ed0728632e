# SPDX-License-Identifier: Apache-2.0
"""Tracking: `~/points` and what is to be followed in, `~/tracks` out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PointStamped
from nav_msgs.msg import Path
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header, String
from vision_msgs.msg import Detection3D, Detection3DArray
from visualization_msgs.msg import MarkerArray

from perception_models.geometry import se3
from perception_models.geometry.boxes import points_in_boxes
from perception_models.tracking import TrackState
from perception_nodes.ego_motion import EgoMotion
from perception_nodes.errors import InvalidMessage, NoResult
from perception_nodes.interfaces import COMMAND_QOS, Input, Output
from perception_nodes.messages import Points, decode_points, encode_detections, require_finite
from perception_nodes.node import PerceptionNode
from perception_nodes.path_log import PathLog
from perception_nodes.relocalization_services import TriggerServices
from perception_nodes.run import run_node
from perception_nodes.stamps import nanoseconds
from perception_nodes.tracking_display import Followed, as_detections, target_markers
from perception_nodes.tracking_model import AnyMultiTracker, TrackingParameters, load_tracker
from perception_nodes.tracking_starts import IGNORED, Offered, Start, Waiting, lag, start_of
from perception_nodes.transforms import Transforms


def command(topic: str, kind: type[Any], handler: str) -> Input:
    """An input of which every message is heeded; its stamp may be that of an older cloud, so it is checked later."""
    return Input(topic, kind, handler, COMMAND_QOS, stamped=False, every=True)


class TrackingNode(PerceptionNode[TrackingParameters, AnyMultiTracker]):
    """Publishes where each target is in every cloud; a target that is lost is told in /diagnostics, not published."""

    parameters_type = TrackingParameters
    inputs = (
        command("~/start", Detection3D, "start"),
        command("~/start_id", String, "start_by_id"),
        command("~/clicked_point", PointStamped, "start_by_click"),
        command("~/stop", String, "stop"),
        Input("~/detections", Detection3DArray, "remember_detections"),
        Input("~/points", PointCloud2),
    )
    outputs = (Output("~/tracks", Detection3DArray), Output("~/path", Path), Output("~/markers", MarkerArray))

    def __init__(
        self, load_tracker: Callable[[TrackingParameters], AnyMultiTracker] = load_tracker, **arguments: Any
    ) -> None:
        self._load_tracker = load_tracker
        self._busy = threading.Lock()  # services come on a thread of their own
        self._followed: dict[str, Followed] = {}
        super().__init__("tracking_node", **arguments)

    def load(self) -> AnyMultiTracker:
        """Loads the tracker, and listens to TF."""
        p = self.parameters
        self._transforms = self.keep(Transforms(self))
        self._ego = EgoMotion(self._transforms, p.fixed_frame, p.tf_timeout)
        self._followed = {}
        return self._load_tracker(p)

    def activate(self) -> None:
        """Subscribes, and offers the service."""
        super().activate()
        services = TriggerServices(self, {"~/stop_all": self._stop_all})
        self.while_active.callback(services.close)

    def reset(self) -> None:
        """Follows nothing, and nothing waits."""
        self._stop_all()
        self._cloud: tuple[Points, Header] | None = None
        self._waiting, self._offered = Waiting(), Offered()
        self._begun: set[str] = set()
        self._given = 0  # identities that were made up
        self._ego.forget()

    def facts(self) -> Mapping[str, object]:
        """What is followed, what is lost and why, and where the sensor's motion comes from."""
        followed = {f"target_{identity}": one for identity, one in tuple(self._followed.items())}
        motion = {"ego_motion": self._ego.says} if self.state == "active" else {}
        return {"targets": len(followed), **motion, **followed}

    def start(self, message: Detection3D) -> None:
        """Follow what is in the box of a detection."""
        self._ask(start_of(message, message.header))

    def start_by_id(self, message: String) -> None:
        """Follow the newest detection that has this id."""
        self._ask(self._offered.with_id(message.data))

    def start_by_click(self, message: PointStamped) -> None:
        """Follow the newest detection near a point; the point's own stamp is that of a mouse, and does not matter."""
        there, p = self._offered.header, self.parameters
        place = np.array([message.point.x, message.point.y, message.point.z])
        if not np.isfinite(place).all():
            raise InvalidMessage(f"the clicked point {place.tolist()} is not finite")
        if message.header.frame_id != there.frame_id:
            move = self._transforms.lookup(there.frame_id, message.header.frame_id, there.stamp, p.tf_timeout)
            place = np.asarray(se3.apply(move, place))
        self._ask(self._offered.nearest(place, p.click_distance))

    def remember_detections(self, message: Detection3DArray) -> None:
        """Keeps the newest detections; `start_all` follows those with an id that never were."""
        p = self.parameters
        self._offered.message = message
        if p.start_all:
            for detection in message.detections:
                start = start_of(detection, message.header, p.start_points)
                if start.identity and start.name != IGNORED and start.identity not in self._begun:
                    self._ask(start)

    def stop(self, message: String) -> None:
        """Follow one less."""
        with self._busy:
            if message.data not in self._followed:
                names = ", ".join(self._followed) or "none"
                raise InvalidMessage(f"no target is called '{message.data}'; there is {names}")
            self._drop(message.data)

    def process(self, message: PointCloud2) -> None:
        """One cloud: where is everything, what else is to be followed from here on."""
        with self.timing.stage("convert"):
            points = decode_points(message)
            require_finite(points)
        with self._busy:
            self._track(points, message.header)
            self._cloud = points, message.header
            self._begin_waiting()
            self._publish(message.header)

    def _track(self, points: Points, header: Header) -> None:
        ego_motion = self._ego.next(header)
        if self._cloud is None or not self._followed:
            return
        seconds = (nanoseconds(header.stamp) - nanoseconds(self._cloud[1].stamp)) * 1e-9
        for identity, state in self.model.track(points, ego_motion, seconds).items():
            self._followed[identity].update(state, seconds)
        for identity, one in list(self._followed.items()):
            if one.lost_for > self.parameters.forget_after:
                self.warn(f"target '{identity}' is dropped: {one}")
                self._drop(identity)

    def _ask(self, start: Start) -> None:
        """Follow something as soon as its cloud is there."""
        with self._busy:
            self._waiting.add(start)
            self._begin_waiting()

    def _begin_waiting(self) -> None:
        if self._cloud is None:
            return
        for start in self._waiting.due(self._cloud[1], self.parameters.start_age):
            try:
                self._begin(start, *self._cloud)
            except (ValueError, NoResult) as error:
                self.warn(f"{start.identity or 'an object'} is not followed: {error}")

    def _begin(self, start: Start, points: Points, header: Header) -> None:
        """Raises ValueError or NoResult where it cannot be followed; whatever runs goes on."""
        p = self.parameters
        if abs(late := lag(start, header)) > p.start_age:
            side = "older" if late > 0 else "newer"
            raise InvalidMessage(
                f"its box is {abs(late):.2f} s {side} than the newest cloud, start_age {p.start_age} s"
            )
        box = self._ego.bring(start.box, start.seen_with(header), header)
        if start.points and points_in_boxes(points, box[None]).sum() < start.points:
            return
        self._given += not start.identity
        identity = start.identity or f"target_{self._given}"
        self.model.add(identity, points, box.astype(np.float32))
        self._begun.add(identity)
        state = TrackState(box.astype(np.float32), 1.0, False)
        self._followed[identity] = Followed(start.name, state, PathLog(p.path_step, p.path_poses))

    def _drop(self, identity: str) -> None:
        self._followed.pop(identity)
        self.model.remove(identity)

    def _publish(self, header: Header) -> None:
        valid = {identity: one for identity, one in self._followed.items() if one.is_valid}
        with self.timing.stage("publish"):
            found = as_detections(valid, [one.name for one in valid.values()])
            self.publish("~/tracks", encode_detections(found, header, list(valid)))
        place = self._ego.place(header)
        self._show_ways(valid, place, header.stamp)
        if self.parameters.publish_markers and self.is_wanted("~/markers"):
            with self.timing.stage("markers"):
                self.publish("~/markers", target_markers(self._followed, header, place[0] if place else ""))

    def _show_ways(self, valid: Mapping[str, Followed], place: tuple[str, se3.Matrix] | None, stamp: Time) -> None:
        """The ways of all grow; that of the target which is followed for the longest time is published."""
        if place is None:
            return
        frame, pose = place
        fixed = Header(stamp=stamp, frame_id=frame)
        for one in valid.values():
            x, y, z, *_, yaw = one.state.box.tolist()
            one.path.add(pose @ se3.from_yaw_pitch_roll(yaw, 0, 0, [x, y, z]), fixed)
        if self._followed and self.is_wanted("~/path"):
            self.publish("~/path", next(iter(self._followed.values())).path.message(fixed))

    def _stop_all(self) -> str:
        with self._busy:
            count = len(self._followed)
            for identity in list(self._followed):
                self._drop(identity)
        return f"{count} targets are followed no longer"


def main() -> int:
    """Runs the node; the entry point of the executable `tracking_node`."""
    return run_node(TrackingNode)


if __name__ == "__main__":
    raise SystemExit(main())
