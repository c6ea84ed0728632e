# SPDX-License-Identifier: Apache-2.0
"""Where a target is expected: nearly constant velocity in the world, or in the sensor's frame where its motion is
unknown; what was measured counts by the error that the network expects of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from perception_models.geometry import se3
from perception_models.geometry.boxes import transform_boxes, wrap_angle
from perception_models.tracking.kalman import PointFilter
from perception_models.tracking.regions import Floats

Values = npt.NDArray[np.floating]

SPEED = 3.7  # 1/s: speed that is likely at first, of the root of the area from above
TURNING = 0.05  # rad, between two scans
COASTED = 1.5  # s without a measurement, after which a target is taken to stand
STILL = 0.3  # m/s, of an object that is seen to stand
SLIP, DRIFT = 0.1, 0.6  # rad and m/s: by how much the heading may differ from the direction of a velocity
FASTEST_TURN = 1.0  # rad, between both, above which the one says nothing of the other
SLOW = 1.5  # m/s, below which a velocity has no direction
CAUTION = 1.0  # times the error that the network expects: errors of neighbouring scans are alike
FEWEST = 2  # measurements from which on there is a velocity


class MotionModel:
    """A box (7,) that moves on; in the frame of the last scan."""

    def __init__(self, box: Values) -> None:
        self.box = np.asarray(box, float).copy()
        self.measured = 1
        self.unseen = 0.0  # s
        self._filter = PointFilter(self.box[:3])
        speed = SPEED * np.sqrt(box[3] * box[4])
        self._filter.covariance = np.diag([0.03, 0.03, 0.03, speed, speed, 0.3]) ** 2

    @property
    def is_moving_known(self) -> bool:
        """Whether a velocity was measured."""
        return self.measured >= FEWEST

    @property
    def velocity(self) -> Values:
        """m/s along the axes of the last scan's frame (3,)."""
        return self._filter.mean[3:]

    @property
    def uncertainty(self) -> float:
        """Standard deviation of the place from above, m."""
        return float(np.sqrt(np.linalg.eigvalsh(self._filter.covariance[:2, :2])[-1]))

    def predict(self, seconds: float, ego_motion: se3.Matrix | None) -> None:
        """Go on to the next scan, whose pose in the frame of the last one is `ego_motion`."""
        self.unseen += seconds
        if self.unseen > COASTED:
            self._filter.mean[3:] = 0.0
        self._filter.predict(seconds)
        if ego_motion is not None:
            here = se3.inverse(ego_motion)
            self._filter.move(here)
            self.box = transform_boxes(self.box[None], here)[0]
        self.box[:3] = self._filter.mean[:3]

    def correct(self, box: Values, error: Values) -> None:
        """Take over a measured box (7,); error (4,): its expected error along its own x y z, m, and of its yaw."""
        turn = np.eye(3)
        turn[:2, :2] = [[np.cos(box[6]), -np.sin(box[6])], [np.sin(box[6]), np.cos(box[6])]]
        noise = turn @ np.diag(np.maximum(error[:3], 0.02) ** 2) @ turn.T
        self._weigh(slice(0, 3), np.asarray(box[:3], float), noise * CAUTION**2)
        share = TURNING**2 / (TURNING**2 + float(error[3]) ** 2)
        self.box[:3] = self._filter.mean[:3]
        self.box[6] = wrap_angle(self.box[6] + share * wrap_angle(np.asarray(box[6] - self.box[6])))
        self.measured += 1
        self.unseen = 0.0

    def stand(self) -> None:
        """Take over that the object is seen to stand."""
        self._weigh(slice(3, 6), np.zeros(3), np.eye(3) * STILL**2)

    def head_along(self) -> None:
        """Turn the box towards where it moves, forwards or backwards: wheels and feet do not go sideways.

        The velocity must be that in the world.
        """
        speed = float(np.hypot(*self.velocity[:2]))
        if speed < SLOW or not self.is_moving_known:
            return
        away = np.arctan2(self.velocity[1], self.velocity[0]) - self.box[6]
        away = (away + np.pi / 2) % np.pi - np.pi / 2
        if abs(away) < FASTEST_TURN:
            share = TURNING**2 / (TURNING**2 + (SLIP + DRIFT / speed) ** 2)
            self.box[6] = wrap_angle(np.asarray(self.box[6] + share * away))

    def _weigh(self, rows: slice, measured: Values, noise: Values) -> None:
        """Correct the filter by a measurement of some of its states."""
        mean, covariance = self._filter.mean, self._filter.covariance
        gain = covariance[:, rows] @ np.linalg.inv(covariance[rows, rows] + noise)
        self._filter.mean = mean + gain @ (measured - mean[rows])
        self._filter.covariance = covariance - gain @ covariance[rows]

    def expected(self) -> Floats:
        """The box (7,)."""
        return self.box.astype(np.float32)
