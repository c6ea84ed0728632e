# SPDX-License-Identifier: Apache-2.0
"""Trains the scores of pairs, logistic fits and then the network, on simulated rooms: minutes on a CPU, resumable."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from perception_models.onnx_export import export_checked
from perception_models.runtime.describe import describe_model
from perception_models.runtime.precision import save_samples
from perception_models.segmentation.affinity import WEIGHTS
from perception_models.segmentation.affinity_data import Place, Sample, prior_loss
from perception_models.segmentation.affinity_input import TENSORS
from perception_models.segmentation.affinity_network import INPUTS, OUTPUTS, AffinityNetwork, DeployedAffinity
from perception_models.segmentation.pair_scores import FILE, PairScores, fit_scores

CAPACITY = 4096  # super-points
BOUNDS = {"odds": 0.5}


@dataclass(frozen=True)
class Recipe:
    """How to train: on `rooms` simulated rooms, of which the last `held_out` judge, from a walk of `frames` views and
    `close` views each. `minutes` of optimising in all, over every resumption; the rate sinks to zero over the last
    `decay` part."""

    seed: int = 1
    rooms: int = 16
    held_out: int = 2
    frames: int = 12
    close: int = 8
    minutes: float = 8.0
    steps: int = 0
    decay: float = 0.5
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    clip: float = 1.0
    check_every: int = 200
    threads: int = 1


class Trainer:
    """Owns the network and the optimiser."""

    def __init__(self, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.network = AffinityNetwork()
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.step, self.seconds = 0, 0.0

    @property
    def done(self) -> float:
        """Share of the training that is done."""
        recipe = self.recipe
        return self.step / recipe.steps if recipe.steps else self.seconds / (60 * recipe.minutes)

    def train_step(self, sample: Sample) -> float:
        """One optimiser step on one graph -> its loss. Raises FloatingPointError where that is not finite."""
        began = time.monotonic()
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate * min(1.0, max(0.01, (1 - self.done) / self.recipe.decay))
        loss = network_loss(self.network.train(), sample)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"loss is not finite at step {self.step}")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.optimiser.step()
        self.step += 1
        self.seconds += time.monotonic() - began
        return float(loss.detach())

    @torch.no_grad()
    def judge(self, samples: Sequence[Sample]) -> dict[str, float]:
        """Mean loss of the network and of the logistic fits on samples that are not trained on."""
        losses = [float(network_loss(self.network.eval(), sample)) for sample in samples]
        return {"loss": float(np.mean(losses)), "prior_loss": float(np.mean([prior_loss(one) for one in samples]))}

    def save(self, path: Path) -> None:
        """Write everything that a resumption needs."""
        state = {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}
        torch.save({**state, "step": self.step, "seconds": self.seconds, "recipe": asdict(self.recipe)}, path)

    def resume(self, path: Path) -> None:
        """Go on from a file of `save`."""
        state = torch.load(path, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]


def network_loss(network: AffinityNetwork, sample: Sample) -> Tensor:
    """Weighted cross entropy of the known labels."""
    odds = network(*(torch.from_numpy(np.asarray(sample.tensors[name])) for name in TENSORS))
    labels, weights = torch.from_numpy(sample.labels), torch.from_numpy(sample.weights)
    loss: Tensor = nn.functional.binary_cross_entropy_with_logits(odds, labels, weights, reduction="sum")
    return loss / weights.sum().clamp(min=1e-9)


def fit_places(places: Sequence[Place]) -> PairScores:
    """The logistic fits to places that all of their views show."""
    return fit_scores([(place.shown(place.evidence), *place.labels()) for place in places])


def split(rooms: Sequence[Sequence[Place]], held_out: int) -> tuple[list[Place], list[Place]]:
    """The places of the first rooms, to train on, and of the last `held_out`, that judge. Raises ValueError where that
    leaves none to train on."""
    if len(rooms) <= held_out:
        raise ValueError(f"{len(rooms)} rooms with {held_out} held out leave none to train on")
    first = len(rooms) - held_out
    return [place for room in rooms[:first] for place in room], [place for room in rooms[first:] for place in room]


def train(recipe: Recipe, folder: Path, places: Sequence[Place], judging: Sequence[Place], scores: PairScores) -> Path:
    """Train the network that corrects `scores`, or go on training it, in `folder` -> the checkpoint's path. The places
    that judge do so into log.jsonl."""
    torch.set_num_threads(recipe.threads)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, trainer = folder / "checkpoint.pt", Trainer(recipe)
    if checkpoint.exists():
        trainer.resume(checkpoint)
    rng = np.random.default_rng([recipe.seed, trainer.step])
    judges = [place.sample(np.random.default_rng(recipe.seed), scores) for place in judging]
    often = np.array([len(place.graph) for place in places], float)
    while trainer.done < 1:
        trainer.train_step(places[rng.choice(len(places), p=often / often.sum())].sample(rng, scores))
        if judges and trainer.step % recipe.check_every == 0:
            _note(folder, trainer, judges)
            trainer.save(checkpoint)
    trainer.save(checkpoint)
    return checkpoint


def _note(folder: Path, trainer: Trainer, judges: Sequence[Sample]) -> None:
    line = {"step": trainer.step, "minutes": round(trainer.seconds / 60, 2), **trainer.judge(judges)}
    with (folder / "log.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def export(checkpoint: Path, folder: Path, example: Sample, **figures: float) -> Path:
    """Write the weights folder that `AffinityModel.load` reads -> path of the ONNX file. Raises as export_checked."""
    network = AffinityNetwork()
    network.load_state_dict(torch.load(checkpoint, weights_only=True)["network"])
    folder.mkdir(parents=True, exist_ok=True)
    axes = {name: {0: "superpoints"} for name in (*INPUTS, *OUTPUTS)}
    path = folder / "model.onnx"
    difference = export_checked(DeployedAffinity(network), INPUTS, OUTPUTS, example.tensors, axes, path)
    measured = {**figures, "torch_to_onnx_difference": difference}
    capacity = {"superpoints": CAPACITY}
    describe_model(folder, "segmentation", "affinity", capacity=capacity, precision_bound=BOUNDS, figures=measured)
    save_samples(folder, [example.tensors])
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the recipe."""
    parser = argparse.ArgumentParser(prog="perception_models.segmentation.affinity_train", description=__doc__)
    parser.add_argument("folder", type=Path, help="where checkpoint.pt, log.jsonl and the looked-at rooms go")
    parser.add_argument(
        "--variant", default="compact", help="of the promptable model that looks (default: %(default)s)"
    )
    for name in ("minutes", "rooms", "seed", "threads"):
        default = getattr(Recipe, name)
        parser.add_argument(f"--{name}", type=type(default), default=default, help="default: %(default)s")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder of the fits and of the exported network")
    options = parser.parse_args(arguments)
    from perception_models.segmentation.affinity_places import places_in, room_places
    from perception_models.segmentation.predictor import MaskPredictor
    from perception_models.simulation.room_catalogue import Catalogue

    recipe = Recipe(options.seed, options.rooms, minutes=options.minutes, threads=options.threads)
    predictor, catalogue = MaskPredictor.load(options.variant, threads=options.threads), Catalogue.fetched()

    def look(seed: int) -> list[Place]:
        return room_places(seed, recipe.frames, recipe.close, catalogue, predictor)

    rooms = places_in(options.folder / "places", recipe.seed, recipe.rooms, look)
    places, judging = split(rooms, recipe.held_out)
    scores = fit_places(places)
    scores.save(options.weights / FILE.name)
    if recipe.minutes:
        checkpoint = train(recipe, options.folder, places, judging, scores)
        example = places[0].sample(np.random.default_rng(0), scores)
        print(f"network: {export(checkpoint, options.weights, example)}")


if __name__ == "__main__":
    main()
