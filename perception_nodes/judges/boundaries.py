# SPDX-License-Identifier: Apache-2.0
"""How well borders of objects are found: F-score of border pixels that lie near a true one, with Sobel edges beside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from perception_nodes.judges.segmentation_scenes import Scene

Bools = NDArray[np.bool_]
TOLERANCE = 0.0075  # of the image's diagonal, as on BSDS
BESIDE = 20  # pixels around objects within which borders are judged: only objects are labelled
THRESHOLDS = range(40, 1000, 40)  # of Sobel's gradient


def outline(mask: Bools) -> Bools:
    """The pixels (H, W) of a mask (H, W) that touch what is outside of it; the image's edge is no border."""
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1)
    return np.asarray(mask & (inner == 0))


def outlines(masks: Iterable[Bools]) -> Bools:
    """All outlines together; there is one mask at least."""
    return np.asarray(np.any([outline(mask) for mask in masks], axis=0))


def agreement(found: Bools, truth: Bools, region: Bools) -> tuple[int, int, int, int]:
    """Of border pixels (H, W) within a region: found ones, those near a true one, true ones, those near a found one."""
    tolerance = TOLERANCE * float(np.hypot(*truth.shape))
    found, truth = found & region, truth & region
    right, hit = found & _near(truth, tolerance), truth & _near(found, tolerance)
    return int(found.sum()), int(right.sum()), int(truth.sum()), int(hit.sum())


def f_score(counts: Sequence[tuple[int, int, int, int]]) -> float:
    """Harmonic mean of precision and recall over all images."""
    found, right, truth, hit = np.sum(counts, axis=0)
    precision, recall = right / max(found, 1), hit / max(truth, 1)
    return float(2 * precision * recall / max(precision + recall, 1e-9))


def judged_region(masks: Sequence[Bools]) -> Bools:
    """Where (H, W) borders of objects are judged."""
    objects = np.any(masks, axis=0).astype(np.uint8)
    side = 2 * BESIDE + 1
    return np.asarray(cv2.dilate(objects, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))) > 0)


def sobel_score(scenes: Sequence[Scene], masks: Sequence[Sequence[Bools]]) -> float:
    """The F-score of thinned Sobel edges at the threshold that is best for these very images."""
    truths = [(outlines(each), judged_region(each)) for each in masks]
    scores = []
    for threshold in THRESHOLDS:
        edges = [sobel_edges(scene.frames[0].rgb, threshold) for scene in scenes]
        scores.append(f_score([agreement(edge, *truth) for edge, truth in zip(edges, truths, strict=True)]))
    return max(scores)


def sobel_edges(rgb: NDArray[np.uint8], threshold: float) -> Bools:
    """Ridges (H, W) of an image's gradient, of that colour which changes most."""
    smooth = cv2.GaussianBlur(rgb, (0, 0), 1.0)
    slopes = [cv2.Sobel(smooth, cv2.CV_16S, *order) for order in ((1, 0), (0, 1))]
    steepest = np.hypot(*(slope.astype(np.float32) for slope in slopes)).argmax(axis=2)[..., None]
    x, y = (np.take_along_axis(slope, steepest, 2)[..., 0] for slope in slopes)
    return np.asarray(cv2.Canny(x, y, threshold, threshold, L2gradient=True) > 0)


def _near(borders: Bools, tolerance: float) -> Bools:
    if not borders.any():
        return borders
    return np.asarray(cv2.distanceTransform((~borders).astype(np.uint8), cv2.DIST_L2, 5) <= tolerance)
