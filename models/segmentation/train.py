# SPDX-License-Identifier: Apache-2.0
"""The training recipe of the compact promptable network: simulated rooms only, seeded and resumable."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from perception_models.real_encoder import real_encoder
from perception_models.relight import relit
from perception_models.segmentation.clicks import first_prompts, next_clicks
from perception_models.segmentation.compact_settings import MASK_STRIDE, CompactSettings
from perception_models.segmentation.data import ViewStream, batches
from perception_models.segmentation.losses import mask_loss
from perception_models.segmentation.network import CompactNetwork
from perception_models.training import Figures, TimedRecipe, TimedTrainer


@dataclass(frozen=True)
class Recipe(TimedRecipe):
    """How to train. XFeat's weights, which know real images, learn `real_rate` times as fast."""

    decay: float = 0.4
    batch_size: int = 4
    prompts: int = 6
    rounds: int = 3  # of clicks; half of the prompts go on from each to the next
    real_rate: float = 0.1


class Trainer(TimedTrainer[CompactNetwork]):
    """Learns masks from prompts."""

    def __init__(self, recipe: Recipe, settings: CompactSettings) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.settings = recipe, settings
        network = CompactNetwork(settings, real_encoder()).to(recipe.device)
        real = list(network.encoder.xfeat.parameters())
        known = {id(parameter) for parameter in real}
        own = [parameter for parameter in network.parameters() if id(parameter) not in known]
        groups = [{"params": own, "rate": 1.0}, {"params": real, "rate": recipe.real_rate}]
        optimiser = torch.optim.AdamW(groups, recipe.learning_rate, weight_decay=recipe.weight_decay)
        super().__init__(recipe, settings, network, optimiser)

    def train_step(self, rgb: Tensor, depth: Tensor, parts: Tensor, asked: Tensor) -> Figures:
        """One optimiser step on a batch as `data.collate` makes it -> figures."""
        rgb, depth, parts, asked = (
            each.to(self.recipe.device, non_blocking=True) for each in (rgb, depth, parts, asked)
        )
        self.network.train()
        self.network.encoder.xfeat.eval()  # its statistics are those of real images
        image, masks = relit(rgb.float() / 255), parts.unsqueeze(1) == asked[..., None, None]
        with torch.autocast(self.recipe.device, torch.bfloat16):
            loss, figures = self._rounds(self.network.encoder(image, depth.float()), masks)
        self.learn(loss)
        return figures

    def _rounds(self, features: Sequence[Tensor], masks: Tensor) -> tuple[Tensor, Figures]:
        """A prompt for each mask; then, for ever fewer of them, a click more where the best answer is wrong."""
        count, truth = masks.shape[1], masks.flatten(0, 1)
        features = [part.repeat_interleave(count, 0) for part in features]
        coordinates, labels = first_prompts(truth, MASK_STRIDE, self.settings.points)
        earlier = torch.zeros(len(truth), 1, *self.settings.mask_size, device=truth.device)
        has = torch.zeros(len(truth), device=truth.device)
        total, figures = torch.zeros((), device=truth.device), Figures()
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


def train(recipe: Recipe, out: Path, tours: Path, settings: CompactSettings | None = None) -> Trainer:
    """Train to the end on the tours in a folder (see simulation/room_tours), from OUT/checkpoint.pt on where it exists;
    figures go to OUT/log.jsonl."""
    torch.set_num_threads(recipe.threads)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint, trainer = out / "checkpoint.pt", Trainer(recipe, settings or CompactSettings())
    if checkpoint.exists():
        trainer.load(checkpoint)
    stream = ViewStream(tours, recipe.seed * 100_003 + trainer.step, recipe.prompts)
    drawn = batches(stream, recipe.batch_size, recipe.workers)
    trainer.run(drawn, lambda batch: trainer.train_step(*batch), out)
    return trainer


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
