# SPDX-License-Identifier: Apache-2.0
"""InstanceMap: key frames come one by one, and the instances of what they saw keep their ids.

A key frame adds the voxels that the map does not hold, cut into super-points; says of pairs of super-points in view
whether they are one thing; and the instances of which any super-point was in view are cut anew. What it costs does not
grow with the map, and the map does not grow without end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from perception_models.geometry.cameras import Floats, RgbdFrame
from perception_models.segmentation.depth_agreement import Agreement, compare
from perception_models.segmentation.frame_checks import fault_of
from perception_models.segmentation.frame_cloud import FrameCloud
from perception_models.segmentation.gathered import Gathered
from perception_models.segmentation.identities import NEW, keep_identities
from perception_models.segmentation.joining import Joined, Patches, join
from perception_models.segmentation.online_parts import Parts, Surface
from perception_models.segmentation.online_settings import OnlineSettings
from perception_models.segmentation.voxels import Voxels

Integers = NDArray[np.int64]
BESIDE = 0.5  # m around the super-points in view, within which others matter to them
TOUCH = 2.0  # voxels beyond the noise of depth within which two surfaces touch


@dataclass(frozen=True)
class MapUpdate:
    """What became of a view. accepted: whether the map took it in, and if not the reason why. labels (H, W) int32: id
    of the instance at each pixel, 0 for none. added: new voxels. changed: ids of instances that may have changed."""

    accepted: bool
    reason: str
    labels: NDArray[np.int32]
    added: int = 0
    changed: tuple[int, ...] = ()


class InstanceMap:
    """A map of voxels, super-points and instances; all of one frame, metres. See OnlineSettings for what bounds it."""

    def __init__(self, parts: Parts, settings: OnlineSettings | None = None) -> None:
        self.settings = settings or OnlineSettings()
        self.parts = parts
        self.timing: dict[str, float] = {}
        self.reset()

    def reset(self) -> None:
        """Forgets everything; ids begin anew."""
        self._voxels, self._gathered = Voxels.none(), Gathered()
        self._ids = np.zeros(0, np.int64)  # instance of each super-point
        self._scores = np.zeros(0, np.float32)  # of that instance
        self._next_id, self._view = NEW + 1, 0
        self.last_frame: RgbdFrame | None = None

    def __len__(self) -> int:
        """Voxels held."""
        return len(self._voxels)

    def __bool__(self) -> bool:
        """A map is one even where it is empty."""
        return True

    @property
    def superpoints(self) -> int:
        """Super-points held."""
        return len(self._ids)

    @property
    def voxels(self) -> Voxels:
        """What is held. Not to be changed."""
        return self._voxels

    @property
    def ids(self) -> Integers:
        """Instance (N,) of each voxel, 1 and up; an instance keeps its id for as long as any of it is held."""
        return self._ids[self._voxels.superpoints]

    def scores(self, ids: Integers) -> Floats:
        """How sure (K,), 0 to 1, it is that instances (K,) that are held are one thing each."""
        names, rows = np.unique(self._ids, return_index=True)
        return self._scores[rows[np.searchsorted(names, ids)]]

    def update(self, frame: RgbdFrame, stamp: float) -> MapUpdate:
        """Takes in a view of `stamp` seconds, or leaves it out, with the reason, and the map as it was."""
        self.timing = {}
        with self._timed("preprocess"):
            reason = fault_of(frame, self.settings)
            agreement = None if reason else compare(self._voxels, frame, self._view + 1, self.settings)
        if agreement is None or agreement.contradiction:
            blank = np.zeros(frame.rgb.shape[:2], np.int32)
            return MapUpdate(False, agreement.contradiction if agreement else reason, blank)
        self._view += 1
        with self._timed("preprocess"):
            self._refresh(agreement, stamp)
            pixels, added = self._take_in(FrameCloud.of(frame, self.settings), frame, stamp)
        with self._timed("inference"):
            in_view = self._look(frame)
        with self._timed("postprocess"):
            names = self._regroup(in_view)
            labels = self._label_image(pixels, frame.rgb.shape[:2])
            self._forget(frame, stamp)
        self.last_frame = frame
        return MapUpdate(True, "", labels, added, names)

    def _refresh(self, agreement: Agreement, stamp: float) -> None:
        """What the view confirms was seen now; what views look through again and again is not there any more."""
        voxels = self._voxels
        voxels.seen[agreement.confirmed], voxels.views[agreement.confirmed] = stamp, self._view
        voxels.misses[agreement.confirmed] = 0
        voxels.misses[agreement.passed] += 1
        gone = voxels.misses >= self.settings.misses
        if gone.any():
            self._keep(~gone)

    def _take_in(self, cloud: FrameCloud, frame: RgbdFrame, stamp: float) -> tuple[Integers, int]:
        """Adds what the map does not hold; gives back the voxel (h, w) of each pixel, -1 for none, and how many are
        new."""
        noise = 2 * self.settings.depth_noise * cloud.depth**2
        near, distances = self._nearest(cloud, self.settings.voxel * (1 + TOUCH) + noise.max(initial=0))
        new = distances > self.settings.voxel + noise
        touches = distances < self.settings.voxel * (1 + TOUCH) + noise
        touched = np.where(touches & (near >= 0), self._superpoint_of(near), -1)
        rows = near.copy()
        rows[new] = self._add(cloud, np.flatnonzero(new), touched[new], frame, stamp)
        return np.where(cloud.rows >= 0, rows[cloud.rows], -1), int((rows[new] >= 0).sum())

    def _nearest(self, cloud: FrameCloud, reach: float) -> tuple[Integers, NDArray[np.float64]]:
        """The voxel (N,) nearest to each point, -1 for none within reach, and how far it is."""
        around = self._voxels.around(cloud.points, reach)
        if not len(around):
            return np.full(len(cloud), -1), np.full(len(cloud), np.inf)
        distances, found = cKDTree(self._voxels.points[around]).query(cloud.points, distance_upper_bound=reach)
        return np.append(around, -1)[found], distances

    def _superpoint_of(self, rows: Integers) -> Integers:
        return np.append(self._voxels.superpoints, -1)[rows].astype(np.int64)

    def _add(self, cloud: FrameCloud, new: Integers, touched: Integers, frame: RgbdFrame, stamp: float) -> Integers:
        """Adds points `new` (M,) of a cloud as voxels; gives back their rows, -1 for those that are flying pixels."""
        if not len(new):
            return new
        normals = self.parts.normals(cloud.points, np.asarray(frame.pose)[:3, 3])[new]
        colors = cloud.colors[new]
        labels = np.asarray(self.parts.divide(cloud.points[new], normals, colors), np.int64)
        patches = Patches(normals, colors, labels, int(labels.max()) + 1)
        joined = join(patches, touched, self._held(touched), self.settings)
        names = self._named(joined, self._rename(joined.merged))[labels]
        kept = names >= 0
        rows = np.full(len(new), -1)
        rows[kept] = len(self._voxels) + np.arange(kept.sum())
        added = (cloud.points[new[kept]], normals[kept], colors[kept], names[kept].astype(np.int32))
        self._voxels = self._voxels.joined(Voxels.seen_now(*added, stamp, self._view))
        return rows

    def _held(self, touched: Integers) -> Patches:
        """The super-points of the map, of which only those that are touched have voxels here."""
        wanted = np.zeros(self.superpoints + 1, bool)
        wanted[touched] = True
        wanted[-1] = False
        rows = np.flatnonzero(wanted[self._voxels.superpoints])
        some = self._voxels.where(rows)
        return Patches(some.normals, some.colors, some.superpoints.astype(np.int64), self.superpoints)

    def _named(self, joined: Joined, name: Integers) -> Integers:
        """Rows of the table of super-points for what new ones become part of, given the new rows of the old ones; the
        table grows by those that stand apart."""
        joins, apart = joined.into >= 0, joined.into == -1
        names = np.where(apart, self.superpoints + np.cumsum(apart) - 1, -1)
        names[joins] = name[joined.into[joins]]
        self._ids = np.append(self._ids, np.full(apart.sum(), NEW))
        self._scores = np.append(self._scores, np.zeros(apart.sum(), np.float32))
        self._gathered.grow(self.superpoints)
        return names

    def _look(self, frame: RgbdFrame) -> Integers:
        """Gathers what the view says; gives back the super-points (V,) in the camera's field of view."""
        rows, _ = self._voxels.in_view(frame, self.settings)
        names, labels = np.unique(self._voxels.superpoints[rows], return_inverse=True)
        if len(rows):
            evidence = self.parts.look(frame, self._voxels.points[rows], labels.astype(np.int32))
            renamed = names[evidence.superpoints].astype(np.int64), names[evidence.pairs].astype(np.int64)
            self._gathered.add(replace(evidence, superpoints=renamed[0], pairs=renamed[1]))
        return np.union1d(names, np.flatnonzero(self._ids == NEW))

    def _regroup(self, some: Integers) -> tuple[int, ...]:
        """Cuts the instances of some super-points anew; gives back the ids that are concerned. What else belongs to
        these instances stays together: it counts as one super-point each."""
        if not len(some):
            return ()
        former = np.setdiff1d(self._ids[some], NEW)
        place = np.searchsorted(former, self._ids)
        rest = np.append(former, NEW)[place] == self._ids
        rest[some] = False
        others = np.unique(place[rest])
        name = np.full(self.superpoints, -1)
        name[some] = np.arange(len(some))
        name[rest] = len(some) + np.searchsorted(others, place[rest])
        held = np.append(self._ids[some], former[others])
        self._name_anew(name, held, len(some))
        return tuple(np.union1d(former, self._ids[some]).tolist())

    def _name_anew(self, name: Integers, held: Integers, whole: int) -> None:
        """Ids for super-points by name (S,), -1 for those that are not concerned, whose names had ids `held` (K,)."""
        groups, scores = self.parts.group(self._surface(name, whole), self._gathered.among(name))
        sizes = np.bincount(name[self._voxels.superpoints] + 1, minlength=len(held) + 1)[1:]
        ids = keep_identities(np.asarray(groups, np.int64), held, sizes, self._next_id, self.settings.older)
        mine = name >= 0
        self._ids[mine], self._scores[mine] = ids[name[mine]], scores[groups][name[mine]]
        self._next_id = max(self._next_id, int(ids.max()) + 1)

    def _surface(self, name: Integers, whole: int) -> Surface:
        """The voxels of super-points by name (S,), -1 for none: of the first `whole` names all, of others what is near
        these, and one at least."""
        labels = name[self._voxels.superpoints]
        wanted = (labels >= 0) & (labels < whole)
        near = self._voxels.around(self._voxels.points[wanted], BESIDE)
        wanted[near[labels[near] >= 0]] = True
        wanted[np.unique(labels, return_index=True)[1]] = True
        rows = np.flatnonzero(wanted & (labels >= 0))
        some = self._voxels.where(rows)
        return Surface(some.points, some.normals, some.colors, labels[rows])

    def _label_image(self, pixels: Integers, shape: tuple[int, int]) -> NDArray[np.int32]:
        """Ids (H, W) from the voxel (h, w) of each pixel of the thinned image."""
        ids = np.append(self.ids, NEW)[pixels].astype(np.int32)
        stride = self.settings.stride
        return ids.repeat(stride, axis=0).repeat(stride, axis=1)[: shape[0], : shape[1]]

    def _forget(self, frame: RgbdFrame, stamp: float) -> None:
        """Takes out what is far and long not seen, and what is too much."""
        settings, voxels = self.settings, self._voxels
        distance = np.linalg.norm(voxels.points - np.asarray(frame.pose, np.float32)[:3, 3], axis=1)
        kept = (distance <= settings.keep_radius) | (stamp - voxels.seen <= settings.keep_time)
        if (excess := int(kept.sum()) - settings.capacity) > 0:
            rows = np.flatnonzero(kept)
            kept[rows[np.argsort(-distance[rows], kind="stable")[:excess]]] = False
        if not kept.all():
            self._keep(kept)

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        """Takes out the other voxels, and the super-points that have none left."""
        self._voxels = self._voxels.where(kept)
        alive = np.bincount(self._voxels.superpoints, minlength=self.superpoints) > 0
        self._rename(np.where(alive, np.arange(self.superpoints), -1))

    def _rename(self, heirs: Integers) -> Integers:
        """Each super-point becomes part of its heir (S,), -1 where it is gone; gives back their new rows (S,)."""
        rows = np.arange(self.superpoints)
        stays = heirs == rows
        if stays.all():
            return rows
        name = np.append(np.where(stays, np.cumsum(stays) - 1, -1), -1)[heirs]
        self._voxels.superpoints = name[self._voxels.superpoints].astype(np.int32)
        self._ids, self._scores = self._ids[stays], self._scores[stays]
        self._gathered.rename(name)
        return name

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        """Adds to the milliseconds of a stage."""
        start = perf_counter()
        yield
        self.timing[stage] = self.timing.get(stage, 0.0) + 1e3 * (perf_counter() - start)

    @property
    def engine_info(self) -> Any:
        """Facts of the engines."""
        return self.parts.engine_info

    def close(self) -> None:
        """Gives back the engines."""
        self.parts.close()
