# SPDX-License-Identifier: Apache-2.0
"""What of a view belongs to which super-point, and the points in it that prompt for a mask of its thing."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from perception_models.geometry.cameras import Floats, RgbdFrame
from perception_models.segmentation.settings import SegmentationSettings
from perception_models.segmentation.visibility import Projection

Labels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Prompts:
    """Super-points (V,), prompts (V, K, 2) x y pixels of the view with labels (V, K), 1 or -1 for none, and the centre
    (V, 2) of each super-point's region, pixels."""

    superpoints: npt.NDArray[np.int64]
    points: Floats
    labels: Labels
    centres: Floats

    def __len__(self) -> int:
        return len(self.superpoints)


def label_image(projection: Projection, labels: Labels, frame: RgbdFrame, settings: SegmentationSettings) -> Labels:
    """Super-point (h, w) of every `stride`-th pixel of a view, -1 for none: that of the nearest point that it sees,
    where both have about the same depth. labels (N,): super-point of each point of the cloud."""
    assert frame.depth is not None
    stride = settings.stride
    depth = frame.depth[stride // 2 :: stride, stride // 2 :: stride]
    column, row = (projection.pixels / stride).astype(np.int64).T
    row, column = np.minimum(row, depth.shape[0] - 1), np.minimum(column, depth.shape[1] - 1)
    order = np.argsort(-projection.depths)  # of several at one pixel, the nearest is kept
    owner = np.full(depth.shape, -1, np.int64)
    owner[row[order], column[order]] = order
    if not len(order):
        return owner.astype(np.int32)
    _, nearest = cv2.distanceTransformWithLabels(
        (owner < 0).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    seeds = np.zeros(nearest.max() + 1, np.int64)
    seeds[nearest[owner >= 0]] = owner[owner >= 0]
    owner = seeds[nearest]
    margin = settings.depth_margin + settings.depth_share * depth
    near = (depth > 0) & (np.abs(projection.depths[owner] - depth) < margin)
    return np.where(near, labels[projection.rows[owner]], -1).astype(np.int32)


def choose_prompts(image: Labels, settings: SegmentationSettings) -> Prompts:
    """Prompts of the largest super-points in an image (h, w) of `label_image`, by falling area."""
    stride = settings.stride
    area = np.bincount(image[image >= 0])
    enough = np.flatnonzero(area * stride**2 >= settings.min_pixels)
    chosen = enough[np.argsort(-area[enough], kind="stable")][: settings.max_superpoints]
    points = np.zeros((len(chosen), settings.prompts, 2), np.float32)
    labels = np.full((len(chosen), settings.prompts), -1, np.int32)
    centres = np.zeros((len(chosen), 2), np.float32)
    boxes = _bounds(image, len(area))
    for number, name in enumerate(chosen):
        left, top, right, bottom = boxes[name]
        region = image[top:bottom, left:right] == name
        inner = inner_points(region, settings.prompts) + (left, top)
        points[number, : len(inner)], labels[number, : len(inner)] = inner, 1
        centres[number] = np.argwhere(region).mean(axis=0)[::-1] + (left, top)
    return Prompts(chosen, (points + 0.5) * stride - 0.5, labels, (centres + 0.5) * stride - 0.5)


def inner_points(region: npt.NDArray[np.bool_], count: int) -> npt.NDArray[np.int64]:
    """At most `count` pixels (K, 2) x y of a region (h, w), each farthest from its edge and from the discs that fit in
    around the pixels before."""
    rest = np.pad(region, 1).astype(np.uint8)
    found: list[tuple[int, int]] = []
    while len(found) < count:
        distance = cv2.distanceTransform(rest, cv2.DIST_L2, 3)
        _, radius, _, (x, y) = cv2.minMaxLoc(distance)
        if radius <= 0:
            break
        found.append((x - 1, y - 1))
        cv2.circle(rest, (x, y), int(radius), 0, -1)
    return np.array(found, np.int64).reshape(-1, 2)


def _bounds(image: Labels, count: int) -> npt.NDArray[np.int64]:
    """Left, top, right, bottom (S, 4), the last two excluded, of the super-points in an image."""
    row, column = np.nonzero(image >= 0)
    names = image[row, column]
    bounds = np.zeros((count, 4), np.int64)
    bounds[:, :2] = max(image.shape)
    np.minimum.at(bounds[:, 0], names, column)
    np.minimum.at(bounds[:, 1], names, row)
    np.maximum.at(bounds[:, 2], names, column + 1)
    np.maximum.at(bounds[:, 3], names, row + 1)
    return bounds
