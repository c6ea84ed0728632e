# SPDX-License-Identifier: Apache-2.0
"""What the online reconstruction is set to; nothing in here is a fact of the weights."""

from __future__ import annotations

from dataclasses import dataclass

POSES = ("network", "features")


@dataclass(frozen=True)
class OnlineSettings:
    """Lengths in metres; the defaults suit a camera carried through rooms."""

    poses: str = "features"  # of the image, on the network's depth, which they bring to one size; or network: its own
    gated: bool = False  # each token of the state takes in as much as it attended to the image (TTT3R)
    reset_every: int = 0  # images after which the state is begun anew and its frame fitted to the last; 0 never
    # What does not enter the state.
    darkest: float = 12.0  # mean of an image, of 255, below which it is black
    flattest: float = 3.0  # standard deviation of an image's grey values below which it is covered
    failures: int = 5  # images in a row that give no result, after which a new world is begun
    # A jump to another place: the image is unlike the last one, and the network loses its confidence.
    likeness: float = 0.45  # correlation with the last image, best of all shifts, below which it may be unlike
    likeness_drop: float = 0.6  # and as a share of the usual: a stream of few images is never much alike
    confidence_drop: float = 0.6  # confidence above 1, as a share of the usual, below which it is lost
    inertia: float = 0.9  # share of the usual that is kept at each image
    known_after: int = 3  # images, from which on there is something usual
    # Scale from a sensor.
    scale_inertia: float = 0.9  # share of the former scale that is kept at each new measurement
    scale_pixels: int = 200  # with measured depth, from which on they tell the scale
    scale_step: float = 0.05  # m that odometry must have moved to tell the scale

    def __post_init__(self) -> None:
        """Raise ValueError for poses that nothing tells."""
        if self.poses not in POSES:
            raise ValueError(f"poses '{self.poses}' are unknown; known are {', '.join(POSES)}")
