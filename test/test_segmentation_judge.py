# SPDX-License-Identifier: Apache-2.0
"""Segmentation judged on a bag: by the pipeline in process, and by label images that the bag holds."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from boxes_support import TrueParts, around, view

from perception_models.segmentation.online_settings import OnlineSettings
from perception_nodes import bags
from perception_nodes.bag_messages import encode_image, header
from perception_nodes.bags import BagWriter
from perception_nodes.judges import segmentation
from perception_nodes.rgbd_bag import write_rgbd, write_rgbd_rig
from perception_nodes.scans import CAMERA

START, STEP = 1_700_000_000 * 10**9, 10**8
OPTIONS = Namespace(topic=None, variant="compact", backend="auto", threads=None)
VIEWS = 6


def silent(items, *_):
    return items


@pytest.fixture
def parts(monkeypatch) -> TrueParts:
    """Parts that know the truth, in place of those that need a model."""
    parts = TrueParts()
    monkeypatch.setattr(segmentation.SegmenterParts, "load", lambda *_: parts)
    monkeypatch.setattr(segmentation, "OnlineSettings", lambda: OnlineSettings(stride=1, max_depth=2.6))
    monkeypatch.setattr(segmentation, "EVERY", 1)  # the test camera has few pixels
    return parts


def write(path: Path, parts: TrueParts, labels=None, with_truth: bool = True) -> Path:
    """A bag of a camera that goes around boxes; `labels(step, instances)` gives the label images in it."""
    with BagWriter(path) as bag:
        write_rgbd_rig(bag, START)
        for step in range(VIEWS):
            frame, instances = view(around(0.2 * step))
            parts.truth[frame.rgb.tobytes()] = instances
            stamp, truth = START + step * STEP, np.maximum(instances, 0).astype(np.int32)
            write_rgbd(bag, stamp, frame, frame.pose, truth if with_truth else None)
            if labels is not None:
                bag.write(bags.LABELS, encode_image(labels(step, truth), header(stamp, CAMERA)), stamp)
    return path


def test_a_map_that_knows_the_truth_is_judged_right(tmp_path, parts):
    judged = segmentation.in_process(write(tmp_path / "boxes.mcap", parts), OPTIONS, silent)
    figures = judged.figures
    assert (figures["views"], figures["instances"], figures["left_out"]) == (VIEWS, 3, 0)
    assert figures["ap_50"] == pytest.approx(100) and figures["ap_25"] == pytest.approx(100)
    assert figures["stable_ids"] > 95 and figures["latency_total_p50_ms"] > 0
    assert parts.closed == 1


def test_true_label_images_are_judged_perfect(tmp_path, parts):
    path = write(tmp_path / "boxes.mcap", parts, lambda _, truth: truth + 10)
    figures = segmentation.recorded(path, OPTIONS, silent).figures
    assert (figures["ap"], figures["ap_50"]) == pytest.approx((100, 100))
    assert figures["stable_ids"] > 99  # a voxel on an edge belongs to two


def test_ids_that_change_at_every_view_are_not_stable(tmp_path, parts):
    path = write(tmp_path / "boxes.mcap", parts, lambda step, truth: truth + 10 * (step + 1))
    figures = segmentation.recorded(path, OPTIONS, silent).figures
    assert figures["stable_ids"] < 60


def test_things_that_are_told_as_one_are_not_found(tmp_path, parts):
    path = write(tmp_path / "boxes.mcap", parts, lambda _, truth: np.full_like(truth, 7))
    figures = segmentation.recorded(path, OPTIONS, silent).figures
    assert figures["ap_50"] == 0 and figures["stable_ids"] == 100


def test_a_bag_without_true_instances_cannot_judge(tmp_path, parts):
    path = write(tmp_path / "boxes.mcap", parts, with_truth=False)
    with pytest.raises(ValueError, match="no /ground_truth/instances"):
        segmentation.in_process(path, OPTIONS, silent)


def test_a_bag_without_label_images_cannot_be_judged(tmp_path, parts):
    with pytest.raises(ValueError, match="no view of the bag can be judged"):
        segmentation.recorded(write(tmp_path / "boxes.mcap", parts), OPTIONS, silent)
