# SPDX-License-Identifier: Apache-2.0
"""Furnished rooms with truth: what a camera sees of them in colour and depth, and which thing it sees."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry import se3
from perception_models.geometry.cameras import RgbdFrame
from perception_models.simulation.raycast import Hits
from perception_models.simulation.rgbd_camera import RgbdCamera, sense_depth
from perception_models.simulation.room_catalogue import PROCEDURAL, Catalogue
from perception_models.simulation.room_layout import drop, furnish, heap_places
from perception_models.simulation.room_light import Light, develop, shade
from perception_models.simulation.room_looks import Looks
from perception_models.simulation.room_mesh import RoomMesh, Thing, assemble
from perception_models.simulation.room_shell import Plan, shell

F32 = NDArray[np.float32]
Matrix = NDArray[np.float64]
Rng = np.random.Generator


@dataclass(frozen=True)
class RoomView:
    """What one camera saw: the frame as its sensors give it, the exact depth (H, W) in metres, 0 where nothing is hit,
    and the instance (H, W) of each pixel, 0 for the building."""

    frame: RgbdFrame
    true_depth: F32
    instances: NDArray[np.int32]


@dataclass(frozen=True)
class Room:
    """A static room; world frame z up, floor at z = 0, metres."""

    plan: Plan
    mesh: RoomMesh
    looks: Looks
    lights: tuple[Light, ...]

    def cast(self, origins: NDArray[np.floating], directions: NDArray[np.floating]) -> Hits:
        """Nearest surfaces of rays (N, 3) with unit directions (N, 3) in the world."""
        return self.mesh.caster.cast(origins.astype(np.float32), directions.astype(np.float32))

    def render(self, pose: Matrix, camera: RgbdCamera, rng: Rng, color: bool = True) -> RoomView:
        """The view of a camera at `pose` (4, 4), optical frame -> world; black where `color` is False, much faster."""
        rays = camera.rays()
        lengths = np.linalg.norm(rays, axis=1)
        directions = se3.apply(se3.make(pose[:3, :3], np.zeros(3)), rays / lengths[:, None])
        origins = np.broadcast_to(pose[:3, 3].astype(np.float32), directions.shape)
        hits = self.cast(origins, directions)
        hit = hits.face >= 0
        shape = camera.height, camera.width
        true_depth = np.where(hit, hits.distance / lengths, 0).astype(np.float32).reshape(shape)
        instances = np.where(hit, self.mesh.instances[hits.face], 0).astype(np.int32).reshape(shape)
        cosine = np.abs(np.einsum("ij,ij->i", self.mesh.normals[hits.face], directions)).reshape(shape)
        swallowed = (self.mesh.swallows[hits.face] & hit).reshape(shape)
        depth = sense_depth(true_depth, cosine, swallowed, camera, rng)
        rgb = np.zeros((*shape, 3), np.uint8)
        if color:
            rgb = develop(shade(self, origins, directions, hits, 1 / camera.focal_length).reshape(*shape, 3), rng)
        return RoomView(RgbdFrame(rgb, depth, camera.matrix, pose), true_depth, instances)


def sample_room(rng: Rng, furnished: bool = True, catalogue: Catalogue = PROCEDURAL, heaps: int = 0) -> Room:
    """A room at random: its walls, furniture along them and in groups, and clutter on top, in stacks too; `heaps` are
    places where it is crowded.

    The same state of `rng` gives the same room everywhere, unless `catalogue` adds models that were fetched.
    """
    plan = Plan.sample(rng)
    building, hangings = shell(plan, rng)
    things = [Thing(mesh) for mesh in building]
    pieces = [Thing(mesh) for mesh in hangings] + (furnish(plan, rng, catalogue) if furnished else [])
    things += [replace(piece, instance=number) for number, piece in enumerate(pieces, start=1)]
    for count in (int(rng.integers(30, 90)), 20) if furnished else ():
        things += drop(plan, things, rng, catalogue, count)
    crowded = heap_places(things, rng, heaps) if heaps else np.zeros((0, 2))
    for count in (10, 10, 6) if len(crowded) else ():
        things += drop(plan, things, rng, catalogue, count * len(crowded), crowded)
    mesh = assemble(things)
    looks = Looks.sample(rng, mesh.surfaces, rng.uniform(0.1, 0.8), catalogue.some_photos(rng, 12))
    return Room(plan, mesh, looks, Light.sample(rng, plan.length, plan.width, plan.height))
