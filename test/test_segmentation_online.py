# SPDX-License-Identifier: Apache-2.0
"""The map of key frames: ids that stay, views that are left out, memory that has an end."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import fields, replace

import numpy as np
import pytest
from boxes_support import BOXES, HEIGHT, MATRIX, WIDTH, TrueParts, TruePredictor, around, looking, view

from perception_models.geometry import se3
from perception_models.geometry.cameras import RgbdFrame, rays, unproject
from perception_models.segmentation.depth_agreement import compare
from perception_models.segmentation.evidence import Evidence
from perception_models.segmentation.frame_cloud import FrameCloud
from perception_models.segmentation.gathered import Gathered
from perception_models.segmentation.identities import keep_identities
from perception_models.segmentation.joining import Patches, join
from perception_models.segmentation.lidar_depth import depth_from_points
from perception_models.segmentation.online import InstanceMap
from perception_models.segmentation.online_objects import ObjectList, point_at
from perception_models.segmentation.online_parts import SegmenterParts, at_voxel
from perception_models.segmentation.online_settings import OnlineSettings
from perception_models.segmentation.settings import SegmentationSettings

SETTINGS = OnlineSettings(stride=1, max_depth=2.6)  # farther, a pixel of the test camera is wider than a voxel


@pytest.fixture
def parts() -> TrueParts:
    return TrueParts()


@pytest.fixture(scope="module")
def half_way() -> InstanceMap:
    """The map after half a way around the boxes."""
    parts = TrueParts()
    instance_map = InstanceMap(parts, SETTINGS)
    for step in range(8):
        assert instance_map.update(parts.view(around(step * 0.4)), float(step)).accepted
    return instance_map


@pytest.fixture
def built(parts, half_way) -> InstanceMap:
    """A copy of that map, on the test's own parts."""
    instance_map = deepcopy(half_way)
    instance_map.parts = parts
    parts.truth |= half_way.parts.truth
    return instance_map


def snapshot(instance_map: InstanceMap) -> list[np.ndarray]:
    """All that the map holds."""
    columns = [getattr(instance_map.voxels, entry.name) for entry in fields(instance_map.voxels)]
    everything = instance_map._gathered.among(np.arange(instance_map.superpoints))
    gathered = [getattr(everything, entry.name) for entry in fields(everything)]
    return [np.array(part, copy=True) for part in (*columns, instance_map.ids, *gathered)]


def true_instance(points: np.ndarray) -> np.ndarray:
    """Number of the box on whose surface points (N, 3) lie, 0 for none."""
    apart = np.abs(points[:, None] - BOXES[:, :3]) - BOXES[:, 3:] / 2
    inside = (apart < 0.015).all(axis=2) & (points[:, 2:] > 0.03)
    return np.where(inside.any(axis=1), inside.argmax(axis=1) + 1, 0)


def test_each_thing_is_one_instance_and_keeps_its_id_all_the_way_around(parts):
    instance_map = InstanceMap(parts, SETTINGS)
    ids: list[dict[int, int]] = []
    for step in range(16):
        assert instance_map.update(parts.view(around(step * 0.4)), float(step)).accepted
        truth, found = true_instance(instance_map.voxels.points), instance_map.ids
        ids.append({number: int(np.bincount(found[truth == number]).argmax()) for number in (1, 2, 3)})
    assert all(one == ids[0] for one in ids) and len(set(ids[0].values())) == 3
    for number, name in ids[0].items():
        assert (found[truth == number] == name).mean() > 0.97
        assert (truth[found == name] == number).mean() > 0.9  # the lowest voxels of a box count as floor here


def test_with_the_segmenter_s_own_steps_things_stay_apart_and_keep_their_ids():
    predictor = TruePredictor()
    steps = SegmenterParts(predictor, SETTINGS.voxel, SegmentationSettings(min_pixels=40, stride=2))
    instance_map = InstanceMap(steps, SETTINGS)
    ids = []
    for step in range(8):
        assert instance_map.update(predictor.view(around(step * 0.3)), float(step)).accepted
        truth = true_instance(instance_map.voxels.points)
        ids.append([int(np.bincount(instance_map.ids[truth == number]).argmax()) for number in (0, 1, 2, 3)])
    assert all(one == ids[-1] for one in ids[2:]) and len(set(ids[-1])) == 4
    for number, name in enumerate(ids[-1]):
        assert (instance_map.ids[truth == number] == name).mean() > 0.85
    before = predictor.images
    assert point_at(instance_map, np.array([0.0, 0.0, 0.3]), 0.1).identity == ids[-1][1]
    point_at(instance_map, np.array([0.0, 0.0, 0.3]), 0.1)
    assert predictor.images == before + 1  # the second click needs no second look at the image


def test_the_label_image_is_that_of_the_instances_in_view(parts, built):
    frame, truth = view(around(0.6))
    parts.truth[frame.rgb.tobytes()] = truth
    labels = built.update(frame, 9.0).labels
    assert labels.shape == (HEIGHT, WIDTH) and labels.dtype == np.int32
    for number in (0, 1, 2, 3):
        seen = (truth == number) & (frame.depth > 0) & (frame.depth < SETTINGS.max_depth)
        name = np.bincount(labels[seen]).argmax()
        assert name > 0 and (labels[seen] == name).mean() > 0.95
    assert not labels[frame.depth == 0].any()


def test_surfaces_that_are_known_are_not_added_again(parts, built):
    before = len(built)
    update = built.update(parts.view(around(0.4)), 10.0)
    assert update.accepted and update.added < 0.01 * before and len(built) == before + update.added


def test_voxels_lie_on_the_surfaces(built):
    points = built.voxels.points
    apart = np.abs(points[:, None] - BOXES[:, :3]) - BOXES[:, 3:] / 2
    to_boxes = np.abs(
        np.where((apart < 0).all(axis=2), apart.max(axis=2), np.linalg.norm(np.maximum(apart, 0), axis=2))
    )
    assert np.quantile(np.minimum(to_boxes.min(axis=1), np.abs(points[:, 2])), 0.99) < 0.012


def without(frame: RgbdFrame, **changes) -> RgbdFrame:
    return replace(frame, **changes)


SPOILT = {
    "no pose": lambda f: without(f, pose=None),
    "not finite": lambda f: without(f, pose=np.full((4, 4), np.nan)),
    "no rotation": lambda f: without(f, pose=np.diag([2.0, 1, 1, 1])),
    "no depth": lambda f: without(f, depth=None),
    "register depth": lambda f: without(f, depth=f.depth[::2, ::2]),
    "of the pixels have depth": lambda f: without(f, depth=np.zeros_like(f.depth)),
    "black": lambda f: without(f, rgb=f.rgb // 40),
    "one colour": lambda f: without(f, rgb=np.full_like(f.rgb, 130)),
}


@pytest.mark.parametrize("text", SPOILT)
def test_a_view_that_cannot_be_used_is_left_out_with_its_reason_and_changes_nothing(parts, built, text):
    before = snapshot(built)
    update = built.update(SPOILT[text](parts.view(around(0.5))), 20.0)
    assert not update.accepted and text in update.reason
    assert update.labels.shape == (HEIGHT, WIDTH) and not update.labels.any()
    for one, other in zip(before, snapshot(built), strict=True):
        np.testing.assert_array_equal(one, other)
    assert built.update(parts.view(around(0.5)), 21.0).accepted


JUMPS = {
    "back": se3.make(np.eye(3), [0, 0, -0.6]),
    "forth": se3.make(np.eye(3), [0, 0, 0.5]),
    "aside and turned": se3.from_yaw_pitch_roll(0.5, 0.4, 0, [0.3, 0.4, 0]),
    "down": se3.make(np.eye(3), [0, 0.5, 0]),
}


@pytest.mark.parametrize("jump", JUMPS)
def test_a_pose_that_jumped_away_from_the_camera_never_changes_the_map(parts, built, jump):
    before = snapshot(built)
    frame = parts.view(around(2.8))
    update = built.update(without(frame, pose=frame.pose @ JUMPS[jump]), 8.0)
    assert not update.accepted and "depth contradicts" in update.reason
    for one, other in zip(before, snapshot(built), strict=True):
        np.testing.assert_array_equal(one, other)
    assert built.update(frame, 8.1).accepted


def test_a_camera_that_moved_while_its_pose_stood_still_never_changes_the_map(parts, built):
    before = len(built), built.superpoints
    stale = around(2.8)
    for step in range(1, 5):
        frame = parts.view(around(2.8, 1.6 - 0.15 * step, 1.2 - 0.1 * step))
        assert not built.update(without(frame, pose=stale), 8.0 + step).accepted
    assert (len(built), built.superpoints) == before


def test_new_things_before_known_ones_are_no_contradiction(parts, built):
    more = np.vstack([BOXES, [0.9, -0.5, 0.15, 0.2, 0.25, 0.3]])
    update = built.update(parts.view(around(0.2), more), 9.0)
    assert update.accepted and update.added > 100


def test_what_a_near_thing_hides_does_not_speak_against_a_view(parts, built):
    """Close to a box its voxels are far from each other in the image, and what is behind shows between them."""
    eye = BOXES[0, :3] + [0.05, -0.55, 0.1]
    for number, offset in enumerate(([0, 0, 0], [0.02, 0.06, 0], [0.0, 0.12, 0.0])):
        frame = parts.view(looking(eye + offset, BOXES[0, :3] + [0, 0, 0.05]))
        assert built.update(frame, 9.0 + number).reason == ""


def test_what_was_taken_away_goes_from_the_map_and_what_stays_stays(parts, built):
    truth = true_instance(built.voxels.points)
    kept = {name: (truth == name).sum() for name in (2, 3)}
    for step in range(8):
        assert built.update(parts.view(around(step * 0.4), BOXES[1:]), 10.0 + step).accepted
    truth = true_instance(built.voxels.points)
    assert (truth == 1).sum() < 0.15 * kept[2]
    assert all((truth == name).sum() > 0.9 * count for name, count in kept.items())


def test_what_is_far_and_long_not_seen_is_forgotten_and_what_is_near_is_not(parts):
    settings = replace(SETTINGS, keep_radius=3.0, keep_time=5.0)
    instance_map = InstanceMap(parts, settings)
    instance_map.update(parts.view(around(0.0)), 0.0)
    held = len(instance_map)
    instance_map.update(parts.view(around(0.1)), 100.0)  # long ago, but near
    assert len(instance_map) >= held
    away = se3.make(np.eye(3), [50, 0, 0])
    frame = parts.view(around(0.0))
    instance_map.update(without(frame, pose=away @ frame.pose), 101.0)  # far, but just seen
    assert len(instance_map) > 1.5 * held
    instance_map.update(without(frame, pose=away @ frame.pose), 110.0)
    assert (instance_map.voxels.points[:, 0] > 40).all()


def corridor(parts: TrueParts, step: int) -> RgbdFrame:
    """A coarse view of a floor with boxes every two metres, from a camera that goes along."""
    place = 0.4 * step
    boxes = BOXES + [2.0 * np.floor(place / 2.0) + 1.5, 0, 0, 0, 0, 0]
    parts.truth.clear()
    return parts.view(looking([place, 0, 1.0], [place + 1.5, 0, 0.2]), boxes, shrink=4)


def test_memory_stays_flat_over_a_thousand_key_frames(parts):
    """400 m of a corridor: what is held after 1,000 key frames is what was held after 200."""
    settings, parts.reach = replace(SETTINGS, voxel=0.08, keep_radius=4.0, keep_time=4.0), 0.2
    instance_map = InstanceMap(parts, settings)
    held = []
    for step in range(1000):
        assert instance_map.update(corridor(parts, step), 0.4 * step).accepted
        held.append((len(instance_map), instance_map.superpoints, instance_map._gathered.pairs))
    early, late = np.max(held[100:200], axis=0), np.max(held[900:], axis=0)
    assert (late <= 1.1 * early).all(), (early, late)
    assert instance_map.ids.max() > 200  # ids of what is gone are not given again


def test_the_map_holds_no_more_than_its_capacity_and_keeps_what_is_nearest(parts):
    instance_map = InstanceMap(parts, replace(SETTINGS, capacity=1500))
    frame = parts.view(around(0.0))
    instance_map.update(frame, 0.0)
    assert len(instance_map) == 1500
    assert (np.linalg.norm(instance_map.voxels.points - frame.pose[:3, 3], axis=1) < 2.0).all()


def test_reset_begins_anew(parts, built):
    built.reset()
    assert (len(built), built.superpoints) == (0, 0)
    assert built.update(parts.view(around(0)), 0.0).accepted
    assert built.ids.min() == 1


def test_a_merged_instance_keeps_the_older_id_and_a_split_one_the_larger_part():
    sizes = np.array([10, 10, 10, 10])
    keep = lambda groups, former, sizes=sizes: keep_identities(  # noqa: E731
        np.array(groups), np.array(former), np.array(sizes), 9, 0.25
    ).tolist()
    assert keep([0, 0, 1, 1], [5, 5, 3, 3]) == [5, 5, 3, 3]
    assert keep([0, 0, 0, 0], [5, 5, 3, 3]) == [3, 3, 3, 3]  # merged: the older
    assert keep([0, 1, 1, 1], [5, 5, 5, 5]) == [9, 5, 5, 5]  # split: the larger part keeps it, the other is new
    assert keep([1, 0, 2, 2], [0, 0, 3, 3]) == [10, 9, 3, 3]  # what never had an id
    assert keep([0, 0, 0, 0], [3, 5, 5, 5], [2, 10, 10, 10]) == [5, 5, 5, 5]  # a crumb does not rename a thing
    assert keep([0, 0, 1, 1], [3, 5, 3, 5], [6, 10, 4, 4]) == [3, 3, 9, 9]  # both come to one group: none to the other
    assert keep([], [], []) == []


def test_ids_are_one_to_one_with_groups():
    rng = np.random.default_rng(0)
    for _ in range(50):
        groups, former = rng.integers(0, 6, 30), rng.integers(0, 8, 30)
        ids = keep_identities(groups, former, rng.integers(1, 20, 30), 100, 0.25)
        assert len(np.unique(np.column_stack([groups, ids]), axis=0)) == len(np.unique(groups)) == len(np.unique(ids))


def random_evidence(rng: np.random.Generator, count: int) -> Evidence:
    names = np.sort(rng.choice(count, min(count, 6), replace=False))
    one, other = np.triu_indices(len(names), 1)
    pairs = np.column_stack([names[one], names[other]])
    pairs[::2] = pairs[::2, ::-1]
    values = rng.random((2, len(pairs))).astype(np.float32)
    return Evidence(names, rng.random((len(names), 3)).astype(np.float32), pairs, *values)


def test_what_views_said_is_averaged_as_a_slow_book_keeper_does():
    rng = np.random.default_rng(0)
    gathered = Gathered()
    gathered.grow(20)
    views = [random_evidence(rng, 20) for _ in range(30)]
    for evidence in views:
        gathered.add(evidence)
    name = np.where(np.arange(20) % 4 > 0, np.cumsum(np.arange(20) % 4 > 0) - 1, -1)
    gathered.rename(name)
    gathered.add(random_evidence(rng, 0))
    rows = np.array([9, 2, 5, 11, 0])
    chosen = np.full(15, -1)
    chosen[rows] = np.arange(5)
    known = gathered.among(chosen)
    for place, row in enumerate(rows):
        old = int(np.flatnonzero(name == row)[0])
        told = [e.features[list(e.superpoints).index(old)] for e in views if old in e.superpoints]
        np.testing.assert_allclose(
            known.features[list(known.superpoints).index(place)], np.mean(told, axis=0), rtol=1e-5
        )
    for pair, agreement, weight in zip(known.pairs, known.agreement, known.weight, strict=True):
        wanted = {int(np.flatnonzero(name == rows[end])[0]) for end in pair}
        told = [
            (o, w) for e in views for p, o, w in zip(e.pairs, e.agreement, e.weight, strict=True) if set(p) == wanted
        ]
        total = sum(w for _, w in told)
        np.testing.assert_allclose([agreement, weight], [sum(o * w for o, w in told) / total, total], rtol=1e-5)
    assert len(known.pairs) == len({frozenset(pair) for pair in known.pairs.tolist()}) > 0


def test_merged_super_points_are_told_what_was_said_of_each():
    gathered = Gathered()
    gathered.grow(4)
    pairs = np.array([[0, 2], [1, 2], [0, 1], [2, 3]])
    values = np.array([1, 0, 0.5, 0.5], np.float32), np.array([1, 3, 1, 1], np.float32)
    gathered.add(Evidence(np.arange(4), np.arange(4, dtype=np.float32)[:, None], pairs, *values))
    gathered.rename(np.array([0, 0, 1, 2]))
    known = gathered.among(np.arange(3))
    assert known.pairs.tolist() == [[0, 1], [1, 2]]
    assert known.agreement.tolist() == [0.25, 0.5] and known.weight.tolist() == [4, 1]
    assert known.features.ravel().tolist() == [0.5, 2, 3]


def test_new_patches_join_what_they_touch_and_resemble():
    up, side = [0.0, 0, 1], [1.0, 0, 0]
    grey, red = [120, 120, 120], [220, 40, 40]
    held = Patches(np.array([up] * 9 + [side] * 9), np.array([grey] * 18, np.uint8), np.repeat([0, 1], 9), 2)
    kinds = [(up, grey), (up, red), (side, grey), (up, grey)]
    new = Patches(
        np.repeat([normal for normal, _ in kinds], 10, axis=0)[:33],
        np.repeat(np.array([color for _, color in kinds], np.uint8), 10, axis=0)[:33],
        np.repeat(np.arange(4), 10)[:33],
        4,
    )
    touched = np.full(33, -1)
    touched[[0, 1, 2, 3]] = 0, 0, 1, 1  # touches both: only one looks the same way
    touched[[10, 20]] = 0, 0  # of another colour; at a right angle
    joined = join(new, touched, held, OnlineSettings())
    assert joined.into.tolist() == [0, -1, -1, -2] and joined.merged.tolist() == [0, 1]


def test_a_fragment_becomes_part_of_the_larger_one_with_which_new_voxels_close_it_up():
    labels = np.repeat([0, 1, 2], [200, 30, 150])
    flat = lambda count: (np.tile([0.0, 0, 1], (count, 1)), np.full((count, 3), 90, np.uint8))  # noqa: E731
    held = Patches(*flat(380), labels, 3)
    new = Patches(*flat(40), np.repeat([0, 1], 20), 2)
    touched = np.repeat([1, 0, 2, -1], 10)  # the first closes 1 up with 0; the second grows 2
    joined = join(new, touched, held, OnlineSettings())
    assert joined.into.tolist() == [0, 2] and joined.merged.tolist() == [0, 0, 2]


def test_a_cloud_of_a_frame_holds_one_mean_a_voxel():
    frame, _ = view(around(0.3))
    cloud = FrameCloud.of(frame, replace(SETTINGS, stride=2, voxel=0.05))
    points = se3.apply(frame.pose, unproject(frame.depth, frame.camera_matrix))[::2, ::2].reshape(-1, 3)
    used = cloud.rows.ravel() >= 0
    for row in range(0, len(cloud), 50):
        members = points[used][cloud.rows.ravel()[used] == row]
        np.testing.assert_allclose(cloud.points[row], members.mean(axis=0), atol=1e-4)
        assert len({tuple(cell) for cell in np.floor(members.astype(np.float32) / 0.05).astype(int)}) == 1


def test_depth_confirms_what_is_there_and_looks_through_what_is_not(parts, built):
    frame, _ = view(around(1.0), BOXES[1:])
    agreement = compare(built.voxels, frame, 9, SETTINGS)
    truth = true_instance(built.voxels.points)
    assert not agreement.contradiction
    assert (truth[agreement.passed] == 1).mean() > 0.95
    assert (truth[agreement.confirmed] == 1).mean() < 0.02


def test_objects_have_the_boxes_of_what_stands_there(built):
    objects = ObjectList().of(built)
    assert (objects.sizes >= SETTINGS.smallest).all() and ((objects.scores >= 0) & (objects.scores <= 1)).all()
    truth = true_instance(built.voxels.points)
    for number, box in enumerate(BOXES, start=1):
        name = np.bincount(built.ids[truth == number]).argmax()
        found = objects.boxes[list(objects.ids).index(name)]
        np.testing.assert_allclose(found[:3], box[:3], atol=0.05)
        np.testing.assert_allclose(sorted(found[3:5]), sorted(box[3:5]), atol=0.06)


def test_boxes_are_kept_until_their_instance_changes(parts, built):
    objects = ObjectList()
    before = objects.of(built)
    built.update(parts.view(around(3.2)), 9.0)
    np.testing.assert_array_equal(objects.of(built).boxes, ObjectList().of(built).boxes)
    assert set(before.ids) & set(objects.of(built).ids)


def test_what_is_pointed_at_is_what_the_last_view_shows_there(parts, built):
    found = point_at(built, np.array([0.0, 0.0, 0.3]), 0.1)
    truth = true_instance(built.voxels.points)
    assert found.source == "image" and (truth[found.rows] == 1).mean() > 0.93
    assert len(found.rows) > 0.85 * (truth == 1).sum()


def test_what_the_last_view_does_not_show_is_taken_from_the_map(parts, built):
    elsewhere = np.vstack([BOXES, [4.2, 0.1, 0.2, 0.3, 0.3, 0.4]])
    assert built.update(parts.view(looking([3.0, 0.0, 1.2], [4.0, 0, 0]), elsewhere), 9.0).accepted
    found = point_at(built, np.array([0.0, 0.0, 0.3]), 0.1)
    assert found.source == "map"
    np.testing.assert_array_equal(found.rows, np.flatnonzero(built.ids == found.identity))


def test_pointing_beside_everything_is_told(parts, built):
    with pytest.raises(ValueError, match="nothing within 0.1 m of .*: the nearest is"):
        point_at(built, np.array([0.0, 0.0, 1.5]), 0.1)
    with pytest.raises(ValueError, match="it is empty"):
        point_at(InstanceMap(parts, SETTINGS), np.zeros(3), 0.1)


def test_depth_from_the_points_of_a_plane_is_that_of_the_plane_between_them_too():
    normal, distance = np.array([0.2, -0.5, 0.84]), 2.0
    directions = rays(MATRIX, WIDTH, HEIGHT)
    truth = (distance / (directions @ normal)).astype(np.float32)
    rows = np.random.default_rng(0).choice(WIDTH * HEIGHT, WIDTH * HEIGHT // 12, replace=False)
    points = (directions * truth[..., None]).reshape(-1, 3)[rows]
    depth = depth_from_points(points, MATRIX, WIDTH, HEIGHT)
    known = depth > 0
    assert known.mean() > 0.9
    np.testing.assert_allclose(depth[known], truth[known], rtol=1e-3)


def test_no_depth_is_filled_in_across_an_edge_or_far_from_points():
    directions = rays(MATRIX, WIDTH, HEIGHT)
    truth = np.where(np.arange(WIDTH) < WIDTH // 2, 1.0, 2.0) * np.ones((HEIGHT, 1))
    points = (directions * truth[..., None])[: HEIGHT // 2 : 3, ::3].reshape(-1, 3)
    depth = depth_from_points(points.astype(np.float32), MATRIX, WIDTH, HEIGHT)
    known = depth > 0
    np.testing.assert_allclose(depth[known], truth[known], rtol=1e-3)
    assert known[5:50, 10:70].mean() > 0.9 and not known[70:].any()
    assert len(depth_from_points(np.zeros((0, 3), np.float32), MATRIX, 8, 4)) == 4


def test_settings_for_coarser_voxels_ask_for_fewer_points():
    fine = SegmentationSettings(voxel=0.01, min_points=20)
    assert [at_voxel(fine, voxel).min_points for voxel in (0.02, 0.04, 0.1)] == [10, 5, 5]
    assert at_voxel(fine, 0.01) == fine
