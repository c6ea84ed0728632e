# SPDX-License-Identifier: Apache-2.0
"""Images that a map must not answer, and damaged ones that it may: of other places, blank, blurred, half covered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from perception_models.evaluation.relocalization import pose_errors, summarize
from perception_models.geometry.cameras import Matrix, RgbdFrame
from perception_models.relocalization.features import Image
from perception_models.relocalization.fix import Fix
from perception_models.relocalization.pipeline import Relocalizer
from perception_models.simulation.room_drive import simulate_room
from perception_nodes.seven_scenes import read_rgb

SUFFIXES = (".jpg", ".jpeg", ".png")
BLUR = 12.0  # pixels, standard deviation


class Counts(NamedTuple):
    """Of images: how many there were, how many got a valid pose, and how many of these are wrong (10 cm, 10 deg)."""

    images: int
    valid: int
    wrong: int


def _half_covered(rgb: Image, side: int) -> Image:
    """Black on one side: 0 left, 1 right, 2 top, 3 bottom."""
    covered, (rows, columns) = rgb.copy(), rgb.shape[:2]
    halves = (np.s_[:, : columns // 2], np.s_[:, columns // 2 :], np.s_[: rows // 2], np.s_[rows // 2 :])
    covered[halves[side]] = 0
    return covered


DAMAGE: dict[str, Callable[[Image, int], Image]] = {
    "black": lambda rgb, _: np.zeros_like(rgb),
    "blank": lambda rgb, _: np.full_like(rgb, rgb.mean()),
    "blurred": lambda rgb, _: np.asarray(cv2.GaussianBlur(rgb, (0, 0), BLUR), np.uint8),
    "half covered": lambda rgb, number: _half_covered(rgb, number % 4),
}


def count_damaged(relocalizer: Relocalizer, frames: Iterable[RgbdFrame]) -> dict[str, Counts]:
    """What becomes of frames with poses under each kind of damage."""
    found: dict[str, list[Fix]] = {kind: [] for kind in DAMAGE}
    truth = []
    for number, frame in enumerate(frames):
        truth.append(frame.pose)
        for kind, damage in DAMAGE.items():
            found[kind].append(relocalizer.localize(damage(frame.rgb, number), frame.camera_matrix))
    return {kind: _counts(fixes, truth) for kind, fixes in found.items()}


def count_strangers(relocalizer: Relocalizer, images: Iterable[Image], camera_matrix: Matrix) -> Counts:
    """How many images of other places get a pose all the same, taken as if by the camera of the map."""
    valid = [relocalizer.localize(rgb, camera_matrix).valid for rgb in images]
    return Counts(len(valid), sum(valid), sum(valid))


def images_under(folders: Sequence[Path]) -> Iterator[Image]:
    """All colour images of folders and what is below them. Raises FileNotFoundError where there is none."""
    for folder in folders:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        colour = [path for path in paths if "depth" not in f"{path.parent.name}/{path.name}"]
        if not colour:
            raise FileNotFoundError(f"there is no colour image under {folder}")
        yield from map(read_rgb, colour)


def simulated_images(count: int) -> Iterator[Image]:
    """One image of each of so many simulated rooms."""
    for seed in range(count):
        yield next(simulate_room(seed, 1)).frame.rgb


def _counts(fixes: Sequence[Fix], truth: Sequence[Matrix | None]) -> Counts:
    known = [(fix, pose) for fix, pose in zip(fixes, truth, strict=True) if pose is not None]
    errors = pose_errors([fix.pose for fix, _ in known], [pose for _, pose in known])
    figures = summarize(errors, np.array([fix.valid for fix, _ in known]))
    return Counts(len(known), sum(fix.valid for fix, _ in known), int(figures["wrong_valid"]))
