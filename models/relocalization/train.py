# SPDX-License-Identifier: Apache-2.0
"""Trains the network of one scene in minutes on a CPU, from what was seen while its map was built."""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from perception_models.geometry.cameras import RgbdFrame
from perception_models.relocalization.anchors import spread_anchors
from perception_models.relocalization.data import Sample, make_batch, samples_of
from perception_models.relocalization.export import pack_network
from perception_models.relocalization.features import Floats, load_extractor
from perception_models.relocalization.losses import scene_loss
from perception_models.relocalization.network import NetworkSettings, SceneNet

Progress = Callable[[float, float], None]
# Without these instructions bfloat16 is slower than float32.
CPU_FLAGS = Path("/proc/cpuinfo")
HAS_BFLOAT16 = CPU_FLAGS.is_file() and any(flag in CPU_FLAGS.read_text() for flag in ("avx512_bf16", "amx_bf16"))


@dataclass(frozen=True)
class Recipe:
    """How to train. The rate stands until the held-out error no longer falls, or so long that `minutes` suffice for the
    end; then it sinks to zero within `decay` of the time spent so far."""

    seed: int = 1
    minutes: float = 5.0
    steps: int = 1_000_000
    decay: float = 0.5
    batch_size: int = 8
    points: int = 512
    lines: int = 32
    anchors: int = 512
    learning_rate: float = 2e-3
    warm_up: int = 100
    clip: float = 5.0
    average: float = 0.995
    check_every: int = 100
    patience: int = 4  # checks without a gain of 2 %
    held_out: int = 10  # every n-th image judges and is not trained on, where there are twice as many
    threads: int = 2


class Trainer:
    """Owns the network of a scene, the running average of its weights, and the optimiser."""

    def __init__(
        self, scene: Sequence[Sequence[Sample]], recipe: Recipe, settings: NetworkSettings | None = None
    ) -> None:
        """scene: the samples of each image, the unaltered one first. Raises ValueError where no place is known."""
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self._rng = np.random.default_rng(recipe.seed)
        self.images, self.judges = _split([views for views in scene if len(_known_points(views[0]))], recipe.held_out)
        places = np.concatenate([_known_points(views[0]) for views in self.images])
        anchors = torch.from_numpy(spread_anchors(places, recipe.anchors, recipe.seed))
        dimensions = self.images[0][0].descriptors.shape[1]
        self.network = SceneNet(anchors, settings or NetworkSettings(dimensions))
        self.average = copy.deepcopy(self.network).eval()
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), recipe.learning_rate, betas=(0.9, 0.99), weight_decay=0.01
        )
        self.step = 0
        self.errors: list[float] = []
        self._began = time.monotonic()
        self._decay_from: float | None = None

    def run(self, progress: Progress | None = None) -> None:
        """Train to the end. `progress` gets the share that is done and the held-out error in metres, now and then."""
        while not self.finished():
            self.train_step()
            if self.step % self.recipe.check_every == 0:
                self._check()
                if progress:
                    progress(min(self.spent() / self._end(), 1.0), self.errors[-1])

    def train_step(self) -> dict[str, float]:
        """One optimiser step -> the parts of the loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate * self._rate()
        views = [self._draw() for _ in range(self.recipe.batch_size)]
        batch = make_batch(views, self.recipe.points, self.recipe.lines, self._rng)
        # Finding lines takes time, and a robot may go without: half of the images do not hear theirs.
        batch.line_weight.mul_(torch.rand(len(views), 1) < 0.5)
        with torch.autocast("cpu", torch.bfloat16, enabled=HAS_BFLOAT16):
            loss, parts = scene_loss(self.network, batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.optimiser.step()
        self._update_average()
        self.step += 1
        return parts

    def spent(self) -> float:
        """The share of time, or of steps, that is used up."""
        minutes = (time.monotonic() - self._began) / 60
        return max(minutes / self.recipe.minutes, self.step / self.recipe.steps)

    def finished(self) -> bool:
        """Whether the rate has come to zero."""
        return self.spent() >= self._end()

    def held_out_error(self) -> float:
        """Median distance in metres of the most reliable place from the true one, over points of the judging images."""
        errors = [point_errors(self.average, sample) for sample in self.judges]
        return float(np.median(np.concatenate(errors)))

    def _draw(self) -> Sample:
        """A random image, half of the time unaltered."""
        views = self.images[int(self._rng.integers(len(self.images)))]
        return views[0 if self._rng.random() < 0.5 else int(self._rng.integers(len(views)))]

    def _check(self) -> None:
        self.errors.append(self.held_out_error())
        patience = self.recipe.patience
        fell = len(self.errors) <= patience or min(self.errors[-patience:]) < 0.98 * min(self.errors[:-patience])
        if self._decay_from is None and not fell:
            self._decay_from = self.spent()

    def _rate(self) -> float:
        start, end = self._end() / (1 + self.recipe.decay), self._end()
        sinking = (end - self.spent()) / (end - start)
        return min(1.0, (self.step + 1) / self.recipe.warm_up, max(sinking, 0.01))

    def _end(self) -> float:
        return 1.0 if self._decay_from is None else min(1.0, self._decay_from * (1 + self.recipe.decay))

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(self.recipe.average, (self.step + 1) / (self.step + 10))
        for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(value, 1 - keep)


def train_scene(
    scene: Sequence[Sequence[Sample]], recipe: Recipe | None = None, progress: Progress | None = None
) -> bytes:
    """Train the network of a scene -> what `SceneNetwork.from_bytes` reads.

    scene: for each image its samples, the unaltered one first (`data.samples_of`). Raises ValueError where no place of
    the scene is known, RuntimeError when the training did not converge to finite weights.
    """
    recipe = recipe or Recipe()
    torch.set_num_threads(recipe.threads)
    trainer = Trainer(scene, recipe)
    trainer.run(progress)
    return pack_network(trainer.average, {"held_out_error": round(trainer.held_out_error(), 4), "steps": trainer.step})


def train_on_frames(
    frames: Iterable[RgbdFrame], features: str, recipe: Recipe | None = None, progress: Progress | None = None
) -> bytes:
    """`train_scene` on frames with depth and pose, seen through the extractor `features`. Raises ValueError as that."""
    recipe = recipe or Recipe()
    extractor = load_extractor(features, threads=recipe.threads)
    rng = np.random.default_rng(recipe.seed)
    return train_scene([samples_of(frame, extractor, rng) for frame in frames], recipe, progress)


@torch.no_grad()
def point_errors(network: SceneNet, sample: Sample) -> Floats:
    """Distances (K,) in metres between the first choice and the truth for a sample's points whose place is known."""
    count = len(sample.descriptors)
    batch = make_batch([sample], count, max(1, len(sample.line_tokens)), np.random.default_rng(0))
    places: Tensor = network(*(tensor[0] for tensor in batch.inputs))[0][:, 0]
    errors: Floats = (places - batch.places[0, :count]).norm(dim=-1)[batch.known[0, :count]].numpy()
    return errors


def _split(images: list[Sequence[Sample]], every: int) -> tuple[list[Sequence[Sample]], list[Sample]]:
    """Images to train on, and unaltered ones to judge by: every n-th, or all where there are few."""
    if not images:
        raise ValueError("no image shows a place that is known: a network needs frames with depth and pose")
    if len(images) < 2 * every:
        return images, [views[0] for views in images]
    judging = range(every - 1, len(images), every)
    return [views for number, views in enumerate(images) if number not in judging], [images[i][0] for i in judging]


def _known_points(sample: Sample) -> Floats:
    """Places (K, 3) of the key points, where known."""
    places = sample.places[: len(sample.descriptors)]
    return places[np.isfinite(places).all(-1)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the recipe: a room of the simulator stands for the scene."""
    parser = argparse.ArgumentParser(prog="perception train relocalization", description=__doc__)
    parser.add_argument("file", type=Path, help="where the network goes")
    parser.add_argument("--room", type=int, default=1, help="seed of the simulated room")
    parser.add_argument("--frames", type=int, default=150, help="images of the room")
    parser.add_argument("--features", default="xfeat", help="xfeat or rootsift")
    parser.add_argument("--minutes", type=float, default=Recipe.minutes, help="training time at most")
    parser.add_argument("--threads", type=int, default=Recipe.threads, help="threads that train")
    options = parser.parse_args(arguments)
    from perception_models.simulation.room_drive import simulate_room  # building a map needs no simulator

    frames = (view.frame for view in simulate_room(options.room, options.frames))
    recipe = Recipe(minutes=options.minutes, threads=options.threads)
    options.file.write_bytes(train_on_frames(frames, options.features, recipe, _print_progress))
    print(f"network: {options.file}")


def _print_progress(done: float, error: float) -> None:
    print(f"{100 * done:3.0f} %  held-out error {100 * error:.1f} cm", flush=True)


if __name__ == "__main__":
    main()
