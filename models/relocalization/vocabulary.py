# SPDX-License-Identifier: Apache-2.0
"""One descriptor for a whole image: VLAD (Jegou et al., CVPR 2010), residuals of its key points to k-means words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.cluster.vq import kmeans2

from perception_models.relocalization.features import Floats, unit

WORDS = 32
SAMPLES = 20_000


class Vocabulary:
    """Words that the key points of some images are told by."""

    def __init__(self, descriptors: Sequence[Floats], seed: int = 0) -> None:
        """Cluster descriptors (N, D) of each of some images. Raises ValueError where they are fewer than the words."""
        every = np.concatenate(descriptors)
        if len(every) < WORDS:
            raise ValueError(f"{len(descriptors)} images have {len(every)} key points; {WORDS} are needed")
        rng = np.random.default_rng(seed)
        some = every[rng.permutation(len(every))[:SAMPLES]]
        words, _ = kmeans2(some, WORDS, iter=10, minit="++", rng=rng)
        self.words = unit(np.asarray(words, np.float32))

    def describe(self, descriptors: Floats) -> Floats:
        """Global descriptor (WORDS * D,) of unit length of an image's descriptors (N, D)."""
        nearest = (descriptors @ self.words.T).argmax(1)
        residuals = np.zeros_like(self.words)
        np.add.at(residuals, nearest, descriptors - self.words[nearest])
        return unit(unit(residuals).ravel())
