# SPDX-License-Identifier: Apache-2.0
"""Non-maximum suppression of rotated boxes in bird's-eye view."""

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry.boxes import Floats, iou_bev


def nms_bev(boxes: Floats, scores: Floats, iou_threshold: float, max_keep: int) -> NDArray[np.int64]:
    """Indices (<= max_keep,) of the boxes (K, 7) kept, by falling score (K,).

    A box goes when a kept box of a higher score overlaps it by more than `iou_threshold`; of equal scores the first
    stays. The overlaps of all pairs are held at once: meant for a few hundred candidates, as a detector's head gives.
    """
    order = np.argsort(-scores, kind="stable")
    overlaps = iou_bev(boxes[order], boxes[order]) > iou_threshold
    alive = np.ones(len(order), bool)
    kept: list[int] = []
    for row in range(len(order)):
        if not alive[row]:
            continue
        kept.append(int(order[row]))
        if len(kept) == max_keep:
            break
        alive &= ~overlaps[row]
    return np.asarray(kept, np.int64)
