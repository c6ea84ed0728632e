# SPDX-License-Identifier: Apache-2.0
"""Boxes on a floor and a camera that looks at them: a world whose every pixel and instance is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from perception_models.geometry import se3
from perception_models.geometry.cameras import RgbdFrame, camera_matrix, project, rays, resize_matrix
from perception_models.segmentation.evidence import Evidence
from perception_models.segmentation.neighbours import estimate_normals

WIDTH, HEIGHT = 160, 120
MATRIX = camera_matrix(140.0, WIDTH, HEIGHT)
# Three boxes x y z l w h on the floor, each of a colour of its own: instances 1, 2, 3; the floor is 0.
BOXES = np.array([[0.0, 0.0, 0.15, 0.4, 0.3, 0.3], [0.7, 0.2, 0.1, 0.3, 0.3, 0.2], [0.3, -0.6, 0.2, 0.2, 0.2, 0.4]])
COLORS = np.array([[120, 120, 120], [200, 60, 60], [60, 180, 60], [60, 80, 200]], np.uint8)


def looking(eye, target) -> np.ndarray:
    """Pose (4, 4), optical frame -> world, of a camera at `eye` that looks at `target`, level."""
    forward = (np.asarray(target, float) - eye) / np.linalg.norm(np.asarray(target, float) - eye)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    return se3.make(np.column_stack([right, np.cross(forward, right), forward]), eye)


def around(angle: float, radius: float = 1.6, height: float = 1.2) -> np.ndarray:
    """Pose of a camera that goes around the boxes and looks at their middle."""
    middle = BOXES[:, :3].mean(axis=0)
    return looking(middle + [radius * np.cos(angle), radius * np.sin(angle), height], middle)


def view(pose: np.ndarray, boxes: np.ndarray = BOXES, shrink: int = 1) -> tuple[RgbdFrame, np.ndarray]:
    """Frame and instance (H, W) of each pixel, -1 where nothing is hit. Light falls from above and aside."""
    height, width, matrix = HEIGHT // shrink, WIDTH // shrink, resize_matrix(MATRIX, 1 / shrink)
    directions = se3.apply(se3.make(pose[:3, :3], np.zeros(3)), rays(matrix, width, height).astype(float))
    eye = pose[:3, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        floor = np.where(directions[..., 2] < 0, -eye[2] / directions[..., 2], np.inf)
        depth, instance = floor, np.where(np.isfinite(floor), 0, -1)
        shine = np.full(depth.shape, 1.0)
        for number, box in enumerate(boxes, start=1):
            ends = (box[:3] + np.array([[-0.5], [0.5]]) * box[3:] - eye)[:, None, None] / directions
            enter, leave = ends.min(axis=0), ends.max(axis=0)
            distance, axis = enter.max(axis=-1), enter.argmax(axis=-1)
            hit = (distance < leave.min(axis=-1)) & (distance > 0) & (distance < depth)
            depth, instance = np.where(hit, distance, depth), np.where(hit, number, instance)
            shine = np.where(hit, np.array([0.7, 0.85, 1.0])[axis], shine)
    shown = np.where(np.isfinite(depth) & (depth < 6), depth, 0).astype(np.float32)
    rgb = (COLORS[np.minimum(np.maximum(instance, 0), 3)] * shine[..., None] * (shown > 0)[..., None]).astype(np.uint8)
    return RgbdFrame(rgb, shown, matrix, pose), instance


@dataclass(frozen=True)
class NoInfo:
    backend: str = "fake"
    precision: str = "fp32"


@dataclass
class TrueParts:
    """Parts of a map that know the truth: the instances of each frame, and no more."""

    engine_info: Any = field(default_factory=NoInfo)
    truth: dict[bytes, np.ndarray] = field(default_factory=dict)
    reach: float = 0.08
    closed: int = 0

    def view(self, pose: np.ndarray, boxes: np.ndarray = BOXES, shrink: int = 1) -> RgbdFrame:
        """A frame whose instances it knows from now on."""
        frame, instances = view(pose, boxes, shrink)
        self.truth[frame.rgb.tobytes()] = instances
        return frame

    def normals(self, points, viewpoint):
        return estimate_normals(points, 12, viewpoint)

    def divide(self, points, normals, colors):
        """Connected points whose normals look the same way and whose colours are alike."""
        kinds = np.column_stack([np.rint(normals), colors // 40])
        first, second = cKDTree(points).query_pairs(self.reach, output_type="ndarray").reshape(-1, 2).T
        same = (kinds[first] == kinds[second]).all(axis=1)
        return components(len(points), first[same], second[same])

    def look(self, frame, points, labels):
        """Pairs of super-points in view overlap where the truth says that they are one instance."""
        truth = self.truth[frame.rgb.tobytes()]
        local = se3.apply(se3.inverse(frame.pose), points)
        x, y = np.rint(project(local, frame.camera_matrix)).astype(int).T
        seen = np.abs(frame.depth[y, x] - local[:, 2]) < 0.05
        table = np.zeros((labels.max() + 1, 5))
        np.add.at(table, (labels[seen], np.maximum(truth[y, x][seen], 0)), 1)
        # What is small or lies across an edge is no part of one thing.
        names = np.flatnonzero(table.max(axis=1) > np.maximum(0.9 * table.sum(axis=1), 20))
        most = table[names].argmax(axis=1)
        one, other = np.triu_indices(len(names), 1)
        overlap = (most[one] == most[other]).astype(np.float32)
        features = np.eye(5, dtype=np.float32)[most]
        return Evidence(names, features, np.column_stack([names[one], names[other]]), overlap, np.ones_like(overlap))

    def group(self, surface, evidence):
        """What is one thing in most views."""
        one, other = evidence.pairs[evidence.agreement > 0.5].T
        groups = components(int(surface.labels.max()) + 1, one, other)
        return groups, np.linspace(0.5, 1, groups.max() + 1, dtype=np.float32)

    def mask(self, frame, pixel):
        """The true instance at the pixel."""
        truth = self.truth[frame.rgb.tobytes()]
        x, y = np.rint(pixel).astype(int)
        return truth == truth[y, x]

    def close(self) -> None:
        self.closed += 1


class TruePredictor:
    """A promptable model that answers with the true instance under the first point of each prompt."""

    engine_info = NoInfo()

    def __init__(self) -> None:
        self.truth: dict[bytes, np.ndarray] = {}
        self.images = 0

    def view(self, pose: np.ndarray) -> RgbdFrame:
        """A frame whose instances it knows from now on."""
        frame, instances = view(pose)
        self.truth[frame.rgb.tobytes()] = instances
        return frame

    def set_image(self, rgb, depth=None):
        self.images += 1
        self.shown = self.truth[rgb.tobytes()]

    def predict(self, points, labels):
        masks = np.stack([self._mask(points[0]), np.zeros_like(self.shown, bool)])
        return SimpleNamespace(masks=masks, scores=np.array([0.9, 0.1], np.float32))

    def predict_many(self, points, labels):
        masks = np.stack([self._mask(prompt[0]) for prompt in points])[:, None]
        logits = np.where(masks, 4.0, -4.0).astype(np.float32)
        return SimpleNamespace(logits=logits, scores=np.full(logits.shape[:2], 0.9, np.float32), stride=1.0)

    def features_at(self, pixels):
        return np.ones((len(pixels), 2), np.float32)

    def close(self) -> None:
        pass

    def _mask(self, pixel):
        x, y = np.rint(pixel).astype(int)
        return self.shown == self.shown[y, x]


def components(count: int, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Connected part (N,) of each node of a graph."""
    graph = coo_matrix((np.ones(len(one)), (one, other)), (count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)
