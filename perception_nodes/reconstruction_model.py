# SPDX-License-Identifier: Apache-2.0
"""What the reconstruction node is set to, and what it runs: the reconstructor, and the map that key frames fill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perception_models.reconstruction import CloudMap, OnlineSettings, Reconstructor
from perception_models.reconstruction.online_settings import POSES
from perception_nodes.parameters import Parameters, parameter

ENDINGS = (".ply", ".pcd")


@dataclass(frozen=True)
class ReconstructionParameters(Parameters):
    """Run-time tuning of the reconstruction node; facts of the model travel with its weights."""

    variant: str = parameter("compact", "weights: a folder of models/reconstruction/weights", fixed=True)
    backend: str = parameter(
        "auto", "engine; auto is TensorRT where it runs", choices=("auto", "onnxruntime", "tensorrt"), fixed=True
    )
    threads: int = parameter(0, "threads of the engine on the CPU; 0 lets it choose", low=0, high=256, fixed=True)
    use_camera_info: bool = parameter(
        True, "~/camera_info fixes the focal length; false: the network finds it, images need no camera info"
    )
    image_is_rectified: bool = parameter(False, "images come without distortion, and P of their camera info counts")
    min_interval: float = parameter(
        0.0, "images that follow the last one sooner are passed over; 0: every one it has time for",
        unit="s", low=0.0, high=3600.0,
    )  # fmt: skip
    key_distance: float = parameter(
        0.1, "an image enters state and map after so much way; 0: every image", unit="m", low=0.0, high=10.0
    )
    key_angle: float = parameter(0.1, "or after so much turning; 0: every image", unit="rad", low=0.0, high=3.2)
    key_time: float = parameter(2.0, "or after so much time; 0: every image", unit="s", low=0.0, high=3600.0)
    poses: str = parameter(
        "features", "by image features on the network's depth, or the network's own", choices=POSES, fixed=True
    )
    gated: bool = parameter(
        False, "each part of the state takes in as much as it attended to the image: forgets less (TTT3R)", fixed=True
    )
    reset_every: int = parameter(
        0, "key frames after which the state begins anew in the same world; 0 never", low=0, high=1_000_000, fixed=True
    )
    scale_source: str = parameter(
        "none", "what tells metres: the network alone, ~/scale_depth registered to the image, or ~/scale_odometry",
        choices=("none", "depth", "odometry"), fixed=True,
    )  # fmt: skip
    scale_timeout: float = parameter(0.1, "longest wait for it at the image's stamp", unit="s", low=0.0, high=5.0)
    scale_slop: float = parameter(
        0.02, "what is so much older or newer than the image is taken for it", unit="s", low=0.0, high=1.0
    )
    min_confidence: float = parameter(
        1.5, "pixels of which the network is less sure are in neither ~/points nor ~/depth; 1 keeps all",
        low=1.0, high=1000.0,
    )  # fmt: skip
    map_confidence: float = parameter(
        1.75, "pixels of which it is less sure do not enter the map", low=1.0, high=1000.0, fixed=True
    )
    map_reach: float = parameter(
        8.0, "what is farther from the camera does not enter the map", unit="m", low=0.1, high=1000.0, fixed=True
    )
    voxel: float = parameter(0.03, "edge of a voxel of the map", unit="m", low=0.002, high=5.0, fixed=True)
    capacity: int = parameter(
        500_000, "voxels of the map; beyond, no place is added", low=1000, high=10_000_000, fixed=True
    )
    map_period: float = parameter(1.0, "least time between two ~/map", unit="s", low=0.0, high=3600.0)
    save_file: str = parameter("", "file .ply or .pcd that ~/save_map writes")
    map_frame: str = parameter("map", "frame of all that is published but ~/depth", fixed=True)
    odom_frame: str = parameter(
        "", "frame in which another node's odometry gives base_frame; empty: there is none", fixed=True
    )
    base_frame: str = parameter("base_link", "frame whose pose is given; empty gives the camera's own", fixed=True)
    publish_tf: bool = parameter(True, "send map_frame -> base_frame, or -> odom_frame where there is one")
    tf_timeout: float = parameter(0.1, "longest wait for a transform at the image's stamp", unit="s", low=0.0, high=5.0)
    tf_ahead: float = parameter(
        0.5, "map_frame -> odom_frame is sent for this long after the image's stamp", unit="s", low=0.0, high=10.0
    )
    sigma_position: float = parameter(
        0.1, "standard deviation that ~/odometry tells, as the network gives none", unit="m", low=1e-6, high=1000.0
    )
    sigma_rotation: float = parameter(0.05, "the same of the rotation", unit="rad", low=1e-6, high=10.0)
    path_step: float = parameter(0.1, "from pose to pose of ~/path", unit="m", low=0.0, high=100.0, fixed=True)
    path_poses: int = parameter(2000, "of ~/path; the oldest go", low=1, high=100_000, fixed=True)

    def problems(self) -> list[str]:
        """The file must be one that others recognise, and base_frame has one parent (REP-105)."""
        found = super().problems()
        if self.save_file and not self.save_file.endswith(ENDINGS):
            found.append(f"save_file '{self.save_file}' does not end in {' or '.join(ENDINGS)}")
        if self.scale_source == "odometry" and self.publish_tf and not self.odom_frame:
            found.append(
                "scale_source is odometry, which gives base_frame a parent: name it in odom_frame, or set publish_tf "
                "false"
            )
        return found


class ReconstructionModel:
    """A reconstructor, and the map of what its key frames showed."""

    def __init__(self, reconstructor: Reconstructor, cloud_map: CloudMap) -> None:
        self.reconstructor, self.map = reconstructor, cloud_map

    @property
    def engine_info(self) -> Any:
        """Facts of the decoder's engine."""
        return self.reconstructor.engine_info

    @property
    def timing(self) -> Mapping[str, float]:
        """Milliseconds of the last image."""
        return self.reconstructor.timing

    def reset(self, reason: str) -> None:
        """Forgets all that was seen."""
        self.reconstructor.reset(reason)
        self.map.clear()

    def close(self) -> None:
        """Gives back the engines."""
        self.reconstructor.close()


def load_model(p: ReconstructionParameters) -> ReconstructionModel:
    """The reconstructor that the parameters ask for, and an empty map."""
    settings = OnlineSettings(poses=p.poses, gated=p.gated, reset_every=p.reset_every)
    reconstructor = Reconstructor.load(p.variant, p.backend, p.threads or None, settings)
    return ReconstructionModel(reconstructor, CloudMap(p.voxel, p.capacity, p.map_confidence, p.map_reach))
