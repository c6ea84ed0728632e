# SPDX-License-Identifier: Apache-2.0
"""The training recipe of the registration network: simulated rooms or streets only, seeded and resumable."""

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

from perception_models.registration.data import Pair, pairs
from perception_models.registration.losses import registration_loss
from perception_models.registration.network import NetworkSettings, RegistrationNetwork
from perception_models.registration.scenes import SCENES, fill


@dataclass(frozen=True)
class Recipe:
    """How to train. `steps` in all (over every resumption) end with a linear decay of the last `decay` part. One step
    takes `batch_size` pairs after each other."""

    seed: int = 1
    steps: int = 4000
    decay: float = 0.4
    warm_up: int = 100
    batch_size: int = 1
    learning_rate: float = 1.0e-3
    weight_decay: float = 0.01
    clip: float = 1.0
    average: float = 0.995
    kind: str = "indoor"
    scenes: int = 400
    cross: str = "gw"
    workers: int = 1
    threads: int = 1
    checkpoint_minutes: float = 3.0


class Trainer:
    """Owns the network, its running average of weights, and the optimiser."""

    def __init__(self, recipe: Recipe, settings: NetworkSettings) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.settings = settings
        self.network = RegistrationNetwork(settings)
        self.average = copy.deepcopy(self.network)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), recipe.learning_rate, betas=(0.9, 0.99), weight_decay=recipe.weight_decay
        )
        self.step = 0
        self.seconds = 0.0

    def train_step(self, batch: Sequence[Pair]) -> dict[str, float]:
        """One optimiser step on a few pairs -> the mean losses."""
        began = time.monotonic()
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate * self._schedule()
        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        rows = []
        for pair in batch:
            outputs = self.network(pair.source, pair.target, pair.rows)
            loss, parts = registration_loss(outputs, pair, self.network.log_softness.exp())
            (loss / len(batch)).backward()  # type: ignore[no-untyped-call]
            rows.append(parts)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.optimiser.step()
        self._update_average()
        self.step += 1
        self.seconds += time.monotonic() - began
        return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}

    def _schedule(self) -> float:
        done = self.step / self.recipe.steps
        return min(1.0, (self.step + 1) / self.recipe.warm_up, max(0.01, (1 - done) / self.recipe.decay))

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(self.recipe.average, (self.step + 1) / (self.step + 10))
        for mean, value in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
            mean.lerp_(value, 1 - keep)

    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self.recipe.steps

    def save(self, path: Path) -> None:
        """Write everything that a resumption needs."""
        state: dict[str, Any] = {"network": self.network.state_dict(), "average": self.average.state_dict()}
        state |= {"optimiser": self.optimiser.state_dict(), "step": self.step, "seconds": self.seconds}
        state |= {"recipe": asdict(self.recipe), "settings": self.settings.to_dict()}
        state |= {"random": torch.get_rng_state()}
        torch.save(state, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").rename(path)

    def resume(self, path: Path) -> None:
        """Go on from a file of `save`."""
        state = torch.load(path, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]
        torch.set_rng_state(state["random"])


def train(recipe: Recipe, folder: Path, pool: Path | None = None) -> Path:
    """Train, or go on training, in `folder` -> the checkpoint's path. Losses are appended to log.jsonl beside it.

    pool: folder of simulated scenes; a process fills it, up to `recipe.scenes`, while training goes on.
    """
    torch.set_num_threads(recipe.threads)
    folder.mkdir(parents=True, exist_ok=True)
    pool = pool or folder / "scenes"
    generator = get_context("spawn").Process(target=generate, args=(pool, recipe), daemon=True)
    generator.start()
    try:
        return _train(recipe, folder, pool)
    finally:
        generator.terminate()


def generate(pool: Path, recipe: Recipe) -> None:
    """Fill the pool with the recipe's scenes."""
    for _ in fill(pool, recipe.kind, 1000 * recipe.seed, recipe.scenes):
        pass


def _train(recipe: Recipe, folder: Path, pool: Path) -> Path:
    checkpoint = folder / "checkpoint.pt"
    trainer = Trainer(recipe, NetworkSettings(cross=recipe.cross))
    if checkpoint.exists():
        trainer.resume(checkpoint)
    # Other pairs after a resumption too: the stream's seed moves with the step.
    stream = pairs(pool, recipe.seed + 1000 * trainer.step, recipe.workers)
    log = Log(folder / "log.jsonl")
    saved = trainer.seconds
    while not trainer.finished():
        log.add(trainer, trainer.train_step([next(stream) for _ in range(recipe.batch_size)]))
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
    parser = argparse.ArgumentParser(prog="perception train registration", description=__doc__)
    parser.add_argument(
        "folder", type=Path, help="where checkpoint.pt and log.jsonl go; an existing checkpoint is resumed"
    )
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--kind", choices=sorted(SCENES), default=Recipe.kind, help="simulated rooms or streets")
    parser.add_argument("--cross", choices=["none", "plain", "gw"], default=Recipe.cross, help="cross-attention")
    parser.add_argument("--scenes", type=int, default=Recipe.scenes, help="scenes to simulate")
    parser.add_argument("--pool", type=Path, help="folder of scenes, to share among runs; default FOLDER/scenes")
    parser.add_argument("--workers", type=int, default=Recipe.workers, help="processes that make pairs")
    parser.add_argument("--threads", type=int, default=Recipe.threads, help="threads that train")
    options = vars(parser.parse_args(arguments))
    folder, pool = options.pop("folder"), options.pop("pool")
    print(f"checkpoint: {train(Recipe(**options), folder, pool)}")


if __name__ == "__main__":
    main()
