# SPDX-License-Identifier: Apache-2.0
"""Build the map in which `perception localize` and relocalization_node find a camera.

SRC is a bag with /camera/image, /camera/camera_info, /camera/depth and poses (truth or /tf), a folder in the layout of
7-Scenes, or a folder with images/, K.txt, depth/ and poses.txt. OUT is one file. Without depth, key points are
triangulated; without poses, they are reconstructed (both by pycolmap). Without either the map has no scale.

example: perception map build out/room.mcap out/room.map
"""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perception_models.geometry.cameras import RgbdFrame
    from perception_models.relocalization import SceneMap


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("action", choices=["build"], help="what to do")
    parser.add_argument("source", type=Path, metavar="SRC", help="bag or folder of images")
    parser.add_argument("out", type=Path, metavar="OUT", help="the file to write")
    parser.add_argument(
        "--features", default="xfeat", help="xfeat, or rootsift, which needs no weights (default: %(default)s)"
    )
    parser.add_argument(
        "--network", type=float, nargs="?", const=5.0, metavar="MINUTES",
        help="also train the scene's network, so long at most (default: %(const)s; needs torch)",
    )  # fmt: skip
    parser.add_argument("--lines", action="store_true", help="also map line segments, which takes more time")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every N-th image (default: all)")


def run(arguments: argparse.Namespace) -> int:
    """Build, write, and say how good it is."""
    from perception_models.relocalization import SceneMap
    from perception_models.relocalization.settings import MapSettings

    if arguments.every < 1:
        raise ValueError(f"--every {arguments.every}: take every 1st, 2nd, 3rd ... image")
    start = time.monotonic()
    with open_source(arguments.source, arguments.every) as frames:
        scene_map = SceneMap.build(frames, arguments.features, MapSettings(lines=arguments.lines))
    if arguments.network is not None:
        scene_map = replace(scene_map, network=train_network(arguments))
    scene_map.save(arguments.out)
    print(f"{arguments.out}: {', '.join(summary(scene_map, arguments.out, time.monotonic() - start))}")
    return 0


def train_network(arguments: argparse.Namespace) -> bytes:
    """The network of the scene, trained on the same images. Raises ImportError where torch is missing."""
    from perception_models.relocalization.train import Recipe, train_on_frames

    with open_source(arguments.source, arguments.every) as frames:
        return train_on_frames(frames, arguments.features, Recipe(minutes=arguments.network), show_training)


def show_training(done: float, error: float) -> None:
    """How far the training came, on a terminal."""
    if sys.stderr.isatty():
        end = "\n" if done >= 1 else ""
        print(
            f"\rtraining {done:4.0%}, {100 * error:.1f} cm off on views left out ", end=end, file=sys.stderr, flush=True
        )


@contextmanager
def open_source(source: Path, every: int) -> "Iterator[Iterable[RgbdFrame]]":
    """Every n-th frame of a bag or a folder. Raises OSError, ValueError or BadBag with the reason."""
    from perception_nodes.progress import progress

    with open_all(source) as (count, frames):
        yield progress(islice(frames, 0, None, every), -(-count // every), "finding features")


@contextmanager
def open_all(source: Path) -> "Iterator[tuple[int, Iterable[RgbdFrame]]]":
    """Number of images, and the frames."""
    if source.is_file() or (source / "metadata.yaml").exists():
        from perception_nodes.rgbd_bag import RgbdBag

        with RgbdBag(source) as bag:
            yield len(bag), (frame for _, frame in bag)
            if bag.rejected:
                print(f"{len(bag.rejected)} images could not be used; the last: {bag.rejected[-1]}")
    else:
        from perception_nodes.posed_images import open_images

        images = open_images(source)
        yield len(images), images


def summary(scene_map: "SceneMap", path: Path, seconds: float) -> Sequence[str]:
    """What a map holds and how well views that were left out of it were found."""
    landmarks = scene_map.landmarks
    facts = [
        f"{len(landmarks)} landmarks from {len(landmarks.poses)} images",
        f"{path.stat().st_size / 1e6:.2f} MB",
        f"{seconds:.0f} s",
    ]
    if scene_map.has_lines:
        facts.insert(1, f"{len(landmarks.lines)} lines")
    if not scene_map.is_metric:
        facts.append("lengths in a unit of its own, as neither poses nor depth told how long a metre is")
    figures = scene_map.figures
    if "median_cm" in figures:
        unit = "cm" if scene_map.is_metric else "hundredths of that unit"
        error = f"{figures['median_cm']:.1f} {unit} / {figures['median_deg']:.2f} deg"
        facts.append(f"{figures['valid']:.0%} of {figures['queries']:.0f} left-out views found, median {error}")
    return facts
