# SPDX-License-Identifier: Apache-2.0
"""The training recipe of the compact promptable network: simulated rooms only, seeded and resumable."""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from perception_models.real_encoder import real_encoder
from perception_models.segmentation.compact_settings import MASK_STRIDE, CompactSettings
from perception_models.segmentation.data import ViewStream, batches, first_prompts, next_clicks
from perception_models.segmentation.losses import mask_loss
from perception_models.segmentation.network import CompactNetwork


@dataclass(frozen=True)
class Recipe:
    """How to train: `minutes` of training time in all (over every resumption), or `steps` where that is set, end with a
    linear decay of the last `decay` part. XFeat's weights, which know real images, learn `real_rate` times as fast."""

    seed: int = 1
    minutes: float = 60.0
    steps: int = 0
    decay: float = 0.4
    warm_up: int = 100
    batch_size: int = 4
    prompts: int = 6
    learning_rate: float = 1.0e-3
    real_rate: float = 0.1
    weight_decay: float = 0.02
    clip: float = 1.0
    average: float = 0.997
    workers: int = 1
    threads: int = 1
    checkpoint_minutes: float = 3.0


class Trainer:
    """Owns the network, its running average of weights, and the optimiser."""

    def __init__(self, recipe: Recipe, settings: CompactSettings) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.settings = recipe, settings
        self.network = CompactNetwork(settings, real_encoder())
        self.average = copy.deepcopy(self.network).eval()
        real = list(self.network.encoder.xfeat.parameters())
        known = {id(parameter) for parameter in real}
        own = [parameter for parameter in self.network.parameters() if id(parameter) not in known]
        groups = [{"params": own, "rate": 1.0}, {"params": real, "rate": recipe.real_rate}]
        self.optimiser = torch.optim.AdamW(groups, recipe.learning_rate, weight_decay=recipe.weight_decay)
        self.rng = np.random.default_rng(recipe.seed)
        self.step, self.seconds = 0, 0.0

    def train_step(self, rgb: Tensor, depth: Tensor, masks: Tensor) -> dict[str, float]:
        """One optimiser step on images (B, 3, H, W), (B, 2, H, W) and masks (B, P, h, w) -> figures."""
        began = time.monotonic()
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate * self._rate() * group["rate"]
        self.network.train()
        self.network.encoder.xfeat.eval()  # its statistics are those of real images
        with torch.autocast("cpu", torch.bfloat16):
            loss, figures = self._two_rounds(self.network.encoder(rgb, depth), masks)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.optimiser.step()
        self._update_average()
        self.step += 1
        self.seconds += time.monotonic() - began
        return figures

    def _two_rounds(self, features: Sequence[Tensor], masks: Tensor) -> tuple[Tensor, dict[str, float]]:
        """A click or a box for each mask; then for half of them a click more, where the best answer is wrong."""
        count = masks.shape[1]
        features = [part.repeat_interleave(count, 0) for part in features]
        truth = masks.flatten(0, 1)
        coordinates, labels = first_prompts(truth.numpy(), MASK_STRIDE, self.settings.points, self.rng)
        blank = torch.zeros(len(truth), 1, *self.settings.mask_size)
        none, given = torch.zeros(len(truth)), torch.ones(len(truth))
        logits, scores = self._ask(features, coordinates, labels, blank, none)
        first, one, iou = mask_loss(logits, scores, truth)
        again = torch.arange(0, len(truth), 2)  # every other one: a second round for all costs a third of the steps
        best, truth = logits.detach()[again, iou.argmax(1)[again]], truth[again]
        features, coordinates, labels = [part[again] for part in features], coordinates[::2], labels[::2]
        clicks, kinds = next_clicks(((best > 0) != truth).numpy(), truth.numpy(), MASK_STRIDE, self.rng)
        rows, place = np.arange(len(truth)), (labels >= 0).sum(1)
        coordinates[rows, place], labels[rows, place] = clicks, kinds
        second, two, _ = mask_loss(*self._ask(features, coordinates, labels, best.unsqueeze(1), given[again]), truth)
        figures = {"loss": first, "loss2": second, "one": one.mean(), "two": two.mean(), "best": iou.amax(1).mean()}
        return first + second, {name: float(value.detach()) for name, value in figures.items()}

    def _ask(
        self,
        features: Sequence[Tensor],
        coordinates: np.ndarray[Any, Any],
        labels: np.ndarray[Any, Any],
        mask: Tensor,
        has: Tensor,
    ) -> tuple[Tensor, Tensor]:
        answer = self.network.decoder(*features, torch.from_numpy(coordinates), torch.from_numpy(labels), mask, has)
        return answer[0].float(), answer[1].float()

    def spent(self) -> float:
        """The share of the training that is done."""
        if self.recipe.steps:
            return self.step / self.recipe.steps
        return self.seconds / (60 * self.recipe.minutes)

    def _rate(self) -> float:
        warm = min(1.0, (self.step + 1) / self.recipe.warm_up)
        return warm * min(1.0, max((1 - self.spent()) / self.recipe.decay, 0.01))

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(self.recipe.average, (self.step + 1) / (self.step + 10))
        for mean, value in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
            if mean.dtype.is_floating_point:
                mean.lerp_(value, 1 - keep)
            else:
                mean.copy_(value)

    def save(self, path: Path) -> None:
        """Write all that is needed to go on."""
        state = {
            "settings": self.settings.to_dict(),
            "recipe": asdict(self.recipe),
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
            name: value.half() if value.is_floating_point() else value
            for name, value in self.average.state_dict().items()
        }
        state = {"settings": self.settings.to_dict(), "average": half, "step": self.step, "seconds": self.seconds}
        torch.save(state, path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint of `save` or `save_small`; after the latter the optimiser begins anew. Raises
        RuntimeError where it belongs to another network."""
        state = torch.load(path, weights_only=True)
        self.network.load_state_dict(state.get("network", state["average"]))
        self.average.load_state_dict(state["average"])
        if "optimiser" in state:
            self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.rng = np.random.default_rng([self.recipe.seed, self.step])


def train(recipe: Recipe, out: Path, settings: CompactSettings | None = None) -> Trainer:
    """Train to the end, from OUT/checkpoint.pt on where it exists; figures go to OUT/log.jsonl."""
    torch.set_num_threads(recipe.threads)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint, trainer = out / "checkpoint.pt", Trainer(recipe, settings or CompactSettings())
    if checkpoint.exists():
        trainer.load(checkpoint)
    stream = ViewStream(recipe.seed * 100_003 + trainer.step, trainer.settings, recipe.prompts)
    saved, recent = trainer.seconds, list[dict[str, float]]()
    for batch in batches(stream, recipe.batch_size, recipe.workers):
        recent.append(trainer.train_step(*batch))
        if not math.isfinite(recent[-1]["loss"]):
            raise RuntimeError(f"the loss is {recent[-1]['loss']} at step {trainer.step}; lower the learning rate")
        if trainer.step % 25 == 0:
            _log(out / "log.jsonl", trainer, recent)
            recent.clear()
        if trainer.seconds - saved > 60 * recipe.checkpoint_minutes or trainer.spent() >= 1:
            trainer.save(checkpoint)
            saved = trainer.seconds
        if trainer.spent() >= 1:
            trainer.save_small(out / "small.pt")
            break
    return trainer


def _log(path: Path, trainer: Trainer, recent: Sequence[dict[str, float]]) -> None:
    means = {key: round(float(np.mean([row[key] for row in recent])), 4) for key in recent[0]}
    line = {"step": trainer.step, "minutes": round(trainer.seconds / 60, 2), **means}
    with path.open("a") as log:
        log.write(json.dumps(line) + "\n")
    print(line, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the recipe."""
    parser = argparse.ArgumentParser(prog="perception train segmentation", description=__doc__)
    parser.add_argument("out", type=Path, help="folder of checkpoint and log")
    for name in ("minutes", "learning-rate", "decay"):
        parser.add_argument(f"--{name}", type=float, default=getattr(Recipe(), name.replace("-", "_")))
    for name in ("steps", "seed", "threads", "workers", "batch-size", "prompts"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Recipe(), name.replace("-", "_")))
    chosen = vars(parser.parse_args(arguments))
    out = chosen.pop("out")
    train(Recipe(**chosen), out)


if __name__ == "__main__":
    main()
