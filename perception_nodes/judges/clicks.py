# SPDX-License-Identifier: Apache-2.0
"""Masks from clicks judged against true ones, and what stands beside a network: GrabCut, watershed, a disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from perception_models.segmentation.predictor import MaskPredictor
from perception_nodes.judges import boundaries
from perception_nodes.judges.segmentation_scenes import Scene

Bools = NDArray[np.bool_]
Image = NDArray[np.uint8]
Click = tuple[int, int, int]  # x, y, and 1 on the object or 0 beside it
FEWEST = 300  # pixels of an object
CLICKS = 3
NEAR, FAR = 12, 90  # pixels from the click that GrabCut takes for the object, and beyond which for the rest


@dataclass(frozen=True)
class Target:
    """An object of an image: its mask (H, W), and the pixels (H, W) whose label is known."""

    mask: Bools
    known: Bools

    def iou(self, found: Bools) -> float:
        """Intersection over union where labels are known."""
        both, either = (found & self.mask & self.known).sum(), ((found | self.mask) & self.known).sum()
        return float(both / max(int(either), 1))


class Method:
    """Answers clicks on one image after another."""

    def see(self, scene: Scene) -> None:
        """The image that is clicked at next."""
        raise NotImplementedError

    def answer(self, clicks: list[Click]) -> Bools:
        """The mask (H, W) that the clicks mean."""
        raise NotImplementedError


class Network(Method):
    """A mask predictor, with depth or without; the earlier answer goes in with each further click."""

    def __init__(self, predictor: MaskPredictor, use_depth: bool) -> None:
        self._predictor, self._use_depth = predictor, use_depth
        self._last: NDArray[np.float32] | None = None

    def see(self, scene: Scene) -> None:
        frame = scene.frames[0]
        self._predictor.set_image(frame.rgb, frame.depth if self._use_depth else None)

    def answer(self, clicks: list[Click]) -> Bools:
        places, labels = np.array([click[:2] for click in clicks], float), np.array([click[2] for click in clicks])
        found = self._predictor.predict(places, labels, mask=self._last if len(clicks) > 1 else None)
        self._last = found.logits[int(found.scores.argmax())]
        return found.best


class GrabCut(Method):
    """OpenCV's GrabCut (Rother et al., SIGGRAPH 2004): the object near the clicks, the rest far from all of them."""

    def see(self, scene: Scene) -> None:
        self._image = np.ascontiguousarray(scene.frames[0].rgb[..., ::-1])

    def answer(self, clicks: list[Click]) -> Bools:
        mask = np.full(self._image.shape[:2], cv2.GC_BGD, np.uint8)
        for x, y, label in clicks:
            if label:
                cv2.circle(mask, (x, y), FAR, int(cv2.GC_PR_FGD), -1)
        for x, y, label in clicks:
            cv2.circle(mask, (x, y), NEAR, int(cv2.GC_FGD if label else cv2.GC_BGD), -1)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(self._image, mask, (0, 0, 1, 1), *models, 4, cv2.GC_INIT_WITH_MASK)
        return np.asarray((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD))


class Watershed(Method):
    """The basin of the image's gradient around the clicks, against that of a wide ring."""

    def see(self, scene: Scene) -> None:
        self._image = np.ascontiguousarray(cv2.GaussianBlur(scene.frames[0].rgb, (0, 0), 1.5)[..., ::-1])

    def answer(self, clicks: list[Click]) -> Bools:
        markers = np.ones(self._image.shape[:2], np.int32)
        for x, y, label in clicks:
            if label:
                cv2.circle(markers, (x, y), FAR, 0, -1)
        for x, y, label in clicks:
            cv2.circle(markers, (x, y), NEAR, 2 if label else 1, -1)
        cv2.watershed(self._image, markers)
        return np.asarray(markers == 2)


class Disk(Method):
    """A disk around each click on the object, whatever the image shows."""

    def __init__(self, radius: int) -> None:
        self._radius = radius

    def see(self, scene: Scene) -> None:
        self._shape = scene.frames[0].rgb.shape[:2]

    def answer(self, clicks: list[Click]) -> Bools:
        mask = np.zeros(self._shape, np.uint8)
        for x, y, label in clicks:
            cv2.circle(mask, (x, y), self._radius, int(label), -1)
        return mask > 0


def targets_of(scene: Scene) -> Iterator[Target]:
    """The objects of a scene's first frame, those of FEWEST pixels and more."""
    instances = scene.instances[0]
    depth = scene.frames[0].depth
    assert depth is not None
    for number in np.unique(instances[instances > 0]):
        mask = (instances == number) & (depth > 0)
        if mask.sum() >= FEWEST:
            yield Target(mask, depth > 0)


def deepest(region: Bools) -> tuple[int, int]:
    """The pixel x y of a region (H, W) that is farthest from its border: where a user clicks."""
    distance = cv2.distanceTransform(np.pad(region, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(int(distance.argmax()), distance.shape)
    return int(column), int(row)


def judge(method: Method, target: Target) -> list[float]:
    """IoU after 1, 2 .. CLICKS clicks: the first into the object, each further one into the largest error."""
    x, y = deepest(target.mask)
    clicks: list[Click] = [(x, y, 1)]
    found = method.answer(clicks)
    scores = [target.iou(found)]
    while len(clicks) < CLICKS:
        wrong = (found != target.mask) & target.known
        if wrong.any():
            x, y = deepest(wrong)
            clicks.append((x, y, int(target.mask[y, x])))
            found = method.answer(clicks)
        else:
            clicks.append(clicks[-1])
        scores.append(target.iou(found))
    return scores


def measure(methods: Mapping[str, Callable[[], Method]], scenes: list[Scene]) -> dict[str, dict[str, float]]:
    """Mean IoU of each method after one click and after three, the share above one half after one, and the F-score of
    the borders of all that one click each found; Sobel edges have only the last."""
    rows = {}
    targets = [list(targets_of(scene)) for scene in scenes]
    for name, make in methods.items():
        method, found, borders = make(), [], []
        for scene, wanted in zip(scenes, targets, strict=True):
            method.see(scene)
            found += [judge(method, target) for target in wanted]
            borders.append(_border_counts(method, [target.mask for target in wanted]))
        scores = np.array(found)
        rows[name] = {
            "objects": float(len(scores)),
            "iou_1": float(scores[:, 0].mean()),
            "iou_3": float(scores[:, CLICKS - 1].mean()),
            "above_half_1": float((scores[:, 0] > 0.5).mean()),
            "border_f": boundaries.f_score(borders),
        }
    masks = [[target.mask for target in wanted] for wanted in targets]
    return {**rows, "Sobel edges": {"border_f": boundaries.sobel_score(scenes, masks)}}


def _border_counts(method: Method, masks: list[Bools]) -> tuple[int, int, int, int]:
    """How the borders of a method's answers to one click into each mask agree with those of the masks."""
    answers = [method.answer([(*deepest(mask), 1)]) for mask in masks]
    return boundaries.agreement(
        boundaries.outlines(answers), boundaries.outlines(masks), boundaries.judged_region(masks)
    )
