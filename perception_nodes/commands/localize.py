# SPDX-License-Identifier: Apache-2.0
"""Find where an image was taken in a map made by `perception map build`; prints the pose, camera -> map.

The camera is told by --camera, or else by the folder in which the image lies: K.txt beside images/, or the layout of
7-Scenes. The image must be without distortion.

example: perception localize out/room.map photo.jpg --camera 525 525 319.5 239.5
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from perception_models.geometry.cameras import Matrix


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("map", type=Path, metavar="MAP", help="file of the map")
    parser.add_argument("image", type=Path, metavar="IMAGE", help="colour image")
    parser.add_argument("--camera", type=float, nargs=4, metavar=("FX", "FY", "CX", "CY"), help="in pixels")
    parser.add_argument(
        "--method", default="landmarks", help="landmarks, network or network+landmarks (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, help="compute threads (default: the engine's own choice)")


def run(arguments: argparse.Namespace) -> int:
    """Find the image and print its pose; status 1 with the reason where it is not found."""
    from perception_models.relocalization import Relocalizer, SceneMap
    from perception_nodes.seven_scenes import read_rgb

    matrix = camera_of(arguments.image, arguments.camera)
    scene_map = SceneMap.load(arguments.map)
    relocalizer = Relocalizer(scene_map, arguments.method, arguments.threads)
    fix = relocalizer.localize(read_rgb(arguments.image), matrix)
    relocalizer.close()
    if not fix.valid:
        raise RuntimeError(f"{arguments.image} was not found in {arguments.map}: {fix.reason}")
    deviation = np.sqrt(np.diag(fix.covariance))
    print(np.array2string(fix.pose, precision=6, suppress_small=True))
    hundredths, degrees = 100 * np.linalg.norm(deviation[:3]), np.degrees(np.linalg.norm(deviation[3:]))
    unit = "cm" if scene_map.is_metric else "hundredths of the map's unit, which is not the metre"
    print(f"{fix.inliers} inliers; standard deviation {hundredths:.2f} {unit}, {degrees:.3f} deg")
    return 0


def camera_of(image: Path, given: list[float] | None) -> "Matrix":
    """The camera matrix (3, 3) that is given, or that the image's folder tells. Raises ValueError without either."""
    if given is not None:
        focal_x, focal_y, x, y = given
        return np.array([[focal_x, 0, x], [0, focal_y, y], [0, 0, 1]])
    matrix = image.parent.parent / "K.txt"
    if matrix.exists():
        return np.loadtxt(matrix).reshape(3, 3)
    if image.name.startswith("frame-") and ".color." in image.name:
        from perception_nodes.seven_scenes import COLOR_MATRIX

        return COLOR_MATRIX
    raise ValueError(f"what camera took {image}? Give --camera FX FY CX CY, in pixels")
