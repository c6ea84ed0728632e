# SPDX-License-Identifier: Apache-2.0
"""Points of a scene from matched images by COLMAP (Schoenberger and Frahm, CVPR 2016): with poses that are given, or
with poses that it finds. Workshop only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from perception_models.geometry import se3
from perception_models.relocalization.assignment import Indices
from perception_models.relocalization.pairs import Pair
from perception_models.relocalization.views import View

try:
    import pycolmap
except ImportError:
    pycolmap = None

HALF = 0.5  # COLMAP's first pixel has its centre at one half
SEED = 1
MIN_VIEWS = 3  # of a reconstruction


class MissingColmap(RuntimeError):
    """pycolmap is not installed."""


def triangulate(views: Sequence[View], matches: Iterable[tuple[Pair, Indices]]) -> list[View]:
    """The posed views with the depth of those key points that were triangulated. Raises MissingColmap."""
    with TemporaryDirectory() as name:
        database = _write_database(Path(name) / "database.db", views, matches)
        options = _options()
        model = pycolmap.triangulate_points(_posed_model(views), database, name, name, options=options)
    return _views_of(model, views)


def reconstruct(views: Sequence[View], matches: Iterable[tuple[Pair, Indices]]) -> list[View]:
    """The views with poses and depths in a frame and a unit of COLMAP's choice; those that do not fit in stay as they
    are. Raises MissingColmap, and ValueError where the images make no scene."""
    with TemporaryDirectory() as name:
        database = _write_database(Path(name) / "database.db", views, matches)
        models = pycolmap.incremental_mapping(database, name, name, options=_options())
    if not models:
        raise ValueError(
            f"no poses can be found for these {len(views)} images: take more of them, overlapping by two thirds, while "
            "the camera moves sideways and not only turns; or give poses.txt"
        )
    return _views_of(max(models.values(), key=lambda model: model.num_reg_images()), views)


def _options() -> pycolmap.IncrementalPipelineOptions:
    options = pycolmap.IncrementalPipelineOptions()
    options.min_model_size = MIN_VIEWS
    options.multiple_models = options.extract_colors = False
    options.ba_refine_focal_length = options.ba_refine_extra_params = False
    options.mapper.abs_pose_refine_focal_length = options.mapper.abs_pose_refine_extra_params = False
    options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = SEED
    return options


def _write_database(path: Path, views: Sequence[View], matches: Iterable[tuple[Pair, Indices]]) -> Path:
    """Key points and matches that satisfy a common epipolar geometry, in COLMAP's file -> its path."""
    if pycolmap is None:
        raise MissingColmap(
            "images without depth are triangulated by pycolmap, which is missing: pip install "
            "'perception_nodes[workshop]', or build the map from images with depth"
        )
    pycolmap.logging.minloglevel = pycolmap.logging.Level.ERROR.value
    with pycolmap.Database.open(path) as database:
        for number, view in enumerate(views, 1):
            database.write_camera(_camera(view, number), use_camera_id=True)
            rig = pycolmap.Rig(rig_id=number)
            rig.add_ref_sensor(_camera(view, number).sensor_id)
            database.write_rig(rig, use_rig_id=True)
            image = _image(view, number)
            frame = pycolmap.Frame(frame_id=number, rig_id=number)
            frame.add_data_id(image.data_id)
            database.write_image(image, use_image_id=True)
            database.write_frame(frame, use_frame_id=True)
            database.write_keypoints(number, view.features.points + np.float32(HALF))
        for (first, second), pairs in matches:
            database.write_matches(first + 1, second + 1, pairs.astype(np.uint32))
    pycolmap.geometric_verification(path)
    return path


def _camera(view: View, number: int) -> pycolmap.Camera:
    focal_x, focal_y, x, y = view.camera_matrix[[0, 1, 0, 1], [0, 1, 2, 2]]
    width, height = view.size
    parameters = [focal_x, focal_y, x + HALF, y + HALF]
    return pycolmap.Camera(
        camera_id=number,
        model="PINHOLE",
        width=width,
        height=height,
        params=parameters,
        has_prior_focal_length=True,
    )


def _image(view: View, number: int) -> pycolmap.Image:
    key_points = view.features.points.astype(np.float64) + HALF
    return pycolmap.Image(name=str(number), keypoints=key_points, camera_id=number, image_id=number)


def _posed_model(views: Sequence[View]) -> pycolmap.Reconstruction:
    """The cameras where they are, and no points yet."""
    model = pycolmap.Reconstruction()
    for number, view in enumerate(views, 1):
        model.add_camera_with_trivial_rig(_camera(view, number))
        seen_from = pycolmap.Rigid3d(se3.inverse(view.pose)[:3])
        model.add_image_with_trivial_frame(_image(view, number), seen_from)
    return model


def _views_of(model: pycolmap.Reconstruction, views: Sequence[View]) -> list[View]:
    """Each view as the model sees it: its pose, and the depth of key points that are points of the model."""
    images = {image.image_id: image for image in model.images.values() if image.has_pose}
    return [_view_of(model, images[n], view) if n in images else view for n, view in enumerate(views, 1)]


def _view_of(model: pycolmap.Reconstruction, image: pycolmap.Image, view: View) -> View:
    seen_from = image.cam_from_world().matrix()
    depth = np.full(len(view.features), np.nan, np.float32)
    for number in image.get_observation_point2D_idxs():
        place = model.point3D(image.point2D(number).point3D_id).xyz
        depth[number] = seen_from[2, :3] @ place + seen_from[2, 3]
    return replace(view, pose=se3.inverse(se3.make(seen_from[:, :3], seen_from[:, 3])), depth=depth)
