# SPDX-License-Identifier: Apache-2.0
"""Tours of rooms: what is a part, what is kept in the folder, and that readers see whole tours only."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from perception_models.simulation.room_catalogue import PROCEDURAL
from perception_models.simulation.room_tours import Tour, Tours, fill, make_tour, with_planes
from perception_models.simulation.rooms import Room, sample_room


@pytest.fixture(scope="module")
def room() -> Room:
    return sample_room(np.random.default_rng(4), catalogue=PROCEDURAL, heaps=2)


@pytest.fixture(scope="module")
def tour() -> Tour:
    return make_tour(11, PROCEDURAL, on_path=3, close=2)


def test_a_number_is_one_thing_or_one_plane_of_the_building(room: Room) -> None:
    named = with_planes(room.mesh)
    things, building = room.mesh.instances > 0, room.mesh.instances == 0
    np.testing.assert_array_equal(named.instances[things], room.mesh.instances[things])
    assert named.instances[building].min() > room.mesh.instances.max()
    for number in np.unique(named.instances[building]):
        faces = named.instances == number
        normal = named.normals[faces][0]
        distances = named.vertices[named.faces[faces]].reshape(-1, 3) @ normal
        assert np.abs(named.normals[faces] @ normal - 1).max() < 0.05 and np.ptp(distances) < 0.11


def test_heaps_crowd_clutter_together(room: Room) -> None:
    """Most of the small things that heaps add have another within a hand's breadth."""
    plain = sample_room(np.random.default_rng(4), catalogue=PROCEDURAL)
    assert np.unique(room.mesh.instances).size > np.unique(plain.mesh.instances).size + 5

    def gaps(of: Room) -> np.ndarray:
        corners = of.mesh.vertices[of.mesh.faces].mean(axis=1)
        centres = np.array([corners[of.mesh.instances == n].mean(0) for n in np.unique(of.mesh.instances)[1:]])
        distances = np.linalg.norm(centres[:, None] - centres, axis=2) + 9 * np.eye(len(centres))
        return np.asarray(distances.min(axis=1))

    assert (gaps(room) < 0.25).sum() > (gaps(plain) < 0.25).sum() + 5


def test_parts_of_a_view_count_from_one_things_first(tour: Tour) -> None:
    for parts, things, whole in zip(tour.parts, tour.things, tour.whole, strict=True):
        present = np.unique(parts[parts > 0])
        np.testing.assert_array_equal(present, 1 + np.arange(len(present)))
        assert things <= len(present) and not whole[0] and set(np.flatnonzero(whole)) <= set(present.tolist())


def test_a_tour_is_read_back_as_it_was_saved(tour: Tour, tmp_path: Path) -> None:
    tour.save(tmp_path / "tour-000000")
    again = Tour.load(tmp_path / "tour-000000")
    for field in fields(Tour):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(tour, field.name))
    assert [path.name for path in tmp_path.iterdir()] == ["tour-000000"]


def test_tours_are_found_as_they_come_and_never_half_written(tour: Tour, tmp_path: Path) -> None:
    tours = Tours(tmp_path)
    with pytest.raises(FileNotFoundError, match="room_tours"):
        tours.draw(np.random.default_rng(0))
    tour.save(tmp_path / "tour-000003")
    (tmp_path / "tour-000004.99.tmp").mkdir()
    tours.refresh()
    assert len(tours) == 1
    np.testing.assert_array_equal(tours.draw(np.random.default_rng(0)).rgb, tour.rgb)


def test_filling_leaves_what_is_there(tour: Tour, tmp_path: Path) -> None:
    for number in (1, 2):
        tour.save(tmp_path / f"tour-{number:06d}")
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*/rgb.npy")}
    fill(tmp_path, 1, 1, 3)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*/rgb.npy")} == before
