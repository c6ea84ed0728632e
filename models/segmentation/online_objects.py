# SPDX-License-Identifier: Apache-2.0
"""The instances of a map of key frames as objects with boxes, and the one at a place that is pointed at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry.cameras import Floats
from perception_models.segmentation.instances import upright_box
from perception_models.segmentation.online import InstanceMap

Integers = NDArray[np.int64]
HALF = 0.5  # of the voxels of a super-point in view that a mask must cover
NEAR, SHARE = 0.04, 0.02  # by which depth may differ where a voxel is in view: m, and share of itself


@dataclass(frozen=True)
class Objects:
    """ids (K,) rising, boxes (K, 7) float32 x y z l w h yaw in the map, scores (K,) 0 to 1, and voxels (K,) of each."""

    ids: Integers
    boxes: Floats
    scores: Floats
    sizes: Integers


@dataclass(frozen=True)
class Pointed:
    """Rows of the voxels of the object that was pointed at, its instance id, and who says so: `image` or `map`."""

    rows: Integers
    identity: int
    source: str


class ObjectList:
    """The objects of a map; boxes are kept until their instance changes."""

    def __init__(self) -> None:
        self._boxes: dict[int, tuple[int, Floats]] = {}

    def of(self, instance_map: InstanceMap) -> Objects:
        """All objects of at least `smallest` voxels."""
        ids = instance_map.ids
        order = np.argsort(ids, kind="stable")
        names, starts, sizes = np.unique(ids[order], return_index=True, return_counts=True)
        large = sizes >= instance_map.settings.smallest
        points = instance_map.voxels.points
        kept: dict[int, tuple[int, Floats]] = {}
        for name, start, size in zip(names[large].tolist(), starts[large], sizes[large].tolist(), strict=True):
            known = self._boxes.get(name)
            is_same = known is not None and known[0] == size
            kept[name] = known if known and is_same else (size, upright_box(points[order[start : start + size]]))
        self._boxes = kept
        boxes = np.array([box for _, box in kept.values()], np.float32).reshape(-1, 7)
        boxes[:, 3:6] = np.maximum(boxes[:, 3:6], instance_map.settings.voxel)  # a voxel is no point
        return Objects(names[large], boxes, instance_map.scores(names[large]), sizes[large])


def point_at(instance_map: InstanceMap, place: NDArray[np.floating], reach: float) -> Pointed:
    """The object at a place (3,) of the map: what the promptable model sees there in the last view, as super-points of
    which it covers at least half; the map's own instance where that view does not show the place.

    Raises ValueError where no voxel is within `reach` metres.
    """
    voxels = instance_map.voxels
    distances = np.linalg.norm(voxels.points - place, axis=1)
    if not len(distances) or distances.min() > reach:
        nearest = f"the nearest is {distances.min():.2f} m away" if len(distances) else "it is empty"
        raise ValueError(f"the map has nothing within {reach:g} m of {np.round(place, 2).tolist()}: {nearest}")
    row = int(distances.argmin())
    identity = int(instance_map.ids[row])
    names = _seen_as_one(instance_map, row)
    if voxels.superpoints[row] in names:
        return Pointed(np.flatnonzero(np.isin(voxels.superpoints, names)), identity, "image")
    return Pointed(np.flatnonzero(instance_map.ids == identity), identity, "map")


def _seen_as_one(instance_map: InstanceMap, row: int) -> Integers:
    """Super-points of which the last view's mask at a voxel covers at least half of what is in view; none where the
    voxel itself is not in view."""
    rows, pixels = _in_sight(instance_map)
    here = np.flatnonzero(rows == row)
    frame = instance_map.last_frame
    if frame is None or not len(here):
        return np.zeros(0, np.int64)
    mask = instance_map.parts.mask(frame, pixels[here[0]])
    column, line = np.rint(pixels).astype(np.int64).T
    superpoints = instance_map.voxels.superpoints[rows]
    shown = np.bincount(superpoints, minlength=instance_map.superpoints)
    covered = np.bincount(superpoints, mask[line, column], instance_map.superpoints)
    return np.flatnonzero((shown > 0) & (covered >= HALF * shown))


def _in_sight(instance_map: InstanceMap) -> tuple[Integers, Floats]:
    """Rows (M,) of the voxels that the last view sees, and their pixels (M, 2)."""
    frame = instance_map.last_frame
    if frame is None or frame.depth is None:
        return np.zeros(0, np.int64), np.zeros((0, 2), np.float32)
    rows, places = instance_map.voxels.in_view(frame, instance_map.settings)
    column, line = np.rint(places[:, :2]).astype(np.int64).T
    near = np.abs(frame.depth[line, column] - places[:, 2]) < NEAR + SHARE * places[:, 2]
    return rows[near], places[near, :2]
