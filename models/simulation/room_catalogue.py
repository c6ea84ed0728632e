# SPDX-License-Identifier: Apache-2.0
"""What a room is furnished with: procedural things, and free models and photographs where there are any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from perception_models.simulation import room_models
from perception_models.simulation.furniture import AGAINST_WALLS, CLUTTER, Maker, chair, choose, table
from perception_models.simulation.room_mesh import Image, Thing

Rng = np.random.Generator


@dataclass(frozen=True)
class Catalogue:
    """Files of prepared models by what they are used as, and photographs; `share` of the things are such models."""

    pieces: Sequence[Path] = ()
    tables: Sequence[Path] = ()
    seats: Sequence[Path] = ()
    clutters: Sequence[Path] = ()
    photos: Sequence[Path] = ()
    share: float = 0.5

    @staticmethod
    def fetched() -> Catalogue:
        """With all that `room_models.fetch` has prepared; procedural alone where it has not been run."""
        files = room_models.files
        return Catalogue(files("piece"), files("table"), files("seat"), files("clutter"), files("photo"))

    def wall_piece(self, rng: Rng) -> Thing:
        """Something that stands along a wall."""
        return self._either(self.pieces, AGAINST_WALLS, rng)

    def table(self, rng: Rng) -> Thing:
        """A table or desk."""
        return self._either(self.tables, ((table, 1.0),), rng)

    def seat(self, rng: Rng) -> Thing:
        """Something to sit on at a table."""
        return self._either(self.seats, ((chair, 1.0),), rng)

    def clutter(self, rng: Rng) -> Thing:
        """A small thing."""
        return self._either(self.clutters, CLUTTER, rng)

    def some_photos(self, rng: Rng, count: int) -> list[Image]:
        """At most `count` of the photographs."""
        picked = rng.permutation(len(self.photos))[:count]
        return [room_models.load_photo(self.photos[index]) for index in picked]

    def _either(self, models: Sequence[Path], makers: Sequence[tuple[Maker, float]], rng: Rng) -> Thing:
        if not models or rng.random() > self.share:
            return Thing(choose(makers, rng))
        return room_models.load_model(models[int(rng.integers(len(models)))])


PROCEDURAL = Catalogue()
