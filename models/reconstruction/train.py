# SPDX-License-Identifier: Apache-2.0
"""The training recipe of the compact reconstruction network: simulated rooms only, seeded and resumable.

Stages lengthen the sequences (CUT3R, section 3.4): first each image alone, then ever more views of a path.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perception_models.real_encoder import real_encoder
from perception_models.reconstruction.data import Batch, SequenceStream, batches, canonical_rays, prepared
from perception_models.reconstruction.losses import reconstruction_loss
from perception_models.reconstruction.network import Decoded, Encoded, Outputs, ReconstructionNetwork
from perception_models.reconstruction.settings import COMPACT, ReconstructionSettings
from perception_models.reconstruction.state import chosen, flag
from perception_models.training import Figures, TimedRecipe, TimedTrainer


@dataclass(frozen=True)
class Stage:
    """Sequences of `length` views until `share` of the training is done; a share `single` of them are unconnected."""

    share: float
    length: int
    single: float


STAGES = (Stage(0.3, 2, 1.0), Stage(0.5, 4, 0.25), Stage(0.75, 8, 0.2), Stage(1.0, 16, 0.1))


@dataclass(frozen=True)
class Recipe(TimedRecipe):
    """How to train. A step takes about `images` images."""

    warm_up: int = 150
    images: int = 32
    asked: float = 0.2  # share of steps whose last view is asked for by its rays, unseen
    learning_rate: float = 5.0e-4
    weight_decay: float = 0.05
    average: float = 0.998


class Trainer(TimedTrainer[ReconstructionNetwork]):
    """Learns points, poses and colours from sequences."""

    def __init__(self, recipe: Recipe, settings: ReconstructionSettings) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.settings = recipe, settings
        network = ReconstructionNetwork(settings, real_encoder() if settings.real else None).to(recipe.device)
        if settings.real:
            network.real.requires_grad_(False)  # it knows photographs, and is to go on knowing them
        learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
        groups = [{"params": learning, "rate": 1.0}]
        optimiser = torch.optim.AdamW(groups, recipe.learning_rate, betas=(0.9, 0.95), weight_decay=recipe.weight_decay)
        super().__init__(recipe, settings, network, optimiser)

    def train_step(self, raw: dict[str, Tensor]) -> Figures:
        """One optimiser step on sequences as `data.collate` gives them -> figures."""
        batch = prepared({key: part.to(self.recipe.device) for key, part in raw.items()}, self.settings)
        self.network.train()
        if self.settings.real:
            self.network.real.eval()
        with torch.autocast(self.recipe.device, torch.bfloat16):
            outputs = self._outputs(batch)
        loss, figures = reconstruction_loss(outputs, batch, batch.rgb.flatten(0, 1))
        self.learn(loss)
        return figures

    def _outputs(self, batch: Batch) -> Outputs:
        """All images are encoded at once, pass through the state one after the other, and are read out at once."""
        asked = batch.rgb.shape[1] > 2 and float(torch.rand(())) < self.recipe.asked
        encoded = self._encoded(batch, asked)
        decoded = through_time(self.network, encoded, batch.fresh)
        return self.network.heads(encoded, decoded)

    def _encoded(self, batch: Batch, asked: bool) -> Encoded:
        size = batch.rgb.shape[:2]
        seen = self.network.encode(batch.rgb.flatten(0, 1))
        if not asked:
            return seen
        rays = self.network.encode_rays(self._rays(batch.poses[:, -1]))
        parts = [_with_last(part, of_rays, size) for part, of_rays in zip(_flat(seen), _flat(rays), strict=True)]
        return Encoded(parts[0], tuple(parts[1:]))

    def _rays(self, poses: Tensor) -> Tensor:
        """Origin and direction (B, 6, H, W) in the world of the pixels of cameras at poses (B, 4, 4)."""
        own = canonical_rays(self.settings, poses.device)
        directions = torch.einsum("bij,hwj->bihw", poses[:, :3, :3], own / own.norm(dim=-1, keepdim=True))
        return torch.cat([poses[:, :3, 3, None, None].expand_as(directions), directions], 1)

    def stage(self) -> Stage:
        """The stage that the training is in."""
        return next((stage for stage in STAGES if self.spent() < stage.share), STAGES[-1])

    def facts(self) -> dict[str, Any]:
        """The length of the sequences."""
        return {"length": self.stage().length}


def through_time(network: ReconstructionNetwork, encoded: Encoded, fresh: Tensor) -> Decoded:
    """Sequences (B * T, ...) pass through the state one image after the other, and begin anew where `fresh` (B, T)."""
    size = fresh.shape
    tokens = torch.unflatten(encoded.tokens, 0, size)
    initial = network.initial_state(size[0])
    state, steps = initial, list[Decoded]()
    for index in range(size[1]):
        begins = fresh[:, index].float()
        state = chosen(flag(begins), initial, state)
        decoded, state, _ = network.step(Encoded(tokens[:, index], ()), state, begins)
        steps.append(decoded)
    levels = [torch.stack(parts, 1).flatten(0, 1) for parts in zip(*(step.levels for step in steps), strict=True)]
    pose = torch.stack([step.pose_token for step in steps], 1).flatten(0, 1)
    return Decoded((levels[0], levels[1], levels[2], levels[3]), pose)


def _flat(encoded: Encoded) -> tuple[Tensor, ...]:
    return encoded.tokens, *encoded.fine


def _with_last(seen: Tensor, last: Tensor, size: tuple[int, ...]) -> Tensor:
    """(B * T, ...) with the last of each T taken from (B, ...)."""
    sequences = torch.unflatten(seen, 0, size)
    return torch.cat([sequences[:, :-1], last.to(seen.dtype).unsqueeze(1)], 1).flatten(0, 1)


def train(recipe: Recipe, out: Path, tours: Path, settings: ReconstructionSettings = COMPACT) -> Trainer:
    """Train to the end on the tours in a folder (see simulation/room_tours), from OUT/checkpoint.pt on where it exists;
    figures go to OUT/log.jsonl."""
    torch.set_num_threads(recipe.threads)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint, trainer = out / "checkpoint.pt", Trainer(recipe, settings)
    if checkpoint.exists():
        trainer.load(checkpoint)
    trainer.run(_staged(trainer, tours), trainer.train_step, out)
    return trainer


def _staged(trainer: Trainer, tours: Path) -> Iterator[dict[str, Tensor]]:
    """Batches of the stage that the trainer is in, until it has done all."""
    recipe = trainer.recipe
    while trainer.spent() < 1:
        stage = trainer.stage()
        stream = SequenceStream(tours, recipe.seed * 100_003 + trainer.step, stage.length, stage.single)
        for raw in batches(stream, max(1, recipe.images // stage.length), recipe.workers):
            yield raw
            if trainer.spent() >= min(stage.share, 1):
                break


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the recipe."""
    parser = argparse.ArgumentParser(prog="perception train reconstruction", description=__doc__)
    parser.add_argument("out", type=Path, help="folder of checkpoint and log")
    parser.add_argument("tours", type=Path, help="folder that perception_models.simulation.room_tours fills")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    for name in ("minutes", "learning-rate", "decay", "checkpoint-minutes"):
        parser.add_argument(f"--{name}", type=float, default=getattr(Recipe(), name.replace("-", "_")))
    for name in ("steps", "seed", "threads", "workers", "images"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Recipe(), name))
    chosen_ = vars(parser.parse_args(arguments))
    out, tours = chosen_.pop("out"), chosen_.pop("tours")
    train(Recipe(**chosen_), out, tours)


if __name__ == "__main__":
    main()
