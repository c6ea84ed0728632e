# SPDX-License-Identifier: Apache-2.0
"""Which images of a set are worth matching to each other, and their matches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from perception_models.relocalization.assignment import Indices
from perception_models.relocalization.matching import mutual_matches
from perception_models.relocalization.views import View
from perception_models.relocalization.vocabulary import Vocabulary

STEPS = (1, 2, 4, 8, 16)  # ahead in a recording: near ones are alike, far ones triangulate well
ALIKE = 10  # images that look most alike: where the camera came back, or where there is no order
MIN_SIMILARITY = 0.8  # cosine of descriptors
MIN_MATCHES = 15

Pair = tuple[int, int]


def matched_pairs(views: Sequence[View], pairs: Sequence[Pair]) -> Iterator[tuple[Pair, Indices]]:
    """Of pairs of views those that match, with the key points (M, 2) that do."""
    for first, second in pairs:
        ours, theirs = views[first].features.descriptors, views[second].features.descriptors
        matches = np.stack(mutual_matches(ours, theirs, MIN_SIMILARITY), axis=1)
        if len(matches) >= MIN_MATCHES:
            yield (first, second), matches


def candidate_pairs(views: Sequence[View]) -> list[Pair]:
    """Pairs first < second that are near in the recording or look alike. Raises ValueError where there are hardly key
    points."""
    descriptors = [view.features.descriptors for view in views]
    vocabulary = Vocabulary(descriptors)
    described = np.stack([vocabulary.describe(rows) for rows in descriptors])
    alike = np.argsort(-described @ described.T, axis=1, kind="stable")[:, : ALIKE + 1]
    near = ((first, first + step) for first in range(len(views)) for step in STEPS if first + step < len(views))
    similar = ((min(pair), max(pair)) for pair in ((i, int(j)) for i, row in enumerate(alike) for j in row if i != j))
    return sorted({*near, *similar})
