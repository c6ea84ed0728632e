# SPDX-License-Identifier: Apache-2.0
"""How masks from clicks are judged, on a scene of two squares."""

from __future__ import annotations

import numpy as np
import pytest

from perception_models.geometry.cameras import RgbdFrame
from perception_nodes.judges.clicks import Click, Disk, GrabCut, Method, Target, Watershed, judge, measure, targets_of
from perception_nodes.judges.segmentation_scenes import Scene


@pytest.fixture(scope="module")
def scene() -> Scene:
    """Two coloured squares on a dark ground; the depth of a strip is unknown."""
    instances = np.zeros((120, 160), np.int32)
    instances[20:60, 20:60], instances[60:110, 90:150] = 1, 2
    rgb = np.full((120, 160, 3), 30, np.uint8)
    rgb[instances == 1], rgb[instances == 2] = (220, 60, 60), (60, 60, 220)
    depth = np.ones((120, 160), np.float32)
    depth[:, :5] = 0
    frame = RgbdFrame(rgb, depth, np.eye(3), np.eye(4))
    nothing = np.empty(0)
    return Scene("squares", nothing, nothing, nothing, [frame], [instances])


class Told(Method):
    """Answers each click with what it was told."""

    def __init__(self, answers: list[np.ndarray]) -> None:
        self.answers, self.clicks = answers, list[Click]()

    def see(self, scene: Scene) -> None:
        self.scene = scene

    def answer(self, clicks: list[Click]) -> np.ndarray:
        self.clicks = clicks
        return self.answers[len(clicks) - 1]


def test_clicks_go_into_the_object_and_then_to_the_largest_error(scene: Scene) -> None:
    first, second = targets_of(scene)
    none, both = np.zeros_like(first.mask), first.mask | second.mask
    told = Told([none, both, first.mask])

    scores = judge(told, first)

    assert scores == [0.0, pytest.approx(1600 / 4600), 1.0]
    (x, y, on), (_, _, missed), (u, v, beside) = told.clicks
    assert (on, missed, beside) == (1, 1, 0) and first.mask[y, x] and second.mask[v, u]
    assert abs(x - 40) < 3 and abs(y - 40) < 3  # the middle


def test_pixels_without_a_label_do_not_count() -> None:
    mask, known = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    mask[:2], known[:, 0] = True, False
    found = mask.copy()
    found[2:, 0] = True
    assert Target(mask, known).iou(found) == 1.0


def test_methods_without_a_network_find_a_plain_square(scene: Scene) -> None:
    rows = measure({"GrabCut": GrabCut, "watershed": Watershed, "disk": lambda: Disk(20)}, [scene])

    assert rows["GrabCut"]["iou_1"] > 0.9 and rows["watershed"]["iou_1"] > 0.8
    assert 0.3 < rows["disk"]["iou_1"] < 0.8 and rows["disk"]["objects"] == 2
