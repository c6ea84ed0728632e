# SPDX-License-Identifier: Apache-2.0
"""Find one cloud in another, from nothing; prints the pose of SOURCE in TARGET and whether it may be believed.

Clouds are .ply, .pcd, .npy (N, 3) or .bin (KITTI) files in metres, each in a frame whose origin is where it was seen
from. The exit status is 0 where the pose is valid, else 1.

example: perception register source.ply target.ply --out aligned.ply
"""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from perception_models.registration import Registration


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("source", type=Path, metavar="SOURCE", help="cloud that is looked for")
    parser.add_argument("target", type=Path, metavar="TARGET", help="cloud in which it is looked for")
    parser.add_argument("--out", type=Path, metavar="FILE.ply", help="write the source, moved onto the target")
    parser.add_argument(
        "--scale", default="auto", choices=["auto", "indoor", "lidar"], help="by default the larger cloud decides"
    )
    parser.add_argument(
        "--variant", default="classical",
        help="classical, a folder of models/registration/weights or a path to one (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, help="compute threads (default: 1)")


def run(arguments: argparse.Namespace) -> int:
    """Align, print, write what was asked for; status 1 where the pose is not valid."""
    from perception_models.geometry import se3
    from perception_models.registration import Registrar
    from perception_models.registration.cloud_files import read_cloud
    from perception_models.registration.ply import write_ply

    if arguments.out and arguments.out.suffix.lower() != ".ply":
        raise ValueError(f"--out {arguments.out}: the name of a .ply file is needed")
    source, target = (read_cloud(path).points for path in (arguments.source, arguments.target))
    registrar = Registrar.load(arguments.variant, threads=arguments.threads, scale=arguments.scale)
    began = time.perf_counter()
    found = registrar.align(source, target)
    show(found, 1e3 * (time.perf_counter() - began))
    registrar.close()
    if arguments.out and found.valid:
        write_ply(arguments.out, np.asarray(se3.apply(found.transform, source), np.float32))
        print(arguments.out)
    return 0 if found.valid else 1


def show(found: "Registration", milliseconds: float) -> None:
    """The answer in lines."""
    print(f"valid: {'yes' if found.valid else f'no: {found.reason}'}")
    print(f"overlap {found.overlap:.2f}, {found.inliers} inliers, {milliseconds:.0f} ms")
    if found.valid:
        deviation = np.sqrt(np.diag(found.covariance))
        centimetres, degrees = 100 * np.linalg.norm(deviation[:3]), np.degrees(np.linalg.norm(deviation[3:]))
        print(f"standard deviation {centimetres:.2f} cm, {degrees:.3f} deg")
        print(np.array2string(found.transform, precision=6, suppress_small=True))
