# SPDX-License-Identifier: Apache-2.0
"""What must not enter the state, and when the state is of another place: told from images and from confidence."""

from __future__ import annotations

import cv2
import numpy as np

from perception_models.geometry.cameras import Floats
from perception_models.reconstruction.input import NetworkInput
from perception_models.reconstruction.online_settings import OnlineSettings
from perception_models.reconstruction.view import Rgb

COLUMNS, ROWS = 56, 40  # of the small image by which images are compared
WAVE = 4.0  # of its pixels; what changes more slowly, such as light, is left out
FAINT = 1.0  # grey values; edges that are weaker count as that
MIDDLE = np.s_[ROWS // 4 : -ROWS // 4, COLUMNS // 4 : -COLUMNS // 4]


def fault_of(image: NetworkInput, settings: OnlineSettings) -> str:
    """What is wrong with an image and what to do; empty where nothing is."""
    shown = image.rgb[image.mask].reshape(-1, 1, 3)
    mean, deviation = (value.item() for value in cv2.meanStdDev(cv2.cvtColor(shown, cv2.COLOR_RGB2GRAY)))
    if mean < settings.darkest:
        return f"the image is black (mean {mean:.0f} of 255): is the camera covered, or the light off?"
    if deviation < settings.flattest:
        return f"the image is one colour (deviation {deviation:.1f} of 255): is the camera covered?"
    return ""


def sketch(rgb: Rgb) -> Floats:
    """A small image of edges (ROWS, COLUMNS) of an image (H, W, 3)."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(grey, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA)
    return np.asarray(small - cv2.GaussianBlur(small, (0, 0), WAVE), np.float32)


def likeness(one: Floats, other: Floats) -> float:
    """Correlation, -1 to 1, of two sketches at the shift where the middle of either fits the other best. On 7-Scenes,
    images a tenth of a second apart have 0.9, half a second 0.8; of two images of different rooms, one pair in twenty
    has more than 0.47."""
    return max(_best_correlation(one, other[MIDDLE]), _best_correlation(other, one[MIDDLE]))


def _best_correlation(whole: Floats, part: Floats) -> float:
    """Of a part with all windows of its size; what has no edges is like nothing, not like everything."""
    least = FAINT**2 * part.size
    energy = cv2.matchTemplate(whole**2, np.ones_like(part), cv2.TM_CCORR)
    scale = np.sqrt(np.maximum(energy, least) * max(float((part**2).sum()), least))
    return float((cv2.matchTemplate(whole, part, cv2.TM_CCORR) / scale).max())


class Usual:
    """A value that is followed slowly; None until enough were seen."""

    def __init__(self, settings: OnlineSettings) -> None:
        self._settings, self._mean, self._seen = settings, 0.0, 0

    @property
    def value(self) -> float | None:
        """What is usual."""
        return self._mean if self._seen >= self._settings.known_after else None

    def add(self, value: float) -> None:
        """The plain mean at first, then one that forgets."""
        self._seen += 1
        self._mean += max(1 / self._seen, 1 - self._settings.inertia) * (value - self._mean)

    def undercut(self, value: float, share: float) -> bool:
        """Whether a value is below a share of what is usual."""
        return self.value is not None and value < share * self.value


class Watch:
    """Compares what comes with what came before in the same stream."""

    def __init__(self, settings: OnlineSettings) -> None:
        self._settings = settings
        self._size: tuple[int, int] | None = None
        self.forget()

    def forget(self) -> None:
        """The next image has nothing before it."""
        self._last: Rgb | None = None
        self._sketch: Floats | None = None
        self._likeness, self._confidence = Usual(self._settings), Usual(self._settings)

    def resized(self, size: tuple[int, int]) -> str:
        """What to say where images have become of another size (width, height); empty else."""
        former, self._size = self._size, size
        if former in (None, size):
            return ""
        return f"images are {size[0]} x {size[1]} now, they were {former[0]} x {former[1]}"

    def fault(self, image: NetworkInput) -> str:
        """As `fault_of`; or the stream has stopped at an image."""
        if self._last is not None and np.array_equal(self._last, image.rgb):
            return "the image is the last one once more: has the stream stopped?"
        return fault_of(image, self._settings)

    def jumped(self, image: NetworkInput, confidence: float) -> bool:
        """Whether an image, at which the network has a confidence from 1, is of another place."""
        return self.unlike(image) and self._confidence.undercut(confidence - 1, self._settings.confidence_drop)

    def unlike(self, image: NetworkInput) -> bool:
        """Whether an image is less like the last one than is usual."""
        if self._sketch is None:
            return False
        like = likeness(self._sketch, sketch(image.rgb))
        return like < self._settings.likeness and self._likeness.undercut(like, self._settings.likeness_drop)

    def accept(self, image: NetworkInput, confidence: float) -> None:
        """What the next image is compared with."""
        drawn = sketch(image.rgb)
        if self._sketch is not None:
            self._likeness.add(likeness(self._sketch, drawn))
        self._last, self._sketch = image.rgb, drawn
        self._confidence.add(confidence - 1)
