# SPDX-License-Identifier: Apache-2.0
"""The steps of which the map of key frames is made."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry.cameras import Floats, Matrix, RgbdFrame
from perception_models.segmentation.evidence import Evidence


class Parts(Protocol):
    """What the map leaves to others; tests give parts of their own."""

    @property
    def engine_info(self) -> Any:
        """Facts of the engines."""
        ...

    def normals(self, points: Floats, viewpoint: Matrix) -> Floats:
        """Unit normals (N, 3) of points (N, 3), towards a viewpoint (3,)."""
        ...

    def divide(self, points: Floats, normals: Floats, colors: NDArray[np.uint8]) -> NDArray[np.integer]:
        """Super-points (N,) 0 .. S - 1 of points (N, 3)."""
        ...

    def look(self, frame: RgbdFrame, points: Floats, labels: NDArray[np.int32]) -> Evidence:
        """What a view says of the super-points (N,) of points (N, 3)."""
        ...

    def group(self, points: Floats, labels: NDArray[np.integer], evidence: Evidence) -> NDArray[np.int64]:
        """Instances (S,) of the super-points (N,) 0 .. S - 1 of points (N, 3), given what all views said."""
        ...

    def close(self) -> None:
        """Gives back the engines."""
        ...
