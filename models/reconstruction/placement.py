# SPDX-License-Identifier: Apache-2.0
"""Where the network's own frame lies in the world, and how one frame follows another when the state is begun anew."""

from __future__ import annotations

from dataclasses import dataclass, replace

from perception_models.geometry import se3
from perception_models.geometry.cameras import Matrix
from perception_models.geometry.similarity import Similarity


@dataclass(frozen=True)
class Placement(Similarity):
    """From the network's frame to the world; scale in metres a unit of the network."""

    def camera(self, pose: Matrix) -> Matrix:
        """Pose (4, 4) camera -> world of one, camera -> network's frame."""
        return self.pose @ _moved(pose, self.scale)

    def local(self, pose: Matrix) -> Matrix:
        """Inverse of `camera`."""
        return _moved(se3.inverse(self.pose) @ pose, 1 / self.scale)

    def rescaled(self, scale: float, camera: Matrix) -> Placement:
        """With another scale; a camera at a pose (4, 4) in the network's frame stays where it is in the world."""
        shift = self.pose[:3, :3] @ camera[:3, 3] * (self.scale - scale)
        return Placement(se3.make(self.pose[:3, :3], self.pose[:3, 3] + shift), scale)

    def followed(self, old: Matrix, new: Matrix, ratio: float) -> Placement:
        """That of a new frame, where the same image was taken at pose `old` (4, 4) in this frame and at `new` in the
        new one, and is `ratio` times as deep here as there."""
        grown = replace(self, scale=self.scale * ratio)
        return Placement(self.camera(old) @ se3.inverse(_moved(new, grown.scale)), grown.scale)


def _moved(pose: Matrix, scale: float) -> Matrix:
    """The pose with its translation scaled."""
    return se3.make(pose[:3, :3], pose[:3, 3] * scale)
