# SPDX-License-Identifier: Apache-2.0
"""What the surfaces of a room look like: a texture that suits the material, and a colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.simulation.room_mesh import Image, RoomMesh, Surfaces
from perception_models.simulation.shapes import Material
from perception_models.simulation.textures import LAYERS, Textures

F32 = NDArray[np.float32]
Rng = np.random.Generator
PLAIN = LAYERS.index("plain")
# Kinds of texture that a material may have, of the building and of things; what is not named is plain.
_BUILDING = {
    Material.ASPHALT: ("planks", "planks", "tiles", "carpet", "carpet", "stone", "wood"),  # the floor
    Material.WALL: ("plaster", "plaster", "plaster", "plaster", "stripes", "cloth"),
    Material.CONCRETE: ("plaster",),
    Material.GLASS: ("outside",),
}
_THINGS = {
    Material.PAINT: ("wood", "wood", "wood", "plain", "print"),
    Material.CLOTH: ("cloth", "cloth", "stripes", "checks", "carpet"),
    Material.CONCRETE: ("stone",),
    Material.FOLIAGE: ("carpet",),
    Material.RETRO: ("print", "print", "picture", "photo"),
    Material.WALL: ("print", "plain"),
    Material.TYRE: ("print", "plain"),
    Material.SKIN: ("print", "plain"),
}
_OWN_COLOURS = ("print", "picture", "photo", "outside")  # a tint would spoil them
_PERIOD = {"print": 0.3, "picture": 0.6, "photo": 0.6, "outside": 3.0, "cloth": 0.15, "carpet": 0.4, "plaster": 1.5}


@dataclass(frozen=True)
class Looks:
    """One row a surface (S, ...): layer of the textures, colour (S, 3) linear, metres that a texture spans, and the
    light (S,) it gives by itself."""

    layer: NDArray[np.int64]
    colour: F32
    period: F32
    glow: F32
    textures: Textures

    @staticmethod
    def sample(rng: Rng, surfaces: Surfaces, plainness: float, photos: Sequence[Image] = ()) -> Looks:
        """Random looks; `plainness` is the share of surfaces without texture; `photos` join the layers."""
        count = len(surfaces.materials)
        kinds = [_kind(rng, *each) for each in zip(surfaces.materials.tolist(), surfaces.building, strict=True)]
        kinds = [k if k == "outside" or rng.random() > plainness else "plain" for k in kinds]
        names = (*LAYERS, *("photo" for _ in photos))
        layer = np.array([_layer(rng, names, kind) for kind in kinds])
        colour = np.where(surfaces.building[:, None], _pale(rng, count), _colours(rng, count))
        green = surfaces.materials == Material.FOLIAGE
        colour[green] = rng.uniform([0.15, 0.35, 0.08], [0.4, 0.65, 0.25], (int(green.sum()), 3))
        own = np.isin(kinds, _OWN_COLOURS)
        colour[own] = rng.uniform(0.75, 1.0, (int(own.sum()), 1))
        period = np.array([_PERIOD.get(kind, 0.8) for kind in kinds]) * np.exp(rng.normal(0, 0.4, count))
        images = list(photos)
        for number, (tint, image) in surfaces.skins.items():
            colour[number], period[number] = tint, 1.0
            layer[number] = PLAIN if image is None else len(LAYERS) + len(images)
            images += [] if image is None else [image]
        glow = np.where(np.array(kinds) == "outside", 1.0, 0.0)
        seed = int(rng.integers(2**31))
        linear = (colour**2).astype(np.float32)
        return Looks(layer, linear, period.astype(np.float32), glow.astype(np.float32), Textures(seed, images))

    def albedo(self, mesh: RoomMesh, face: NDArray[np.int32], points: F32, spread: F32) -> F32:
        """Linear colours (N, 3) of faces (N,) at points (N, 3), for pixels that cover `spread` (N,) metres there."""
        surface, map_ = mesh.surface[face], mesh.texture_map[face]
        period = self.period[surface]
        places = np.einsum("nij,nj->ni", map_[..., :3], points) + map_[..., 3]
        density = np.sqrt(np.einsum("nij,nij->n", map_[..., :3], map_[..., :3]) / 2)
        pattern = self.textures.sample(self.layer[surface], places / period[:, None], spread * density / period)
        return np.asarray(self.colour[surface] * pattern * pattern, np.float32)


def _kind(rng: Rng, material: int, building: bool) -> str:
    choices = (_BUILDING if building else _THINGS).get(Material(material), ("plain",))
    return choices[rng.integers(len(choices))]


def _layer(rng: Rng, names: Sequence[str], kind: str) -> int:
    """One of the layers of a kind; a picture where there are no photos."""
    sought = kind if kind in names else "picture"
    return int(rng.choice([number for number, name in enumerate(names) if name == sought]))


def _colours(rng: Rng, count: int) -> NDArray[np.float64]:
    """Colours (count, 3) as of indoor things: many greys, whites and browns, some bright."""
    value = rng.beta(1.6, 1.4, count)[:, None]
    grey = value * (1 + rng.normal(0, 0.04, (count, 3)))
    brown = value * np.array([1.0, 0.72, 0.48]) * (1 + rng.normal(0, 0.08, (count, 3)))
    bright = rng.random((count, 3)) ** 1.5
    kind = rng.choice(3, count, p=[0.5, 0.3, 0.2])[:, None]
    return np.asarray(np.clip(np.choose(kind, [grey, brown, bright]), 0.02, 0.98))


def _pale(rng: Rng, count: int) -> NDArray[np.float64]:
    """Colours (count, 3) as of walls and floors."""
    return np.clip(rng.uniform(0.45, 0.95, (count, 1)) * (1 + rng.normal(0, 0.06, (count, 3))), 0.1, 0.98)
