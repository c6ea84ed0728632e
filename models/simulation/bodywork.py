# SPDX-License-Identifier: Apache-2.0
"""The lofted body of a car: lower body along its length, glasshouse along its height, then wheels and interior."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.simulation.shapes import Material, Mesh, box, ellipsoid, fan, merge, surface, tube

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CarForm:
    """Proportions of a car: sizes in metres; positions as shares of the length from the front, or of the height."""

    length: float
    width: float
    height: float
    hood: float
    screen: float
    roof_end: float
    tail: float
    nose: float
    belt: float
    wheel_radius: float
    clearance: float
    tumblehome: float  # narrowing of the cabin from the belt to the roof / half width
    glazed_to: float  # share of the cabin behind which the sides are closed (panel van)
    open_bed: bool

    def x(self, share: float) -> float:
        """Longitudinal position [m] of a share of the length from the front."""
        return (0.5 - share) * self.length

    @property
    def axles(self) -> tuple[float, float]:
        """Longitudinal positions [m] of the front and rear axle."""
        return self.x(0.185 + 0.02 * (self.length - 4.2)), self.x(0.80)


def car(form: CarForm, rng: np.random.Generator) -> Mesh:
    """The whole car, filling length x width x height exactly; only its mirrors reach beyond."""
    half = form.width / 2
    rolling = wheels(form.axles, half - 0.015, half - 0.22, form.wheel_radius, 10)
    body = merge([_lower_body(form, rng), _glasshouse(form, rng), *rolling, *_interior(form, rng), *_plates(form)])
    if form.open_bed:
        body = merge([body, *_bed(form)])
    return merge([body.fitted(form.length, form.width, form.height), *_mirrors(form, rng)])


def _deck(form: CarForm, x: Array, rng: np.random.Generator) -> Array:
    """Height of the lower body's upper edge along x: nose, bonnet, belt line, boot."""
    h = form.height
    rear = form.belt * h * rng.uniform(0.97, 1.04)
    knots = [form.x(1.0), form.x(0.985), form.x(0.93), form.x(form.hood), form.x(0.05), form.x(0.012), form.x(0.0)]
    tail = 0.92 if form.tail < 0.93 else 0.98
    heights = [
        rear * 0.86,
        rear * tail,
        rear,
        form.belt * h,
        form.nose * h,
        form.nose * h * 0.93,
        form.nose * h * rng.uniform(0.78, 0.88),
    ]
    return np.interp(x, knots, heights)


def _stations(form: CarForm) -> Array:
    """Where the body is cut: dense at the ends and over the wheel arches."""
    ends = np.array([0.0, 0.006, 0.02, 0.045, 0.085])
    arch = form.wheel_radius * 1.12 * np.array([-1.02, -0.98, -0.6, 0.0, 0.6, 0.98, 1.02])
    middle = np.array([form.hood, 0.5, 0.62])
    shares = np.concatenate([ends, middle, 1.0 - ends])
    x = np.concatenate([form.x(0.0) - shares * form.length, *(a + arch for a in form.axles)])
    return np.unique(np.round(x, 3))


def _lower_body(form: CarForm, rng: np.random.Generator) -> Mesh:
    x = _stations(form)
    half, top = form.width / 2, _deck(form, x, rng)
    along = np.clip((np.abs(x) - 0.27 * form.length) / (0.23 * form.length), 0, 1)
    bow = np.where(x > 0, rng.uniform(0.16, 0.34), rng.uniform(0.10, 0.24))
    w = half * (1 - bow * along ** rng.uniform(2.6, 4.5))
    sill = form.clearance + rng.uniform(0.05, 0.16) * along**4
    radius = form.wheel_radius * 1.12
    arch = np.max(
        [
            np.sqrt(np.clip(radius**2 - (x - a) ** 2, 0, None)) + form.wheel_radius * (np.abs(x - a) < radius)
            for a in form.axles
        ],
        axis=0,
    )
    bulge = rng.uniform(0.42, 0.60)
    middle = np.maximum(sill + bulge * (top - sill), np.minimum(arch + 0.06, top - 0.06))
    y = np.stack([0 * w, 0.70 * w, 0.94 * w, 0.985 * w, w, 0.975 * w, 0.91 * w, 0 * w], axis=1)
    z = np.stack(
        [
            sill,
            sill,
            np.maximum(sill, arch),
            np.maximum(sill + 0.12 * (top - sill), arch + 0.02),
            middle,
            top - 0.05,
            top,
            top + rng.uniform(0.0, 0.04),
        ],
        axis=1,
    )
    half_ring = np.stack([np.broadcast_to(x[:, None], y.shape), y, z], axis=-1)
    ring = np.concatenate([half_ring, half_ring[:, -2:0:-1] * [1, -1, 1]], axis=1)
    skin = surface(ring, Material.PAINT, closed=True)
    return merge([_without_deck(form, skin), fan(ring[0], Material.PAINT), fan(ring[-1], Material.PAINT)])


def _without_deck(form: CarForm, skin: Mesh) -> Mesh:
    """Open the upper side where the cabin (or the load bed) stands, so that light reaches the interior."""
    centre = skin.vertices[skin.faces].mean(axis=1)
    rear = 0.985 if form.open_bed else form.tail - 0.02
    inside = (centre[:, 0] < form.x(form.hood + 0.01)) & (centre[:, 0] > form.x(rear))
    upward = (np.abs(centre[:, 1]) < 0.4 * form.width) & (centre[:, 2] > 0.5 * form.belt * form.height + 0.2)
    keep = ~(inside & upward)
    return Mesh(skin.vertices, skin.faces[keep], skin.materials[keep])


def _glasshouse(form: CarForm, rng: np.random.Generator) -> Mesh:
    """Cabin from the belt to the roof; windows between pillars, closed behind `glazed_to`."""
    belt, h = form.belt * form.height - 0.02, form.height
    level = np.array([0.0, 0.42, 0.80, 0.93, 0.985, 1.0])
    inset = np.array([0.0, 0.0, 0.0, 0.012, 0.06, 0.22])
    lean = np.minimum(level / 0.93, 1.0)
    front = form.x(form.hood) + lean * (form.x(form.hood + form.screen) - form.x(form.hood)) - inset * 1.2
    rear = form.x(form.tail) + lean ** rng.uniform(1.0, 1.6) * (form.x(form.roof_end) - form.x(form.tail)) + inset * 1.2
    half = 0.955 * form.width / 2 * (1 - form.tumblehome * level) - inset
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False) + np.pi / 24
    power = 2.0 / rng.uniform(4.0, 7.0)
    across, along = (np.sign(f) * np.abs(f) ** power for f in (np.sin(angle), np.cos(angle)))
    x = (front + rear)[:, None] / 2 + (front - rear)[:, None] / 2 * along
    rings = np.stack(
        [x, half[:, None] * across, np.broadcast_to((belt + level * (h - belt))[:, None], x.shape)], axis=-1
    )
    cells = _glazing(form, 0.5 * (rings[:, :, 0] + np.roll(rings[:, :, 0], -1, axis=1))[:-1], angle, rng)
    return merge([surface(rings, cells, closed=True), fan(rings[-1], Material.PAINT)])


def _glazing(form: CarForm, x: Array, angle: Array, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Material of each cell of the glasshouse, (levels, cells)."""
    material = np.full(x.shape, Material.PAINT, np.uint8)
    middle = np.abs(np.mod(angle + np.pi / 24, np.pi))
    side = (middle > np.radians(50)) & (middle < np.radians(130))
    end = (middle < np.radians(36)) | (middle > np.radians(144))
    pillar = rng.choice([3, 9])
    glazed = np.where(side, (np.arange(24) % 12 != pillar), end)
    share = (form.x(form.hood) - x) / (form.x(form.hood) - form.x(form.tail))
    material[:2, :] = np.where(glazed & (share[:2] <= form.glazed_to), Material.GLASS, Material.PAINT)
    return material


def wheels(axles: Sequence[float], outside: float, inside: float, radius: float, sides: int) -> list[Mesh]:
    """Wheels on both sides of axles at x, from `outside` to `inside` of the middle line, all in metres."""
    return [
        tube([x, s * outside, radius], [x, s * inside, radius], radius, radius, Material.TYRE, sides)
        for x in axles
        for s in (-1, 1)
    ]


def _interior(form: CarForm, rng: np.random.Generator) -> list[Mesh]:
    """Floor, dashboard, seat rows with head-rests, sometimes a driver."""
    belt, width = form.belt * form.height, 0.8 * form.width
    start, end = form.x(form.hood + 0.02), form.x(min(form.tail, form.roof_end + 0.05) - 0.02)
    parts = [box([start - end, width, 0.05], [(start + end) / 2, 0, form.clearance + 0.12], Material.INTERIOR)]
    parts.append(box([0.45, width, 0.3], [start - 0.25, 0, belt - 0.18], Material.INTERIOR))
    rows = np.arange(start - 1.25, end + 0.35, -rng.uniform(0.8, 0.95))[: 2 if form.glazed_to == 1.0 else 1]
    for row in rows:
        for side in (-0.25, 0.25):
            parts.append(
                box([0.5, 0.48, 0.25], [row + 0.2, side * width * 1.1, form.clearance + 0.3], Material.INTERIOR)
            )
            parts.append(
                box([0.14, 0.48, 0.62], [row - 0.1, side * width * 1.1, form.clearance + 0.62], Material.INTERIOR)
            )
            parts.append(
                box(
                    [0.1, 0.24, 0.2],
                    [row - 0.12, side * width * 1.1, min(belt + 0.16, form.height - 0.2)],
                    Material.INTERIOR,
                )
            )
    if rng.random() < 0.4 and len(rows):
        parts.append(ellipsoid([0.13, 0.21, 0.35], [rows[0], 0.27 * width, belt - 0.05], Material.CLOTH, 6))
        parts.append(
            ellipsoid(
                [0.10, 0.09, 0.12], [rows[0], 0.27 * width, min(belt + 0.32, form.height - 0.16)], Material.SKIN, 6
            )
        )
    return parts


def _plates(form: CarForm) -> list[Mesh]:
    """Number plates and lamps: the bright returns of a car."""
    parts = [box([0.01, 0.5, 0.11], [s * (form.length / 2 - 0.003), 0, 0.42], Material.RETRO) for s in (-1, 1)]
    lamp = form.nose * form.height * 0.84
    parts += [
        box([0.03, 0.25, 0.1], [s * form.length * 0.478, t * form.width * 0.37, lamp], Material.RETRO)
        for s in (-1, 1)
        for t in (-1, 1)
    ]
    return parts


def _bed(form: CarForm) -> list[Mesh]:
    """Load bed of a pick-up."""
    start, end = form.x(form.tail), form.x(0.985)
    return [
        box([start - end, 0.84 * form.width, 0.04], [(start + end) / 2, 0, form.clearance + 0.45], Material.METAL),
        box([0.04, 0.86 * form.width, 0.5], [start, 0, form.belt * form.height - 0.3], Material.PAINT),
    ]


def _mirrors(form: CarForm, rng: np.random.Generator) -> list[Mesh]:
    out, up = form.width / 2 + rng.uniform(0.02, 0.07), form.belt * form.height + 0.06
    return [ellipsoid([0.07, 0.1, 0.07], [form.x(form.hood + 0.09), s * out, up], Material.PAINT, 4) for s in (-1, 1)]
