# SPDX-License-Identifier: Apache-2.0
"""Furnished rooms with truth: what a camera sees of them in colour and depth, and which thing it sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry import se3
from perception_models.geometry.cameras import RgbdFrame
from perception_models.simulation.furniture import AGAINST_WALLS, CLUTTER, chair, choose, table
from perception_models.simulation.raycast import Hits
from perception_models.simulation.rgbd_camera import RgbdCamera, sense_depth
from perception_models.simulation.room_light import Light, shade
from perception_models.simulation.room_mesh import RoomMesh, Thing, assemble
from perception_models.simulation.room_shell import Plan, shell
from perception_models.simulation.shapes import Mesh
from perception_models.simulation.textures import Textures

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
    textures: Textures
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
            rgb = shade(self, origins, directions, hits, rng).reshape(*shape, 3)
        return RoomView(RgbdFrame(rgb, depth, camera.matrix, pose), true_depth, instances)


def sample_room(rng: Rng, furnished: bool = True) -> Room:
    """A room at random: its walls, furniture along them and in groups, and clutter on top, in stacks too."""
    plan = Plan.sample(rng)
    building, hangings = shell(plan, rng)
    things = [Thing(part, 0) for part in building]
    things += [Thing(part, number) for number, part in enumerate(hangings, start=1)]
    if furnished:
        furniture = _furniture(plan, rng)
        things += [Thing(part, len(hangings) + number) for number, part in enumerate(furniture, start=1)]
        for layer in range(2):
            things += _dropped(plan, things, rng, count=int(rng.integers(20, 60)) if layer == 0 else 15)
    mesh = assemble(things)
    plainness = rng.uniform(0.15, 0.8)
    lights = Light.sample(rng, plan.length, plan.width, plan.height)
    return Room(plan, mesh, Textures.sample(rng, mesh.surface_count, plainness), lights)


def _furniture(plan: Plan, rng: Rng) -> list[Mesh]:
    """Pieces along the walls and groups of a table with chairs, none of which overlap."""
    taken: list[tuple[float, float, float]] = []
    pieces: list[Mesh] = []
    for _ in range(int(rng.integers(25, 45))):
        x, y, yaw, span = plan.walls[rng.integers(4)]
        piece = choose(AGAINST_WALLS, rng)
        depth, width, _ = piece.size
        along = rng.uniform(-0.5, 0.5) * max(span - width, 0.0)
        gap = depth / 2 + rng.uniform(0.02, 0.06)
        place = (x + gap * np.cos(yaw) - along * np.sin(yaw), y + gap * np.sin(yaw) + along * np.cos(yaw))
        turned = yaw if rng.random() < 0.9 else yaw + rng.normal(0, 0.2)
        _put(piece, place, turned, plan, taken, pieces)
    for _ in range(int(rng.integers(1, 4))):
        middle = (rng.uniform(0.8, plan.length - 0.8), rng.uniform(0.8, plan.width - 0.8))
        _group(middle, plan, taken, pieces, rng)
    return pieces


def _group(
    middle: tuple[float, float], plan: Plan, taken: list[tuple[float, float, float]], pieces: list[Mesh], rng: Rng
) -> None:
    top, yaw = table(rng), rng.uniform(-np.pi, np.pi)
    if not _put(top, middle, yaw, plan, taken, pieces):
        return
    for _ in range(int(rng.integers(1, 6))):
        angle = rng.uniform(-np.pi, np.pi)
        reach = 0.5 * max(top.size[:2]) + rng.uniform(0.2, 0.45)
        place = (middle[0] + reach * np.cos(angle), middle[1] + reach * np.sin(angle))
        _put(chair(rng), place, angle + np.pi + rng.normal(0, 0.3), plan, taken, pieces)


def _put(
    piece: Mesh,
    place: tuple[float, float],
    yaw: float,
    plan: Plan,
    taken: list[tuple[float, float, float]],
    pieces: list[Mesh],
) -> bool:
    """Put a piece where it stands free, covered by discs along its longer side; tells whether it did."""
    length, width, _ = piece.size
    radius, reach = min(length, width) / 2, abs(length - width) / 2
    lie = yaw if length > width else yaw + np.pi / 2
    steps = np.linspace(-reach, reach, 1 + int(np.ceil(reach / max(radius, 0.05))))
    discs = [(place[0] + s * np.cos(lie), place[1] + s * np.sin(lie), radius) for s in steps]
    xs, ys, radii = np.array(discs).T
    free = all(np.hypot(x - a, y - b) > 0.9 * (r + c) for x, y, r in discs for a, b, c in taken)
    if not free or not plan.holds(xs, ys, 0.7 * float(radii[0])).all():
        return False
    taken.extend(discs)
    pieces.append(piece.moved(place[0], place[1], 0.0, yaw))
    return True


def _dropped(plan: Plan, things: list[Thing], rng: Rng, count: int) -> list[Thing]:
    """Clutter that lies on level surfaces, found by rays cast down in one batch."""
    mesh = assemble(things)
    places = rng.uniform([0, 0], [plan.length, plan.width], (40 * count, 2))
    heights = rng.uniform(0.5, plan.height - 0.05, len(places))
    origins = np.column_stack([places, heights]).astype(np.float32)
    hits = mesh.caster.cast(origins, np.broadcast_to(np.float32([0, 0, -1]), origins.shape).copy())
    level = (hits.face >= 0) & (np.abs(mesh.normals[hits.face, 2]) > 0.97)
    z = heights - hits.distance
    raised = np.flatnonzero(level & (z > 0.3) & (z < 1.9))[:count]
    floor = np.flatnonzero(level & (np.abs(z) < 0.01))[: count // 5]
    first = max(thing.instance for thing in things) + 1
    chosen = np.concatenate([raised, floor])
    return [
        Thing(choose(CLUTTER, rng).moved(*places[index], z=z[index], yaw=rng.uniform(-np.pi, np.pi)), first + number)
        for number, index in enumerate(chosen)
    ]
