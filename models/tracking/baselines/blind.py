# SPDX-License-Identifier: Apache-2.0
"""What a tracker scores that never looks: the box stands where it was, or goes on with a velocity that is given."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from perception_models.geometry import se3
from perception_models.geometry.boxes import transform_boxes
from perception_models.tracking.state import TrackState

Floats = npt.NDArray[np.floating]


class Blind:
    """velocity (3,) m/s in the frame of the first scan; with none the box stands still in the world."""

    def __init__(self, velocity: npt.ArrayLike = (0.0, 0.0, 0.0)) -> None:
        self._velocity = np.asarray(velocity, float)

    def start(self, points: Floats, box: Floats) -> None:
        """Take the box (7,); the points do not matter."""
        self._box = np.array(box, float)

    def track(self, points: Floats, ego_motion: se3.Matrix | None = None, seconds: float = 0.1) -> TrackState:
        """The box moved on; the points do not matter."""
        self._box[:3] += seconds * self._velocity
        if ego_motion is not None:
            back = se3.inverse(ego_motion)
            self._box = transform_boxes(self._box[None], back)[0]
            self._velocity = back[:3, :3] @ self._velocity
        return TrackState(self._box.astype(np.float32), 1.0, False)
