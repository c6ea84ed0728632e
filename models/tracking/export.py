# SPDX-License-Identifier: Apache-2.0
"""A trained checkpoint as a folder of weights: model.onnx, model.yaml and recorded inputs for the precision gate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from perception_models.classes import CLASSES
from perception_models.onnx_export import Tensors, export_checked
from perception_models.runtime.describe import describe_model
from perception_models.runtime.precision import save_samples
from perception_models.tracking.data import SampleStream, collate, make_sample
from perception_models.tracking.losses import right
from perception_models.tracking.network import INPUTS, OUTPUTS, DeployedTracker, TrackingNetwork
from perception_models.tracking.settings import TrackingSettings
from perception_models.tracking.siamese import build
from perception_models.tracking.tracklets import simulate_tracklets
from perception_models.tracking.train import materialised

BOUNDS = {"offset": 0.05, "spread": 0.5, "score": 0.5, "previous": 0.1, "state": 0.5}
SYMBOLIC = {name: {0: "targets"} for name in (*INPUTS, *OUTPUTS)}


def load_checkpoint(path: Path) -> TrackingNetwork:
    """The averaged network of a training checkpoint, in evaluation mode."""
    state = torch.load(path, weights_only=True)
    network = materialised(build(TrackingSettings.from_dict(state["settings"])))
    network.load_state_dict(state["average"])
    assert isinstance(network, TrackingNetwork)
    return network.eval()


def export(network: TrackingNetwork, folder: Path, variant: str = "compact", **figures: Any) -> Path:
    """Write the weights folder, with `figures` in its model.yaml -> path of the ONNX file.

    Raises ValueError when ONNX Runtime and torch differ by more than `onnx_export.PARITY` on simulated targets.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    settings = network.settings
    example = example_tensors(settings)
    difference = export_checked(DeployedTracker(network), INPUTS, OUTPUTS, example, SYMBOLIC, path)
    facts = describe_model(
        folder,
        "tracking",
        variant,
        classes=list(CLASSES),
        capacity={"targets": settings.capacity},
        precision_bound=BOUNDS,
        settings=settings.to_dict(),
        figures={"torch_to_onnx_difference": difference, **figures},
    )
    save_samples(folder, [{name: example[name] for name in facts.inputs}])
    return path


def example_tensors(settings: TrackingSettings) -> Tensors:
    """As many simulated targets as there is room for."""
    rng = np.random.default_rng(0)
    tracklets = simulate_tracklets(0, seconds=0.6)
    chosen = [tracklets[k % len(tracklets)] for k in range(settings.capacity)]
    inputs, _ = collate([make_sample(one, tracklets, rng, settings) for one in chosen])
    return {name: tensor.numpy() for name, tensor in inputs.items()}


def calibrated(network: TrackingNetwork, pool: Path, count: int = 3000) -> tuple[TrackingNetwork, dict[str, float]]:
    """The network with scale and shift of its score fitted to held-out drives in `pool` (Platt, 1999), and the mean
    error of the probability in tenths of its range (expected calibration error) before and after."""
    stream = iter(SampleStream(pool, 7, network.settings))
    inputs, truth = collate([next(stream) for _ in range(count)])
    with torch.inference_mode():
        outputs = [network(**{k: v[i : i + 64] for k, v in inputs.items()}) for i in range(0, count, 64)]
    logit = torch.cat([one.score[:, 0] for one in outputs]).clone()
    hit = right(torch.cat([one.offset for one in outputs]), truth).clone()
    line = torch.tensor([1.0, 0.0], requires_grad=True)
    optimiser = torch.optim.LBFGS([line], max_iter=60)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = F.binary_cross_entropy_with_logits(line[0] * logit + line[1], hit)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    scale, shift = (round(float(value), 3) for value in line.detach())
    errors = [_calibration_error(torch.sigmoid(z), hit) for z in (logit, scale * logit + shift)]
    network.settings = replace(network.settings, score_scale=scale, score_shift=shift)
    return network, dict(zip(("calibration_error_before", "calibration_error"), errors, strict=True))


def _calibration_error(probability: torch.Tensor, hit: torch.Tensor) -> float:
    tenth = (probability * 10).long().clamp(max=9)
    gaps = [
        (tenth == k).float().mean() * (probability[tenth == k].mean() - hit[tenth == k].mean()).abs()
        for k in range(10)
        if (tenth == k).any()
    ]
    return round(float(sum(gaps)), 4)
