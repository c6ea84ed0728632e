# SPDX-License-Identifier: Apache-2.0
"""What recipes that train by the clock share: rate, average of weights, checkpoints and log."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

Figures = dict[str, Tensor]
LOG_EVERY = 25  # steps
SLOWEST = 0.01  # of the learning rate, at the end

N = TypeVar("N", bound=nn.Module)
B = TypeVar("B")


class Settings(Protocol):
    """What fixes a network."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        ...


@dataclass(frozen=True)
class TimedRecipe:
    """`minutes` of training time in all (over every resumption), or `steps` where that is set, end with a linear decay
    of the last `decay` part."""

    seed: int = 1
    minutes: float = 60.0
    steps: int = 0
    decay: float = 0.5
    warm_up: int = 100
    learning_rate: float = 1.0e-3
    weight_decay: float = 0.02
    clip: float = 1.0
    average: float = 0.997
    workers: int = 1
    threads: int = 1
    device: str = "cpu"
    checkpoint_minutes: float = 3.0


class TimedTrainer(Generic[N]):
    """Owns the network, its running average of weights, and the optimiser, whose groups learn at their own `rate`."""

    def __init__(self, recipe: TimedRecipe, settings: Settings, network: N, optimiser: torch.optim.Optimizer) -> None:
        self._recipe, self._settings = recipe, settings
        self.network, self.optimiser = network, optimiser
        self.average = copy.deepcopy(network).eval()
        self.step, self.seconds = 0, 0.0

    def learn(self, loss: Tensor) -> None:
        """One step of the optimiser."""
        for group in self.optimiser.param_groups:
            group["lr"] = self._recipe.learning_rate * self._rate() * group["rate"]
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self._recipe.clip)
        self.optimiser.step()
        self._update_average()
        self.step += 1

    def spent(self) -> float:
        """The share of the training that is done."""
        if self._recipe.steps:
            return self.step / self._recipe.steps
        return self.seconds / (60 * self._recipe.minutes)

    def facts(self) -> dict[str, Any]:
        """What else a line of the log tells."""
        return {}

    def run(self, batches: Iterable[B], train_step: Callable[[B], Figures], out: Path) -> None:
        """Train to the end; checkpoint.pt, small.pt and log.jsonl go to `out`."""
        saved, recent, began = self.seconds, list[Figures](), time.monotonic() - self.seconds
        for batch in batches:
            recent.append(train_step(batch))
            self.seconds = time.monotonic() - began
            if self.step % LOG_EVERY == 0:
                self._log(out / "log.jsonl", recent)
                recent.clear()
            if self.seconds - saved > 60 * self._recipe.checkpoint_minutes or self.spent() >= 1:
                self.save(out / "checkpoint.pt")
                self.save_small(out / "small.pt")
                saved = self.seconds
            if self.spent() >= 1:
                break

    def _rate(self) -> float:
        warm = min(1.0, (self.step + 1) / self._recipe.warm_up)
        return warm * min(1.0, max((1 - self.spent()) / self._recipe.decay, SLOWEST))

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(self._recipe.average, (self.step + 1) / (self.step + 10))
        means = chain(self.average.parameters(), self.average.buffers())
        values = chain(self.network.parameters(), self.network.buffers())
        for mean, value in zip(means, values, strict=True):
            if mean.dtype.is_floating_point:
                mean.lerp_(value, 1 - keep)
            else:
                mean.copy_(value)

    def _log(self, path: Path, recent: Sequence[Figures]) -> None:
        means = {key: round(float(torch.stack([row[key] for row in recent]).mean()), 4) for key in recent[0]}
        if not math.isfinite(means["loss"]):
            raise RuntimeError(f"the loss is {means['loss']} at step {self.step}; lower the learning rate")
        line = {"step": self.step, "minutes": round(self.seconds / 60, 2), **self.facts(), **means}
        with path.open("a") as log:
            log.write(json.dumps(line) + "\n")
        print(line, flush=True)

    def save(self, path: Path) -> None:
        """Write all that is needed to go on."""
        state = {
            "settings": self._settings.to_dict(),
            "recipe": asdict(self._recipe),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.rename(path)

    def save_small(self, path: Path) -> None:
        """Write the averaged weights in half precision: enough to go on from, in an eighth of the bytes."""
        half = {
            name: value.half().cpu() if value.is_floating_point() else value.cpu()
            for name, value in self.average.state_dict().items()
        }
        state = {"settings": self._settings.to_dict(), "average": half, "step": self.step, "seconds": self.seconds}
        torch.save(state, path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint of `save` or `save_small`; after the latter the optimiser begins anew. Raises
        RuntimeError where it belongs to another network."""
        state = torch.load(path, map_location=self._recipe.device, weights_only=True)
        self.network.load_state_dict(state.get("network", state["average"]))
        self.average.load_state_dict(state["average"])
        if "optimiser" in state:
            self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]
