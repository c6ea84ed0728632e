# SPDX-License-Identifier: Apache-2.0
"""What a tracker says of a target."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TrackState:
    """box (7,) float32 x y z l w h yaw, m and rad, in the frame of the scan's points.

    score: probability, 0 to 1, that the box's centre is within half its width of the truth. lost: the object is not
    seen; the box is then where the motion model expects it, and `reason` says why.
    """

    box: Floats
    score: float
    lost: bool
    reason: str = ""
