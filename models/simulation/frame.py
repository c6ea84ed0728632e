# SPDX-License-Identifier: Apache-2.0
"""One simulated LiDAR sweep with its truth."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LidarFrame:
    """A sweep in the sensor frame (x forward, y left, z up, origin at the sensor) and what is true in it.

    A box is where its object stood when the beam passed over it, so boxes and points agree also while
    the sensor or the object moves during the sweep.
    """

    stamp: float  # s, start of the sweep
    points: NDArray[np.float32]  # (N, 4) x y z [m], intensity [0, 1]
    rings: NDArray[np.uint16]  # (N,) beam index, 0 = highest
    times: NDArray[np.float32]  # (N,) s since the stamp
    pose: NDArray[np.float64]  # (4, 4) sensor -> world at the stamp
    boxes: NDArray[np.float32]  # (K, 7) x y z l w h yaw, centre of the box, sensor frame
    labels: NDArray[np.int64]  # (K,) 0 vehicle, 1 pedestrian, 2 cyclist
    track_ids: NDArray[np.int64]  # (K,)
    num_points: NDArray[np.int64]  # (K,) returns from the object
    instance: NDArray[np.int32]  # (N,) track id of each point, -1 for the static world
