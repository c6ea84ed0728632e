# SPDX-License-Identifier: Apache-2.0
"""The reconstructor that nodes, evaluation and tests call: images in, one by one; views of one world out. No torch.

CUT3R (Wang et al., "Continuous 3D Perception Model with Persistent State", CVPR 2025): a state of fixed size is read
and written by every image, so memory is the same after ten images and after a million.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from perception_models.geometry.cameras import Floats, Matrix, check_camera
from perception_models.reconstruction.backend import Answer, EngineNetwork, Network, ray_map
from perception_models.reconstruction.focal import estimate_camera
from perception_models.reconstruction.input import NetworkInput, prepare
from perception_models.reconstruction.online_settings import OnlineSettings
from perception_models.reconstruction.placement import Placement
from perception_models.reconstruction.scale import ScaleFilter
from perception_models.reconstruction.stream import NO_ANSWER, Keep, Sight, Stream
from perception_models.reconstruction.view import View, no_view
from perception_models.runtime import EngineInfo

WEIGHTS = Path(__file__).parent / "weights"


def weights_folder(variant: str) -> Path:
    """Where a variant lies: a folder's name under `weights/`, or a path to a folder."""
    named, folder = WEIGHTS / variant, Path(variant)
    return folder if folder.is_dir() and not named.is_dir() else named


class Reconstructor:
    """Points, depth, pose and camera of every image of a stream, in one world. Get one with `Reconstructor.load()`."""

    def __init__(self, network: Network, settings: OnlineSettings | None = None) -> None:
        self.settings = settings or OnlineSettings()
        self.timing: dict[str, float] = {}  # ms of the last update: preprocess, inference, postprocess
        self._network = network
        self._stream = Stream(network, self.settings)
        self._scale = ScaleFilter(self.settings)

    @staticmethod
    def load(
        variant: str = "compact",
        backend: str = "auto",
        threads: int | None = None,
        settings: OnlineSettings | None = None,
    ) -> Reconstructor:
        """Load a variant: a folder name under `weights/`, or a path to a folder.

        Raises BadWeights where the folder is incomplete, and as `runtime.load_engine` does.
        """
        return Reconstructor(EngineNetwork.load(weights_folder(variant), backend, threads), settings)

    def reset(self, reason: str = "asked for") -> None:
        """Forget everything; the next valid image begins a new world, and its view has this reason in `reset`."""
        self._stream.reset(reason)

    def update(
        self,
        rgb: NDArray[np.uint8],
        camera_matrix: Matrix | None = None,
        depth: Floats | None = None,
        odometry: Matrix | None = None,
        keep: Keep = lambda pose: True,
    ) -> View:
        """Take in the next image (h, w, 3) uint8 RGB, undistorted -> its view. Nothing about an image raises: what
        cannot be used gives a view that is not valid, with the reason, and leaves the state as it was.

        camera_matrix (3, 3): of the image, where it is known; it brings the image to the canonical focal length,
        without which the network's metres are none. depth (h, w) m, 0 or NaN unknown, registered to the image, or
        odometry, the camera's pose (4, 4) in any fixed frame: either tells the scale of the world.

        keep: asked with the pose (4, 4) camera -> world whether the image shall enter the state; one that begins a
        state always does. So a fast camera is answered at every image, and what is remembered is not all alike.
        """
        self.timing = {}
        with self._timed("preprocess"):
            image = self._admitted(rgb, camera_matrix)
        if isinstance(image, str):
            return self._nothing(image)
        with self._timed("inference"):
            sight = self._stream.look(image, keep)
        if isinstance(sight, str):
            return self._nothing(sight)
        with self._timed("postprocess"):
            return self._view(image, sight, depth, odometry)

    def query(self, pose: Matrix, camera_matrix: Matrix | None = None) -> View:
        """What the state expects at a pose (4, 4), camera -> world, that no image showed; `camera_matrix` (3, 3) of
        views of the network's size (`size`), None: the canonical one. The state stays as it is.

        Raises RuntimeError before the first image, and where poses are of features: the state then lies in a frame of
        its own, of which no pose is known; ValueError for a pose or a matrix that is none.
        """
        if self.settings.poses != "network":
            raise RuntimeError(f"poses are of {self.settings.poses}: the network's state does not share their world")
        chunk, camera = self._stream.chunk, self._network.camera
        if chunk is None:
            raise RuntimeError("no image was taken in yet: there is nothing to ask for")
        if np.shape(pose) != (4, 4) or not np.isfinite(pose).all():
            raise ValueError("a pose is (4, 4), finite, camera -> world")
        matrix = camera.matrix if camera_matrix is None else np.asarray(camera_matrix, np.float64)
        check_camera(matrix)
        local = chunk.placement.local(pose)
        tokens = self._network.encode_rays(ray_map(local, matrix, camera))
        answer, _ = self._network.step(tokens, chunk.state, gated=False)
        if not answer.is_finite:
            return self._nothing(NO_ANSWER)
        expected = np.rint(127.5 * (answer.rgb + 1)).astype(np.uint8)
        view = self._placed(replace(answer, pose=local), chunk.placement, matrix)
        return replace(view, rgb=expected, mask=answer.depth > 0)

    def _admitted(self, rgb: NDArray[np.uint8], camera_matrix: Matrix | None) -> NetworkInput | str:
        """The network's input, or why the image cannot be used."""
        try:
            image = prepare(rgb, camera_matrix, self._network.camera)
        except ValueError as error:
            return str(error)
        if resized := self._stream.watch.resized(image.layout.size):
            self.reset(resized)
        return self._stream.watch.fault(image) or image

    def _view(self, image: NetworkInput, sight: Sight, depth: Floats | None, odometry: Matrix | None) -> View:
        answer, mask = sight.answer, image.mask & (sight.answer.depth > 0)
        placement = self._measured(image, sight, depth, odometry)
        matrix = image.camera_matrix
        if matrix is None:
            matrix = estimate_camera(answer.points_self, answer.confidence_self, mask)
        view = self._placed(answer, placement, matrix)
        return replace(view, rgb=image.rgb, mask=mask, reset=sight.reset, kept=sight.kept)

    def _measured(self, image: NetworkInput, sight: Sight, depth: Floats | None, odometry: Matrix | None) -> Placement:
        """Where the network's frame lies once the world is as large as a sensor tells. The malformed tells nothing."""
        chunk = self._stream.chunk
        assert chunk is not None
        self._scale.begin(self._stream.world)
        placement, answer, factor = chunk.placement, sight.answer, 1.0
        if depth is not None and np.shape(depth) == image.layout.size[::-1]:
            factor = self._scale.depth(answer.depth * placement.scale, image.layout.depth(depth), image.mask)
        elif odometry is not None and np.shape(odometry) == (4, 4) and np.isfinite(odometry).all():
            factor = self._scale.motion(placement.camera(answer.pose), odometry)
        self._stream.chunk = replace(chunk, placement=placement.rescaled(factor * placement.scale, answer.pose))
        return self._stream.chunk.placement

    def _placed(self, answer: Answer, placement: Placement, camera_matrix: Matrix) -> View:
        """An answer in the world, without image and mask."""
        return View(
            points=placement.apply(answer.points),
            confidence=answer.confidence,
            depth=answer.depth * np.float32(placement.scale),
            pose=placement.camera(answer.pose),
            camera_matrix=camera_matrix,
            rgb=np.zeros((*answer.depth.shape, 3), np.uint8),
            mask=np.zeros(answer.depth.shape, bool),
            world=self._stream.world,
            scale=placement.scale,
        )

    def _nothing(self, reason: str) -> View:
        return no_view(*self.size, reason, max(self._stream.world, 0))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the views."""
        return self._network.camera.width, self._network.camera.height

    @property
    def engine_info(self) -> EngineInfo:
        """Backend and precision of the decoder."""
        return self._network.engine_info

    def close(self) -> None:
        """Free the engines."""
        self._network.close()

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        """Notes the milliseconds of a stage."""
        start = perf_counter()
        yield
        self.timing[stage] = 1e3 * (perf_counter() - start)
