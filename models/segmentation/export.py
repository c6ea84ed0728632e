# SPDX-License-Identifier: Apache-2.0
"""A trained checkpoint of the compact network as a folder with two engines, encoder/ and decoder/."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from perception_models.onnx_export import Tensors, export_checked, rounded
from perception_models.real_encoder import real_encoder
from perception_models.runtime.describe import describe_model
from perception_models.runtime.precision import save_samples
from perception_models.segmentation.compact_input import depth_channels
from perception_models.segmentation.compact_settings import CompactSettings
from perception_models.segmentation.network import (
    DECODER_INPUTS,
    DECODER_OUTPUTS,
    ENCODER_INPUTS,
    ENCODER_OUTPUTS,
    CompactNetwork,
)

PROMPTS_AT_ONCE = {"prompts": 64}  # that the decoder answers
SYMBOLIC = {name: {0: "prompts"} for name in ("coordinates", "labels", "mask", "has_mask", "logits", "scores")}
ENCODER_BOUNDS = {"embedding": 0.1, "middle": 0.1, "fine": 0.1}
DECODER_BOUNDS = {"logits": 0.5, "scores": 0.05}


def load_checkpoint(path: Path) -> CompactNetwork:
    """The averaged network of a training checkpoint, in evaluation mode."""
    state = torch.load(path, weights_only=True)
    network = CompactNetwork(CompactSettings.from_dict(state["settings"]), real_encoder())
    network.load_state_dict(state["average"])
    rounded(network)
    return network.eval()


def export(network: CompactNetwork, folder: Path, variant: str = "compact", **figures: Any) -> Path:
    """Write the weights folder, with `figures` in its model.yaml -> the folder.

    Raises ValueError where ONNX Runtime and torch differ by more than `onnx_export.PARITY`.
    """
    image = example_image(network.settings)
    with torch.inference_mode():
        features = network.encoder(*(torch.from_numpy(image[name]) for name in ENCODER_INPUTS))
    prompts = example_prompts(network.settings)
    prompts |= {name: part.numpy() for name, part in zip(ENCODER_OUTPUTS, features, strict=True)}
    encoder = Part(network.encoder, ENCODER_INPUTS, ENCODER_OUTPUTS, image, ENCODER_BOUNDS)
    decoder = Part(network.decoder, DECODER_INPUTS, DECODER_OUTPUTS, prompts, DECODER_BOUNDS, SYMBOLIC, PROMPTS_AT_ONCE)
    for name, part in (("encoder", encoder), ("decoder", decoder)):
        _write(part, folder / name, f"{variant}_{name}", network.settings, figures)
    return folder


@dataclass(frozen=True)
class Part:
    """One of the two graphs, and an example of its inputs."""

    network: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    example: Tensors
    bounds: dict[str, float]
    symbolic: dict[str, dict[int, str]] = field(default_factory=dict)
    capacity: dict[str, int] = field(default_factory=dict)


def _write(part: Part, folder: Path, name: str, settings: CompactSettings, figures: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    difference = export_checked(part.network, part.inputs, part.outputs, part.example, part.symbolic, path)
    describe_model(
        folder,
        "segmentation",
        name,
        capacity=part.capacity,
        precision_bound=part.bounds,
        settings=settings.to_dict(),
        figures={"torch_to_onnx_difference": difference, **figures},
    )
    save_samples(folder, [part.example])


def example_image(settings: CompactSettings) -> Tensors:
    """A smooth image with depth."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: settings.height, : settings.width] / settings.height
    rgb = np.stack([0.5 + 0.4 * np.sin(7 * x + k) * np.cos(5 * y - k) for k in range(3)]).astype(np.float32)
    rgb = np.clip(rgb + rng.normal(0, 0.02, rgb.shape), 0, 1).astype(np.float32)
    return {"rgb": rgb[None], "depth": depth_channels((1 + x).astype(np.float32), x.shape)[None]}


def example_prompts(settings: CompactSettings) -> Tensors:
    """A click, two clicks with an earlier mask, and a box."""
    coordinates = np.zeros((3, settings.points, 2), np.float32)
    labels = np.full((3, settings.points), -1, np.int64)
    coordinates[0, 0], labels[0, 0] = (100, 80), 1
    coordinates[1, :2], labels[1, :2] = ((200, 120), (40, 60)), (1, 0)
    coordinates[2, :2], labels[2, :2] = ((50, 60), (220, 200)), (2, 3)
    mask = np.zeros((3, 1, *settings.mask_size), np.float32)
    mask[1, 0, 20:60, 30:90] = 4
    return {"coordinates": coordinates, "labels": labels, "mask": mask, "has_mask": np.array([0, 1, 0], np.float32)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the export."""
    parser = argparse.ArgumentParser(prog="perception export segmentation", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="checkpoint.pt of a training")
    parser.add_argument("folder", type=Path, help="where the weights go")
    chosen = parser.parse_args(arguments)
    network = load_checkpoint(chosen.checkpoint)
    print(export(network, chosen.folder))


if __name__ == "__main__":
    main()
