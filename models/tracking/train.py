# SPDX-License-Identifier: Apache-2.0
"""The training recipe of the tracker: simulated drives only, seeded and resumable."""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from perception_models.classes import CLASSES
from perception_models.tracking.data import batches
from perception_models.tracking.losses import right, tracking_loss
from perception_models.tracking.settings import CHANNELS, CONTEXT, TrackingSettings
from perception_models.tracking.siamese import build
from perception_models.tracking.tracklets import fill

ALL = ",".join(CLASSES)


@dataclass(frozen=True)
class Recipe:
    """How to train. `minutes` of training time in all (over every resumption), or `steps` where that is set, end with
    a linear decay of the last `decay` part. categories: names of the classes to learn, with commas between."""

    seed: int = 1
    minutes: float = 60.0
    steps: int = 0
    decay: float = 0.4
    warm_up: int = 150
    batch_size: int = 48
    learning_rate: float = 2.0e-3
    weight_decay: float = 0.01
    clip: float = 5.0
    average: float = 0.996
    kind: str = "motion"
    categories: str = ALL
    drives: int = 600
    workers: int = 1
    threads: int = 1
    checkpoint_minutes: float = 3.0

    @property
    def labels(self) -> tuple[int, ...]:
        """Indices of the categories. Raises ValueError for a name that is no class."""
        names = self.categories.split(",")
        unknown = [name for name in names if name not in CLASSES]
        if unknown:
            raise ValueError(f"unknown categories {', '.join(unknown)}; choose among {', '.join(CLASSES)}")
        return tuple(CLASSES.index(name) for name in names)


class Trainer:
    """Owns the network, its running average of weights, and the optimiser."""

    def __init__(self, recipe: Recipe, settings: TrackingSettings) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.settings = settings
        self.network = materialised(build(settings))
        self.average = copy.deepcopy(self.network)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), recipe.learning_rate, betas=(0.9, 0.99), weight_decay=recipe.weight_decay
        )
        self.step = 0
        self.seconds = 0.0

    def train_step(self, inputs: dict[str, Tensor], truth: dict[str, Tensor]) -> dict[str, float]:
        """One optimiser step on one batch -> the losses."""
        began = time.monotonic()
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate * self._schedule()
        self.network.train()
        outputs = self.network(**inputs)
        loss, parts = tracking_loss(outputs, truth)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.optimiser.step()
        self._update_average()
        self.step += 1
        self.seconds += time.monotonic() - began
        return parts | {"right": float(right(outputs.offset.detach(), truth).sum() / truth["seen"].sum())}

    @property
    def done(self) -> float:
        """Share of the training that is done."""
        if self.recipe.steps:
            return self.step / self.recipe.steps
        return self.seconds / (60 * self.recipe.minutes)

    def _schedule(self) -> float:
        return min(1.0, (self.step + 1) / self.recipe.warm_up, max(0.01, (1 - self.done) / self.recipe.decay))

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(self.recipe.average, (self.step + 1) / (self.step + 10))
        for mean, value in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
            mean.lerp_(value, 1 - keep)

    def save(self, path: Path) -> None:
        """Write everything that a resumption needs."""
        state: dict[str, Any] = {"network": self.network.state_dict(), "average": self.average.state_dict()}
        state |= {"optimiser": self.optimiser.state_dict(), "step": self.step, "seconds": self.seconds}
        state |= {"recipe": asdict(self.recipe), "settings": self.settings.to_dict()}
        torch.save(state, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").rename(path)

    def resume(self, path: Path) -> None:
        """Go on from a file of `save`."""
        state = torch.load(path, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]


def materialised(network: nn.Module) -> nn.Module:
    """The network after a first run, which fixes the widths that follow from others."""
    settings: TrackingSettings = network.settings  # type: ignore[assignment]
    with torch.no_grad():
        network(
            torch.zeros(1, settings.current, CHANNELS),
            torch.zeros(1, settings.template, CHANNELS),
            torch.zeros(1, CONTEXT),
        )
    return network


def train(recipe: Recipe, folder: Path, pool: Path | None = None) -> Path:
    """Train, or go on training, in `folder` -> the checkpoint's path. Losses are appended to log.jsonl beside it.

    pool: folder of simulated drives; a process fills it, up to `recipe.drives`, while training goes on.
    """
    torch.set_num_threads(recipe.threads)
    folder.mkdir(parents=True, exist_ok=True)
    pool = pool or folder / "drives"
    fill(pool, 1000 * recipe.seed, min(recipe.drives, 6))
    generator = get_context("spawn").Process(target=fill, args=(pool, 1000 * recipe.seed, recipe.drives), daemon=True)
    generator.start()
    try:
        return _train(recipe, folder, pool)
    finally:
        generator.terminate()


def _train(recipe: Recipe, folder: Path, pool: Path) -> Path:
    checkpoint = folder / "checkpoint.pt"
    trainer = Trainer(recipe, TrackingSettings(kind=recipe.kind))
    if checkpoint.exists():
        trainer.resume(checkpoint)
    # Other samples after a resumption too: the stream's seed moves with the step.
    seed = recipe.seed + 1000 * trainer.step
    stream = batches(pool, seed, trainer.settings, recipe.batch_size, recipe.workers, recipe.labels)
    log, saved = Log(folder / "log.jsonl"), trainer.seconds
    while trainer.done < 1:
        log.add(trainer, trainer.train_step(*next(stream)))
        if trainer.seconds - saved > 60 * recipe.checkpoint_minutes:
            trainer.save(checkpoint)
            saved = trainer.seconds
    trainer.save(checkpoint)
    return checkpoint


class Log:
    """Means of the losses over every hundred steps, one JSON line each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []

    def add(self, trainer: Trainer, losses: dict[str, float]) -> None:
        """Keep one step's losses; write a line when there are a hundred."""
        if not all(math.isfinite(value) for value in losses.values()):
            raise FloatingPointError(f"loss is not finite at step {trainer.step}: {losses}")
        self.rows.append(losses)
        if len(self.rows) == 100:
            means = {name: round(sum(row[name] for row in self.rows) / len(self.rows), 4) for name in losses}
            line = {"step": trainer.step, "minutes": round(trainer.seconds / 60, 2), **means}
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            self.rows.clear()


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the recipe."""
    parser = argparse.ArgumentParser(prog="perception train tracking", description=__doc__)
    parser.add_argument(
        "folder", type=Path, help="where checkpoint.pt and log.jsonl go; an existing checkpoint is resumed"
    )
    parser.add_argument("--minutes", type=float, default=Recipe.minutes, help="training time in all")
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="steps in all, instead of a time")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--kind", choices=["motion", "siamese"], default=Recipe.kind, help="how two scans are compared")
    parser.add_argument("--categories", default=Recipe.categories, help="classes to learn, with commas between")
    parser.add_argument("--drives", type=int, default=Recipe.drives, help="drives to simulate")
    parser.add_argument("--pool", type=Path, help="folder of drives, to share among runs; default FOLDER/drives")
    parser.add_argument("--workers", type=int, default=Recipe.workers, help="processes that make samples")
    parser.add_argument("--threads", type=int, default=Recipe.threads, help="threads that train")
    options = vars(parser.parse_args(arguments))
    folder, pool = options.pop("folder"), options.pop("pool")
    print(f"checkpoint: {train(Recipe(**options), folder, pool)}")


if __name__ == "__main__":
    main()
