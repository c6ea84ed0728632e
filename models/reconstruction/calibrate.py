# SPDX-License-Identifier: Apache-2.0
"""Fits the confidences of a trained network anew, so that they tell how wrong its points are.

While the errors of a network in training are large, no confidence pays, and the loss closes it: afterwards all are 1.
What the last layer reads still tells where errors are large; here that layer's row for the confidence is fitted, alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from perception_models.reconstruction.data import collate, prepared, stretch
from perception_models.reconstruction.export import load_checkpoint
from perception_models.reconstruction.losses import DOUBT, NEAR
from perception_models.reconstruction.network import ReconstructionNetwork
from perception_models.reconstruction.train import through_time
from perception_models.simulation.room_tours import Tours

CONFIDENCE = 3  # channel of a point map
PIXELS = 400  # of an image
LENGTH = 4  # images of a sequence
ROUNDS = 60


class Listener:
    """Keeps what the last layer of a dpt head was given."""

    def __init__(self, head: nn.Module) -> None:
        self.layer = head.get_submodule("head")[-1]  # type: ignore[index]
        self.heard: Tensor = torch.empty(0)
        head.get_submodule("head")[-2].register_forward_hook(self._hear)  # type: ignore[index]

    def _hear(self, module: nn.Module, given: object, result: Tensor) -> None:
        self.heard = result.detach()


def calibrate(network: ReconstructionNetwork, tours: Tours, sequences: int, seed: int = 0) -> dict[str, float]:
    """Fit both confidences on sequences of tours -> for each the cost before and after, without that of the points."""
    network.eval()
    names = {"own": "dpt_self", "world": "dpt_cross"}
    heads = {name: network.downstream_head.get_submodule(head) for name, head in names.items()}
    listeners = {name: Listener(head) for name, head in heads.items()}
    rng, rows = np.random.default_rng(seed), {name: list[tuple[Tensor, Tensor]]() for name in heads}
    torch.manual_seed(seed)
    for _ in range(sequences):
        errors, valid = _errors(network, tours, rng)
        picked = torch.randperm(int(valid.sum()))[: PIXELS * LENGTH]
        for name, listener in listeners.items():
            heard = listener.heard.permute(0, 2, 3, 1)[valid][picked].float()
            rows[name].append((heard, errors[name][valid][picked]))
    figures = dict[str, float]()
    for name, listener in listeners.items():
        heard, error = (torch.cat(parts) for parts in zip(*rows[name], strict=True))
        figures |= {f"{name}_{key}": value for key, value in fit(listener.layer, heard, error).items()}
    return figures


@torch.no_grad()
def _errors(network: ReconstructionNetwork, tours: Tours, rng: np.random.Generator) -> tuple[dict[str, Tensor], Tensor]:
    """Relative errors (N, H, W) of the points in both frames on one sequence, and where there is truth."""
    batch = prepared(collate([stretch(tours.draw(rng), LENGTH, rng)]), network.settings)
    encoded = network.encode(batch.rgb.flatten(0, 1))
    outputs = network.heads(encoded, through_time(network, encoded, batch.fresh))
    own, world, valid = (part.flatten(0, 1) for part in (batch.points_self, batch.points, batch.valid))
    true, found = (part.norm(dim=-1).clamp(min=NEAR) for part in (own, outputs.points_self))
    pairs = {"own": outputs.points_self - own, "world": outputs.points - world}
    return {name: difference.norm(dim=-1) / torch.sqrt(true * found) for name, difference in pairs.items()}, valid


def fit(layer: nn.Conv2d, heard: Tensor, error: Tensor) -> dict[str, float]:
    """Set the layer's row for the confidence so that features (M, C) tell errors (M,) best."""
    mean, spread = heard.mean(0), heard.std(0) + 1e-4
    weights = torch.zeros(heard.shape[1], requires_grad=True)
    bias = torch.zeros((), requires_grad=True)
    optimiser = torch.optim.LBFGS([weights, bias], max_iter=ROUNDS, line_search_fn="strong_wolfe")

    def cost() -> Tensor:
        confidence = 1 + ((heard - mean) / spread @ weights + bias).clamp(max=8).exp()
        return (confidence * error - DOUBT * confidence.log()).mean()

    def closure() -> float:
        optimiser.zero_grad()
        loss = cost() + 1e-4 * weights.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    before = float(error.mean())  # of a confidence of 1 everywhere
    optimiser.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        layer.weight[CONFIDENCE, :, 0, 0] = weights / spread
        assert layer.bias is not None
        layer.bias[CONFIDENCE] = bias - (weights / spread * mean).sum()
        return {"before": before, "after": float(cost())}


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: rewrite a checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="small.pt of a training")
    parser.add_argument("tours", type=Path, help="folder that perception_models.simulation.room_tours fills")
    parser.add_argument("out", type=Path, help="where the new checkpoint goes")
    parser.add_argument("--sequences", type=int, default=48)
    chosen = parser.parse_args(arguments)
    network, tours = load_checkpoint(chosen.checkpoint), Tours(chosen.tours)
    tours.refresh()
    print(calibrate(network, tours, chosen.sequences))
    state = torch.load(chosen.checkpoint, weights_only=True)
    state["average"] = {
        name: value.half() if value.is_floating_point() else value for name, value in network.state_dict().items()
    }
    torch.save(state, chosen.out)


if __name__ == "__main__":
    main()
