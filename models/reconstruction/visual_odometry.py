# SPDX-License-Identifier: Apache-2.0
"""A camera's way from image features whose depth is roughly known: as in Klein and Murray, "Parallel Tracking and
Mapping" (ISMAR 2007), but each image brings its own depth, so one image is enough to begin and a turn on the spot does
no harm; what several images see is then placed by all of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import poselib  # type: ignore[import-untyped,unused-ignore]
from numpy.typing import NDArray

from perception_models.geometry import se3
from perception_models.geometry.cameras import Matrix
from perception_models.reconstruction.adjustment import Bundle, Sights, adjust
from perception_models.reconstruction.features import Features, Indices, matches

KEYS = 8  # key frames that are remembered
COMPARED = 5  # newest of these, with which an image is matched
HELD = 2  # the oldest of these, which stay where they are: they hold the world's place and size
LEAST = 15  # matches that agree on a pose, below which it is not believed
MAX_ERROR = 8.0  # pixels between a point and where it is seen; depth that is a sixth wrong gives as much
RAY_SIGMA = 1.0  # pixels
DEPTH_SIGMA = 0.7  # of the logarithm; weak, as the errors of one image go together
ROUNDS = 4
TRUST = 0.8  # share that is kept of the difference between an image's scale and the usual one
LONGEST = 200  # images by which the usual is told
SHIFT, TURN = 0.03, 0.1  # shares of the depth, and radians, from which on an image becomes a key frame


@dataclass(frozen=True)
class KeyFrame:
    """pose (4, 4), world -> camera; features (N,), the depth (N,) of each in the world's metres, 0 where not known, and
    the point of the world that it shows (N,), -1 none."""

    pose: Matrix
    features: Features
    depths: Matrix
    points: Indices


@dataclass(frozen=True)
class Found:
    """pose (4, 4), camera -> world; scale: by which the image's depth is multiplied; rays (M, 2), x / z and y / z, of
    points that other images show too, their depths (M,) m, and those (M,) that the image gave."""

    pose: Matrix
    scale: float
    rays: Matrix
    depths: Matrix
    given: Matrix


class VisualOdometry:
    """Images one after the other -> poses in the frame of the first. Memory: the last KEYS key frames."""

    def __init__(self, focal: float) -> None:
        """focal: pixels, the unit of what this file says of errors."""
        self._focal = focal
        self.forget()

    def forget(self) -> None:
        """The next image begins a new world."""
        self._keys: list[KeyFrame] = []
        self._points = np.zeros((0, 3))
        self._usual, self._images = 0.0, 1  # mean logarithm of the scales, of how many images

    def __len__(self) -> int:
        """Points remembered."""
        return len(self._points)

    def track(self, features: Features, depths: Matrix) -> Found | None:
        """Where an image was taken, of whose features each has a depth (N,), 0 where not known; None where too few show
        what the last key frames do. What is remembered then stays."""
        points, pose, scale = np.full(len(features), -1), np.eye(4), 1.0
        if self._keys:
            points = self._recognised(features)
            found = self._pose(features, points)
            if found is None:
                return None
            pose, points = found
            scale = self._steadied(self._scale(pose, depths, points))
        self._remember(KeyFrame(pose, features, scale * depths, points))
        self._adjust()
        return self._found(scale)

    def _recognised(self, features: Features) -> Indices:
        """The point (N,) that each feature shows, -1 none: what the newest key frame says goes first."""
        points, taken = np.full(len(features), -1), np.zeros(len(self._points), bool)
        for key in self._keys[: -COMPARED - 1 : -1]:
            mine, theirs = matches(features, key.features)
            shown = key.points[theirs]
            new = (shown >= 0) & (points[mine] < 0) & ~taken[shown]
            points[mine[new]] = shown[new]
            taken[shown[new]] = True
        return points

    def _pose(self, features: Features, points: Indices) -> tuple[Matrix, Indices] | None:
        """Pose (4, 4), world -> camera, and the points (N,) that agree with it."""
        chosen = np.flatnonzero(points >= 0)
        if len(chosen) < LEAST:
            return None
        camera = {"model": "SIMPLE_PINHOLE", "width": -1, "height": -1, "params": [self._focal, 0, 0]}
        limits = {"max_reproj_error": MAX_ERROR, "max_iterations": 1000, "min_iterations": 50}
        pixels, places = self._focal * features.rays[chosen], self._points[points[chosen]]
        start = poselib.CameraPose()
        start.R, start.t = self._keys[-1].pose[:3, :3], self._keys[-1].pose[:3, 3]
        found, facts = poselib.estimate_absolute_pose(pixels, places, camera, limits, {"loss_type": "CAUCHY"}, start)
        agreed = chosen[np.array(facts["inliers"], bool)]
        if len(agreed) < LEAST:
            return None
        kept = np.full_like(points, -1)
        kept[agreed] = points[agreed]
        return se3.make(found.R, found.t), kept

    def _scale(self, pose: Matrix, depths: Matrix, points: Indices) -> float:
        """By how much an image's depths (N,) must grow to be as the world's points are; 1 where none is known."""
        both = (points >= 0) & (depths > 0)
        true = se3.apply(pose, self._points[points[both]])[:, 2]
        ahead = true > 0
        return float(np.exp(np.median(np.log(true[ahead] / depths[both][ahead])))) if ahead.any() else 1.0

    def _steadied(self, scale: float) -> float:
        """A scale drawn towards what is usual, so that errors do not add up from image to image. The first is 1."""
        self._images = min(self._images + 1, LONGEST)
        self._usual += (np.log(scale) - self._usual) / self._images
        return float(np.exp(self._usual + TRUST * (np.log(scale) - self._usual)))

    def _remember(self, key: KeyFrame) -> None:
        """The last image is forgotten for the new one where it is too near to the key frame before it, and the oldest
        where they are too many."""
        if len(self._keys) > HELD and not _apart(self._keys[-2], self._keys[-1]):
            self._keys.pop()
        new = (key.points < 0) & (key.depths > 0)
        rays = np.pad(key.features.rays[new], ((0, 0), (0, 1)), constant_values=1)
        places = se3.apply(se3.inverse(key.pose), rays * key.depths[new, None])
        points = key.points.copy()
        points[new] = len(self._points) + np.arange(len(places))
        self._points = np.concatenate([self._points, places])
        self._keys = [*self._keys, replace(key, points=points)][-KEYS:]
        self._compact()

    def _compact(self) -> None:
        """Forget the points that no key frame shows any more."""
        shown = np.unique(np.concatenate([key.points[key.points >= 0] for key in self._keys]))
        place = np.full(len(self._points) + 1, -1)  # its last entry is that of -1
        place[shown] = np.arange(len(shown))
        self._keys = [replace(key, points=place[key.points]) for key in self._keys]
        self._points = self._points[shown]

    def _adjust(self) -> None:
        """Move the newer poses, and the points that several images show, to where these agree."""
        if len(self._keys) < 2:
            return
        points, shared = np.concatenate([key.points for key in self._keys]), self._shared()
        used, local = np.unique(points[shared], return_inverse=True)
        sights = Sights(
            images=np.repeat(np.arange(len(self._keys)), [len(key.points) for key in self._keys])[shared],
            points=local,
            rays=np.concatenate([key.features.rays for key in self._keys])[shared],
            depths=np.concatenate([key.depths for key in self._keys])[shared],
            ray_sigma=RAY_SIGMA / self._focal,
            depth_sigma=DEPTH_SIGMA,
        )
        before = Bundle(np.stack([key.pose for key in self._keys]), self._points[used])
        after = adjust(before, sights, min(HELD, len(self._keys) - 1), ROUNDS)
        self._points[used] = after.points
        self._keys = [replace(key, pose=pose) for key, pose in zip(self._keys, after.poses, strict=True)]

    def _shared(self) -> NDArray[np.bool_]:
        """Of all features of all key frames, one after the other: whether another image shows the same point."""
        points = np.concatenate([key.points for key in self._keys])
        counts = np.bincount(points[points >= 0], minlength=len(self._points) + 1)  # its last entry is that of -1
        return np.asarray(counts[points] > 1)

    def _found(self, scale: float) -> Found:
        """What is known of the last image."""
        key = self._keys[-1]
        chosen = np.flatnonzero(self._shared()[-len(key.points) :] & (key.depths > 0))
        depths = np.asarray(se3.apply(key.pose, self._points[key.points[chosen]])[:, 2], np.float64)
        chosen, depths = chosen[depths > 0], depths[depths > 0]
        return Found(se3.inverse(key.pose), scale, key.features.rays[chosen], depths, key.depths[chosen] / scale)


def _apart(one: KeyFrame, other: KeyFrame) -> bool:
    """Whether two images are taken from places far enough from each other to be worth remembering both."""
    motion = other.pose @ se3.inverse(one.pose)
    known = other.depths[other.depths > 0]
    far = float(np.median(known)) if len(known) else 0.0
    return bool(np.linalg.norm(motion[:3, 3]) > SHIFT * far or se3.rotation_angle(motion) > TURN)
