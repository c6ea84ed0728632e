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

import torch
from torch import Tensor, nn

from perception_models.real_encoder import real_encoder
from perception_models.relight import relit
from perception_models.segmentation.clicks import first_prompts, next_clicks
from perception_models.segmentation.compact_settings import MASK_STRIDE, CompactSettings
from perception_models.segmentation.data import ViewStream, batches
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
    rounds: int = 3  # of clicks; half of the prompts go on from each to the next
    learning_rate: float = 1.0e-3
    real_rate: float = 0.1
    weight_decay: float = 0.02
    clip: float = 1.0
    average: float = 0.997
    workers: int = 1
    threads: int = 1
    device: str = "cpu"
    checkpoint_minutes: float = 3.0


class Trainer:
    """Owns the network, its running average of weights, and the optimiser."""

    def __init__(self, recipe: Recipe, settings: CompactSettings) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.settings = recipe, settings
        self.network = CompactNetwork(settings, real_encoder()).to(recipe.device)
        self.average = copy.deepcopy(self.network).eval()
        real = list(self.network.encoder.xfeat.parameters())
        known = {id(parameter) for parameter in real}
        own = [parameter for parameter in self.network.parameters() if id(parameter) not in known]
        groups = [{"params": own, "rate": 1.0}, {"params": real, "rate": recipe.real_rate}]
        self.optimiser = torch.optim.AdamW(groups, recipe.learning_rate, weight_decay=recipe.weight_decay)
        self.step, self.seconds = 0, 0.0

    def train_step(self, rgb: Tensor, depth: Tensor, parts: Tensor, asked: Tensor) -> dict[str, Tensor]:
        """One optimiser step on a batch as `data.collate` makes it -> figures."""
        rgb, depth, parts, asked = (
            each.to(self.recipe.device, non_blocking=True) for each in (rgb, depth, parts, asked)
        )
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate * self._rate() * group["rate"]
        self.network.train()
        self.network.encoder.xfeat.eval()  # its statistics are those of real images
        image, masks = relit(rgb.float() / 255), parts.unsqueeze(1) == asked[..., None, None]
        with torch.autocast(self.recipe.device, torch.bfloat16):
            loss, figures = self._rounds(self.network.encoder(image, depth.float()), masks)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.optimiser.step()
        self._update_average()
        self.step += 1
        return figures

    def _rounds(self, features: Sequence[Tensor], masks: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """A prompt for each mask; then, for ever fewer of them, a click more where the best answer is wrong."""
        count, truth = masks.shape[1], masks.flatten(0, 1)
        features = [part.repeat_interleave(count, 0) for part in features]
        coordinates, labels = first_prompts(truth, MASK_STRIDE, self.settings.points)
        earlier = torch.zeros(len(truth), 1, *self.settings.mask_size, device=truth.device)
        has = torch.zeros(len(truth), device=truth.device)
        total, figures = torch.zeros((), device=truth.device), dict[str, Tensor]()
        for number in range(self.recipe.rounds):
            logits, scores = self._ask(features, coordinates, labels, earlier, has)
            loss, chosen, iou = mask_loss(logits, scores, truth)
            total = total + loss
            figures |= {f"loss{number}": loss, f"iou{number}": chosen.mean(), f"best{number}": iou.amax(1).mean()}
            best = logits.detach()[torch.arange(len(iou), device=iou.device), iou.argmax(1)]
            keep = slice(number % 2, None, 2)
            features, best, truth = [part[keep] for part in features], best[keep], truth[keep]
            coordinates, labels = self._one_more(coordinates[keep], labels[keep], best, truth)
            earlier, has = best.unsqueeze(1), torch.ones(len(truth), device=truth.device)
        return total, {name: value.detach() for name, value in {"loss": total, **figures}.items()}

    @staticmethod
    def _one_more(coordinates: Tensor, labels: Tensor, best: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """The prompts with a click more, where the answer is wrong."""
        clicks, kinds = next_clicks((best > 0) != truth, truth, MASK_STRIDE)
        rows, place = torch.arange(len(truth), device=truth.device), (labels >= 0).sum(1)
        coordinates, labels = coordinates.clone(), labels.clone()
        coordinates[rows, place], labels[rows, place] = clicks, kinds
        return coordinates, labels

    def _ask(
        self, features: Sequence[Tensor], coordinates: Tensor, labels: Tensor, mask: Tensor, has: Tensor
    ) -> tuple[Tensor, Tensor]:
        logits, scores = self.network.decoder(*features, coordinates, labels, mask, has)
        return logits.float(), scores.float()

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
            name: value.half().cpu() if value.is_floating_point() else value.cpu()
            for name, value in self.average.state_dict().items()
        }
        state = {"settings": self.settings.to_dict(), "average": half, "step": self.step, "seconds": self.seconds}
        torch.save(state, path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint of `save` or `save_small`; after the latter the optimiser begins anew. Raises
        RuntimeError where it belongs to another network."""
        state = torch.load(path, map_location=self.recipe.device, weights_only=True)
        self.network.load_state_dict(state.get("network", state["average"]))
        self.average.load_state_dict(state["average"])
        if "optimiser" in state:
            self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]


def train(recipe: Recipe, out: Path, tours: Path, settings: CompactSettings | None = None) -> Trainer:
    """Train to the end on the tours in a folder (see simulation/room_tours), from OUT/checkpoint.pt on where it exists;
    figures go to OUT/log.jsonl."""
    torch.set_num_threads(recipe.threads)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint, trainer = out / "checkpoint.pt", Trainer(recipe, settings or CompactSettings())
    if checkpoint.exists():
        trainer.load(checkpoint)
    stream = ViewStream(tours, recipe.seed * 100_003 + trainer.step, recipe.prompts)
    saved, recent, began = trainer.seconds, list[dict[str, Tensor]](), time.monotonic() - trainer.seconds
    for batch in batches(stream, recipe.batch_size, recipe.workers):
        recent.append(trainer.train_step(*batch))
        trainer.seconds = time.monotonic() - began
        trainer.seconds = time.monotonic() - began
        if trainer.step % 25 == 0:
            _log(out / "log.jsonl", trainer, recent)
            recent.clear()
        if trainer.seconds - saved > 60 * recipe.checkpoint_minutes or trainer.spent() >= 1:
            trainer.save(checkpoint)
            trainer.save_small(out / "small.pt")
            saved = trainer.seconds
        if trainer.spent() >= 1:
            break
    return trainer


def _log(path: Path, trainer: Trainer, recent: Sequence[dict[str, Tensor]]) -> None:
    means = {key: round(float(torch.stack([row[key] for row in recent]).mean()), 4) for key in recent[0]}
    if not math.isfinite(means["loss"]):
        raise RuntimeError(f"the loss is {means['loss']} at step {trainer.step}; lower the learning rate")
    line = {"step": trainer.step, "minutes": round(trainer.seconds / 60, 2), **means}
    with path.open("a") as log:
        log.write(json.dumps(line) + "\n")
    print(line, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the recipe."""
    parser = argparse.ArgumentParser(prog="perception train segmentation", description=__doc__)
    parser.add_argument("out", type=Path, help="folder of checkpoint and log")
    parser.add_argument("tours", type=Path, help="folder that perception_models.simulation.room_tours fills")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    for name in ("minutes", "learning-rate", "decay", "checkpoint-minutes"):
        parser.add_argument(f"--{name}", type=float, default=getattr(Recipe(), name.replace("-", "_")))
    for name in ("steps", "seed", "threads", "workers", "batch-size", "prompts", "rounds"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Recipe(), name.replace("-", "_")))
    chosen = vars(parser.parse_args(arguments))
    out, tours = chosen.pop("out"), chosen.pop("tours")
    train(Recipe(**chosen), out, tours)


if __name__ == "__main__":
    main()
