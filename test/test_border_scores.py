# SPDX-License-Identifier: Apache-2.0
"""The F-score of borders of objects, on shapes whose borders are known."""

from __future__ import annotations

import numpy as np
import pytest

from perception_nodes.judges.boundaries import agreement, f_score, judged_region, outline, outlines, sobel_edges


def square(left: int, top: int, side: int) -> np.ndarray:
    mask = np.zeros((240, 320), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_an_outline_is_one_pixel_wide_and_leaves_out_the_images_edge() -> None:
    assert outline(square(50, 50, 20)).sum() == 4 * 19
    assert outline(square(0, 0, 20)).sum() == 2 * 20 - 1


def test_borders_within_the_tolerance_are_right_and_others_are_not() -> None:
    truth = [square(100, 80, 60)]
    for shift, score in ((0, 1.0), (2, 1.0), (12, 0.0)):
        found = outlines([square(100 + shift, 80 + shift, 60)])
        counts = agreement(found, outlines(truth), judged_region(truth))
        assert f_score([counts]) == pytest.approx(score, abs=0.15)


def test_what_lies_far_from_every_object_is_not_judged() -> None:
    truth = [square(100, 80, 60)]
    counts = agreement(outlines([truth[0], square(260, 180, 40)]), outlines(truth), judged_region(truth))

    assert f_score([counts]) == 1


def test_nothing_found_scores_nothing() -> None:
    truth = [square(100, 80, 60)]

    assert f_score([agreement(np.zeros((240, 320), bool), outlines(truth), judged_region(truth))]) == 0


def test_sobel_edges_follow_a_step_of_one_colour() -> None:
    mask = square(100, 80, 60)
    image = np.full((240, 320, 3), 90, np.uint8)
    image[mask, 2] = 200

    counts = agreement(sobel_edges(image, 100), outline(mask), judged_region([mask]))

    assert f_score([counts]) > 0.95
