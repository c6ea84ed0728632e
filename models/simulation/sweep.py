# SPDX-License-Identifier: Apache-2.0
"""One sweep of a sensor through a street with its actors, and the truth about it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry import se3
from perception_models.simulation.actors import Actor
from perception_models.simulation.frame import LidarFrame
from perception_models.simulation.scan import Motion, scan
from perception_models.simulation.scene import Placed, Scene, assemble
from perception_models.simulation.unit import Unit

Array = NDArray[np.float64]


def sweep(
    static: Scene,
    parked: Sequence[Actor],
    moving: Sequence[Actor],
    unit: Unit,
    motion: Motion,
    rng: np.random.Generator,
    stamp: float,
    label_range: float,
) -> LidarFrame:
    """Scan the static scene, which holds the parked actors, and the moving ones; list objects to label_range [m]."""
    present = [_when_met(actor, unit, motion) for actor in moving]
    scenes = [static, assemble([Placed.of(actor) for actor, _ in present])] if present else [static]
    met = present + [_when_met(actor, unit, motion) for actor in parked]
    returns = scan(scenes, unit, motion, rng)
    boxes = np.array([_box(actor, motion.at(time)) for actor, time in met], np.float32).reshape(-1, 7)
    near = np.flatnonzero(np.hypot(boxes[:, 0], boxes[:, 1]) < label_range)
    listed = [met[k][0] for k in near]
    counts = np.bincount(
        returns.instance[returns.instance >= 0], minlength=max([a.track_id for a in listed], default=0) + 1
    )
    ids = np.array([a.track_id for a in listed], np.int64)
    labels = np.array([a.model.label for a in listed], np.int64)
    return LidarFrame(
        stamp,
        returns.points,
        returns.rings,
        returns.times,
        motion.pose,
        boxes[near],
        labels,
        ids,
        counts[ids].astype(np.int64),
        returns.instance,
    )


def _when_met(actor: Actor, unit: Unit, motion: Motion) -> tuple[Actor, float]:
    """The actor where it is when the beam passes over it, and when that is [s since the start of the sweep]."""
    local = se3.apply(se3.inverse(motion.pose), actor.position)
    time = unit.time_of(float(np.arctan2(local[1], local[0])))
    pose = actor.pose.copy()
    pose[:2, 3] += time * np.array(actor.velocity)
    return replace(actor, pose=pose), time


def _box(actor: Actor, sensor: Array) -> Array:
    """Box (7,) in the sensor frame; its yaw is that of the heading seen from above the sensor."""
    length, width, height = actor.model.size
    local = se3.inverse(sensor) @ actor.pose
    centre = local[:3, 3] + local[:3, 2] * height / 2
    return np.array([*centre, length, width, height, np.arctan2(local[1, 0], local[0, 0])])
