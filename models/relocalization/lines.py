# SPDX-License-Identifier: Apache-2.0
"""Line segments of an image, described by samples of the dense descriptors along them, as PL2Map does (ICRA 2024,
section III-B): both end points and ten places between."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from perception_models.relocalization.features import Features, Floats, Image, check_image

SAMPLES = 12
MIN_LENGTH = 30.0  # pixels; shorter segments are mostly texture, which points tell better


@dataclass(frozen=True)
class Lines:
    """ends (L, 2, 2): two pixels x y a segment, longest first; descriptors (L, 12, D), unit length, end to end."""

    ends: Floats
    descriptors: Floats

    def __len__(self) -> int:
        return len(self.ends)


def detect_lines(rgb: Image, features: Features, count: int = 128) -> Lines:
    """The longest segments that OpenCV's LSD (Grompone von Gioi, PAMI 2010) finds in an image (H, W, 3) uint8 RGB,
    described by the image's `features`."""
    check_image(rgb)
    found = cv2.createLineSegmentDetector(cv2.LSD_REFINE_STD).detect(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))[0]
    ends = np.empty((0, 2, 2), np.float32) if found is None else np.asarray(found, np.float32).reshape(-1, 2, 2)
    lengths = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    longest = np.argsort(-lengths, kind="stable")[:count]
    ends = ends[longest[lengths[longest] >= MIN_LENGTH]]
    return Lines(ends, features.dense.sample(along(ends)))


def along(ends: Floats, samples: int = SAMPLES) -> Floats:
    """Places (..., S, D) evenly from one end to the other of segments (..., 2, D)."""
    share = np.linspace(0, 1, samples, dtype=ends.dtype)[:, None]
    places: Floats = ends[..., :1, :] * (1 - share) + ends[..., 1:, :] * share
    return places
