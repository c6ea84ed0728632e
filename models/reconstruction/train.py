# SPDX-License-Identifier: Apache-2.0
"""The training recipe of the compact reconstruction network: simulated rooms only, seeded and resumable.

Stages lengthen the sequences (CUT3R, section 3.4): first each image alone, then ever more views of a path.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from perception_models.real_encoder import real_encoder
from perception_models.reconstruction.data import Batch, SequenceStream, batches, canonical_rays, prepared
from perception_models.reconstruction.losses import reconstruction_loss
from perception_models.reconstruction.network import Decoded, Encoded, Outputs, ReconstructionNetwork
from perception_models.reconstruction.settings import COMPACT, ReconstructionSettings
from perception_models.reconstruction.state import chosen, flag


@dataclass(frozen=True)
class Stage:
    """Sequences of `length` views until `share` of the training is done; a share `single` of them are unconnected."""

    share: float
    length: int
    single: float


STAGES = (Stage(0.3, 2, 1.0), Stage(0.5, 4, 0.25), Stage(0.75, 8, 0.2), Stage(1.0, 16, 0.1))


@dataclass(frozen=True)
class Recipe:
    """How to train: `minutes` of training time in all (over every resumption), or `steps` where that is set, end with a
    linear decay of the last `decay` part. A step takes about `images` images."""

    seed: int = 1
    minutes: float = 60.0
    steps: int = 0
    decay: float = 0.5
    warm_up: int = 150
    images: int = 32
    asked: float = 0.2  # share of steps whose last view is asked for by its rays, unseen
    learning_rate: float = 5.0e-4
    weight_decay: float = 0.05
    clip: float = 1.0
    average: float = 0.998
    workers: int = 1
    threads: int = 1
    device: str = "cpu"
    checkpoint_minutes: float = 3.0


class Trainer:
    """Owns the network, its running average of weights, and the optimiser."""

    def __init__(self, recipe: Recipe, settings: ReconstructionSettings) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.settings = recipe, settings
        self.network = ReconstructionNetwork(settings, real_encoder() if settings.real else None).to(recipe.device)
        if settings.real:
            self.network.real.requires_grad_(False)  # it knows photographs, and is to go on knowing them
        self.average = copy.deepcopy(self.network).eval()
        learning = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.AdamW(
            learning, recipe.learning_rate, betas=(0.9, 0.95), weight_decay=recipe.weight_decay
        )
        self.step, self.seconds = 0, 0.0

    def train_step(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        """One optimiser step on sequences as `data.collate` gives them -> figures."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate * self._rate()
        batch = prepared({key: part.to(self.recipe.device) for key, part in raw.items()}, self.settings)
        self.network.train()
        if self.settings.real:
            self.network.real.eval()
        with torch.autocast(self.recipe.device, torch.bfloat16):
            outputs = self._outputs(batch)
        loss, figures = reconstruction_loss(outputs, batch, batch.rgb.flatten(0, 1))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.optimiser.step()
        self._update_average()
        self.step += 1
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

    def spent(self) -> float:
        """The share of the training that is done."""
        if self.recipe.steps:
            return self.step / self.recipe.steps
        return self.seconds / (60 * self.recipe.minutes)

    def stage(self) -> Stage:
        """The stage that the training is in."""
        return next((stage for stage in STAGES if self.spent() < stage.share), STAGES[-1])

    def _rate(self) -> float:
        warm = min(1.0, (self.step + 1) / self.recipe.warm_up)
        return warm * min(1.0, max((1 - self.spent()) / self.recipe.decay, 0.01))

    @torch.no_grad()
    def _update_average(self) -> None:
        keep = min(self.recipe.average, (self.step + 1) / (self.step + 10))
        for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(value, 1 - keep)

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
    saved, recent, began = trainer.seconds, list[dict[str, Tensor]](), time.monotonic() - trainer.seconds
    for raw in _staged(trainer, tours):
        recent.append(trainer.train_step(raw))
        trainer.seconds = time.monotonic() - began
        trainer.seconds = time.monotonic() - began
        if trainer.step % 25 == 0:
            _log(out / "log.jsonl", trainer, recent)
            recent.clear()
        if trainer.seconds - saved > 60 * recipe.checkpoint_minutes or trainer.spent() >= 1:
            trainer.save(checkpoint)
            trainer.save_small(out / "small.pt")
            saved = trainer.seconds
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


def _log(path: Path, trainer: Trainer, recent: Sequence[dict[str, Tensor]]) -> None:
    means = {key: round(float(torch.stack([row[key] for row in recent]).mean()), 4) for key in recent[0]}
    if not math.isfinite(means["loss"]):
        raise RuntimeError(f"the loss is {means['loss']} at step {trainer.step}; lower the learning rate")
    line = {"step": trainer.step, "minutes": round(trainer.seconds / 60, 2), "length": trainer.stage().length, **means}
    with path.open("a") as log:
        log.write(json.dumps(line) + "\n")
    print(line, flush=True)


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
