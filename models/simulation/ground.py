# SPDX-License-Identifier: Apache-2.0
"""The street's curved coordinates and its ground: carriageway, kerbs, pavements, slopes, uneven lawns."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perception_models.simulation.shapes import Material, Mesh, surface

Array = NDArray[np.float64]
Rng = np.random.Generator
_STEP = 0.5  # m between the points of a centre line


class CentreLine:
    """A smooth curve with street coordinates: s along it, d to its left."""

    def __init__(self, start: float, headings: Array) -> None:
        """Take the first s [m] and the heading [rad] at every half metre."""
        self.start, self.headings = start, headings
        step = _STEP * np.stack([np.cos(headings), np.sin(headings)], axis=1)
        path = np.concatenate([np.zeros((1, 2)), np.cumsum(step, axis=0)[:-1]])
        self.points = path - path[round(-start / _STEP)]
        self.s = start + _STEP * np.arange(len(headings))

    def heading(self, s: Array | float) -> Array:
        """Direction [rad] of the line at s."""
        return np.asarray(np.interp(s, self.s, self.headings), np.float64)

    def to_world(self, s: Array | float, d: Array | float) -> Array:
        """World x, y (..., 2) of street coordinates."""
        heading = self.heading(s)
        x, y = (np.asarray(np.interp(s, self.s, self.points[:, k]), np.float64) for k in (0, 1))
        offset = np.asarray(d, np.float64)
        return np.stack([x - offset * np.sin(heading), y + offset * np.cos(heading)], axis=-1)


@dataclass(frozen=True)
class Ground:
    """Height and material of the ground in street coordinates."""

    line: CentreLine
    half_width: float  # m, of the carriageway
    kerb: float  # m
    pavement: float  # m
    gaps: tuple[tuple[float, float], ...]  # s intervals of side streets
    depth: float  # m, how far the ground reaches to either side
    slope: Array  # (W, 3) amplitude, wave number, phase along s
    relief: Array  # (W, 4) amplitude, two wave numbers, phase of the unevenness off the road
    cross_fall: float
    soft: Material  # what lies beyond the pavement

    def in_gap(self, s: Array) -> NDArray[np.bool_]:
        """Whether s lies in a side street."""
        inside = [(s > a) & (s < b) for a, b in self.gaps]
        return np.asarray(np.any(inside, axis=0)) if inside else np.zeros(s.shape, bool)

    def height(self, s: Array | float, d: Array | float) -> Array:
        """Height [m] of the ground at street coordinates."""
        s_, d_ = np.broadcast_arrays(np.asarray(s, np.float64), np.asarray(d, np.float64))
        base = (
            (self.slope[:, 0, None] * np.sin(self.slope[:, 1, None] * s_.ravel() + self.slope[:, 2, None]))
            .sum(axis=0)
            .reshape(s_.shape)
        )
        base += self.cross_fall * d_ - 0.015 * np.minimum(np.abs(d_), self.half_width)
        beside = (np.abs(d_) > self.half_width) & ~self.in_gap(s_)
        beyond = np.clip((np.abs(d_) - self.half_width - self.pavement) / 4.0, 0, 1) * beside
        a, ks, kd, phase = (self.relief[:, k, None] for k in range(4))
        uneven = (a * np.sin(ks * s_.ravel() + kd * d_.ravel() + phase)).sum(axis=0).reshape(s_.shape)
        return np.asarray(base + self.kerb * beside + uneven * (0.12 + 0.88 * beyond))

    def pose(self, s: float, d: float, yaw: float, wheelbase: float = 1.0) -> Array:
        """Pose (4, 4) of something at (s, d), turned by yaw against the street, tilted with the ground under it."""
        heading = float(self.line.heading(s)) + yaw
        c, q = np.cos(yaw), np.sin(yaw)
        reach = wheelbase / 2
        ahead, behind, left, right = self.height(
            s + np.array([c * reach, -c * reach, -q / 2, q / 2]), d + np.array([q * reach, -q * reach, c / 2, -c / 2])
        )
        pose = _tilted(heading, (ahead - behind) / wheelbase, left - right)
        pose[:3, 3] = [*self.line.to_world(s, d), (ahead + behind) / 2]
        return pose

    def mesh(self) -> Mesh:
        """The surface, with sharp kerbs along the carriageway and the side streets."""
        first, last = self.line.s[0], self.line.s[-1]
        edges = [e + o for gap in self.gaps for e in gap for o in (-0.01, 0.01)]
        s = np.unique(np.concatenate([np.arange(first, last, 1.5), edges]))
        w, p = self.half_width, self.pavement
        half = np.concatenate(
            [
                [w + 0.001, w + 0.02, w + p / 2, w + p],
                w + p + np.array([0.4, 1, 2, 3, 4.5, 6, 8, 11, 14, 18, 22, 27, 33, 40, self.depth]),
            ]
        )
        d = np.concatenate([-half[::-1], np.linspace(-w, w, 7), half])
        ss, dd = np.meshgrid(s, d, indexing="ij")
        points = np.concatenate([self.line.to_world(ss, dd), self.height(ss, dd)[..., None]], axis=-1)
        return surface(points, self._materials(ss, dd))

    def _materials(self, ss: Array, dd: Array) -> NDArray[np.uint8]:
        s, d = (ss[:-1, :-1] + ss[1:, 1:]) / 2, np.abs(dd[:-1, :-1] + dd[1:, 1:]) / 2
        paved = np.where(d < self.half_width + self.pavement, Material.CONCRETE, self.soft)
        return np.asarray(np.where((d < self.half_width) | self.in_gap(s), Material.ASPHALT, paved), np.uint8)


def _tilted(heading: float, climb: float, bank: float) -> Array:
    """Pose (4, 4) at the origin with x along the heading [rad] on a plane that climbs ahead and to the left."""
    c, s = np.cos(heading), np.sin(heading)
    long = np.sqrt(1 + climb**2)
    fx, fy, fz = c / long, s / long, climb / long
    ux, uy, uz = fy * bank - fz * c, -s * fz - fx * bank, fx * c + fy * s
    tall = np.sqrt(ux**2 + uy**2 + uz**2)
    ux, uy, uz = ux / tall, uy / tall, uz / tall
    side = (uy * fz - uz * fy, uz * fx - ux * fz, ux * fy - uy * fx)
    return np.array([[fx, side[0], ux, 0], [fy, side[1], uy, 0], [fz, side[2], uz, 0], [0, 0, 0, 1]], np.float64)


def random_line(rng: Rng, first: float, last: float, tightest: float, least_bend: float) -> CentreLine:
    """A line that bends smoothly, no tighter than a radius [m]; least_bend 0 allows it to be straight."""
    s = np.arange(first, last + _STEP, _STEP)
    curvature = np.zeros_like(s)
    for _ in range(3):
        curvature += rng.normal() * np.sin(2 * np.pi * s / rng.uniform(80, 400) + rng.uniform(0, 2 * np.pi))
    curvature *= rng.uniform(least_bend, 1) ** 2 / (tightest * max(np.abs(curvature).max(), 1e-9))
    return CentreLine(first, np.cumsum(curvature) * _STEP + rng.uniform(-np.pi, np.pi))


def random_waves(rng: Rng, grade: float, uneven: float) -> tuple[Array, Array]:
    """Slopes of up to `grade` along the street and waves of `uneven` metres beside it."""
    number = 2 * np.pi / rng.uniform(60, 300, 3)
    slope = np.stack([rng.uniform(-1, 1, 3) * grade / number / 2, number, rng.uniform(0, 2 * np.pi, 3)], axis=1)
    waves = 2 * np.pi / rng.uniform(3, 30, (8, 2)) * rng.choice([-1, 1], (8, 2))
    relief = np.concatenate([rng.normal(0, uneven / 2, (8, 1)), waves, rng.uniform(0, 2 * np.pi, (8, 1))], axis=1)
    return slope, relief
