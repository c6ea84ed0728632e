# SPDX-License-Identifier: Apache-2.0
"""The street's curved coordinates and its ground: carriageway, kerbs, pavements, slopes, uneven lawns."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

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

    @property
    def s(self) -> Array:
        """s of every point of the line."""
        return self.start + _STEP * np.arange(len(self.headings))

    def heading(self, s: ArrayLike) -> Array:
        """Direction [rad] of the line at s."""
        return np.interp(s, self.s, self.headings)

    def to_world(self, s: ArrayLike, d: ArrayLike) -> Array:
        """World x, y (..., 2) of street coordinates."""
        heading = self.heading(s)
        x, y = (np.interp(s, self.s, self.points[:, k]) for k in (0, 1))
        return np.stack([x - d * np.sin(heading), y + d * np.cos(heading)], axis=-1)


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
        return np.any([(s > a) & (s < b) for a, b in self.gaps], axis=0) if self.gaps else np.zeros(s.shape, bool)

    def height(self, s: ArrayLike, d: ArrayLike) -> Array:
        """Height [m] of the ground at street coordinates."""
        s_, d_ = np.broadcast_arrays(np.asarray(s, np.float64), np.asarray(d, np.float64))
        base = (self.slope[:, 0, None] * np.sin(self.slope[:, 1, None] * s_.ravel() + self.slope[:, 2, None])).sum(axis=0).reshape(s_.shape)
        base += self.cross_fall * d_ - 0.015 * np.minimum(np.abs(d_), self.half_width)
        beside = (np.abs(d_) > self.half_width) & ~self.in_gap(s_)
        beyond = np.clip((np.abs(d_) - self.half_width - self.pavement) / 4.0, 0, 1) * beside
        a, ks, kd, phase = (self.relief[:, k, None] for k in range(4))
        uneven = (a * np.sin(ks * s_.ravel() + kd * d_.ravel() + phase)).sum(axis=0).reshape(s_.shape)
        return np.asarray(base + self.kerb * beside + uneven * (0.12 + 0.88 * beyond))

    def pose(self, s: float, d: float, yaw: float, wheelbase: float = 1.0) -> Array:
        """Pose (4, 4) of something that stands at (s, d) turned by yaw against the street, tilted with the ground under it."""
        heading = float(self.line.heading(s)) + yaw
        along, across = wheelbase * np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])
        offsets = np.array([along / 2, -along / 2, across / 2, -across / 2])
        ahead, behind, left, right = self.height(s + offsets[:, 0], d + offsets[:, 1])
        forward = np.array([np.cos(heading), np.sin(heading), (ahead - behind) / wheelbase])
        forward /= np.linalg.norm(forward)
        side = np.array([-np.sin(heading), np.cos(heading), left - right])
        up = np.cross(forward, side)
        up /= np.linalg.norm(up)
        pose = np.eye(4)
        pose[:3, :3] = np.stack([forward, np.cross(up, forward), up], axis=1)
        pose[:3, 3] = [*self.line.to_world(s, d), (ahead + behind) / 2]
        return pose

    def mesh(self) -> Mesh:
        """The surface, with sharp kerbs along the carriageway and the side streets."""
        first, last = self.line.s[0], self.line.s[-1]
        edges = [e + o for gap in self.gaps for e in gap for o in (-0.01, 0.01)]
        s = np.unique(np.concatenate([np.arange(first, last, 1.5), edges]))
        w, p = self.half_width, self.pavement
        half = np.concatenate([[w + 0.001, w + 0.02, w + p / 2, w + p], w + p + np.array([0.4, 1, 2, 3, 4.5, 6, 8, 11, 14, 18, 22, 27, 33, 40, self.depth])])
        d = np.concatenate([-half[::-1], np.linspace(-w, w, 7), half])
        ss, dd = np.meshgrid(s, d, indexing="ij")
        points = np.concatenate([self.line.to_world(ss, dd), self.height(ss, dd)[..., None]], axis=-1)
        return surface(points, self._materials(ss, dd))

    def _materials(self, ss: Array, dd: Array) -> NDArray[np.uint8]:
        s, d = (ss[:-1, :-1] + ss[1:, 1:]) / 2, np.abs(dd[:-1, :-1] + dd[1:, 1:]) / 2
        paved = np.where(d < self.half_width + self.pavement, Material.CONCRETE, self.soft)
        return np.where((d < self.half_width) | self.in_gap(s), Material.ASPHALT, paved).astype(np.uint8)


def random_line(rng: Rng, first: float, last: float, tightest: float) -> CentreLine:
    """A line that bends smoothly, no tighter than the radius [m] given."""
    s = np.arange(first, last + _STEP, _STEP)
    curvature = np.zeros_like(s)
    for _ in range(3):
        curvature += rng.normal() * np.sin(2 * np.pi * s / rng.uniform(80, 400) + rng.uniform(0, 2 * np.pi))
    curvature *= rng.uniform(0, 1) ** 2 / (tightest * max(np.abs(curvature).max(), 1e-9))
    return CentreLine(first, np.cumsum(curvature) * _STEP + rng.uniform(-np.pi, np.pi))


def random_waves(rng: Rng, grade: float, uneven: float) -> tuple[Array, Array]:
    """Slopes of up to `grade` along the street and waves of `uneven` metres beside it."""
    number = 2 * np.pi / rng.uniform(60, 300, 3)
    slope = np.stack([rng.uniform(-1, 1, 3) * grade / number / 2, number, rng.uniform(0, 2 * np.pi, 3)], axis=1)
    waves = 2 * np.pi / rng.uniform(3, 30, (8, 2)) * rng.choice([-1, 1], (8, 2))
    relief = np.concatenate([rng.normal(0, uneven / 2, (8, 1)), waves, rng.uniform(0, 2 * np.pi, (8, 1))], axis=1)
    return slope, relief
