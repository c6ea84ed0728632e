# SPDX-License-Identifier: Apache-2.0
"""A network as a folder with the engines encoder/, decoder/, heads/ and rays/, checked over a stream against torch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from perception_models.onnx_export import PARITY, Tensors, rounded, write_onnx
from perception_models.real_encoder import real_encoder
from perception_models.reconstruction.network import ReconstructionNetwork
from perception_models.reconstruction.parts import Part, parts_of
from perception_models.reconstruction.settings import ReconstructionSettings
from perception_models.reconstruction.stream_parity import run_stream, stream_difference, torch_run
from perception_models.runtime.describe import describe_model
from perception_models.runtime.precision import save_samples

FRAMES = 50  # of the stream over which engines and torch are compared
KEEP_FP32 = ("/downstream_head/dpt_self/head/head.4", "/downstream_head/dpt_cross/head/head.4")  # logarithms of depth
# How far FP16 may be off. Tokens and state have about unit variance behind their norms.
BOUNDS = {
    **dict.fromkeys(("tokens", "fine0", "fine1", "next_state", "next_memory", "level3", "pose_token"), 0.1),
    **dict.fromkeys(("level1", "level2", "confidence_self", "confidence"), 0.5),
    **{"points_self": 0.1, "points": 0.1, "rgb": 0.05, "pose": 0.02},
}


def load_checkpoint(path: Path) -> ReconstructionNetwork:
    """The averaged network of a training checkpoint, in evaluation mode."""
    state = torch.load(path, weights_only=True)
    settings = ReconstructionSettings.from_dict(state["settings"])
    network = ReconstructionNetwork(settings, real_encoder() if settings.real else None)
    network.load_state_dict(state["average"])
    rounded(network)
    return network.eval()


def export(
    network: ReconstructionNetwork, folder: Path, variant: str = "compact", frames: int = FRAMES, **figures: Any
) -> Path:
    """Write the weights folder, with `figures` in each model.yaml -> the folder.

    Raises ValueError where ONNX Runtime and torch differ by more than `onnx_export.PARITY` of an output's largest value
    anywhere in a stream of `frames` images and a query.
    """
    parts = parts_of(network.eval())
    samples = _samples(parts, network.settings)
    for name, part in parts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        write_onnx(part, part.takes, part.gives, samples[name], {}, folder / name / "model.onnx")
    difference = stream_difference(parts, folder, frames)
    if not difference <= PARITY:
        raise ValueError(f"ONNX Runtime differs from torch by {difference:.2e} of the range: do not use {folder}")
    figures = {"torch_to_onnx_difference": float(f"{difference:.1e}"), "frames": frames, **figures}
    for name, part in parts.items():
        _describe(part, folder / name, f"{variant}_{name}", samples[name], figures)
    return folder


def _describe(part: Part, folder: Path, name: str, sample: Tensors, figures: dict[str, Any]) -> None:
    facts = describe_model(
        folder,
        "reconstruction",
        name,
        precision_bound={output: BOUNDS[output] for output in part.gives},
        keep_fp32=list(KEEP_FP32),
        settings=part.network.settings.to_dict(),
        figures=figures,
    )
    save_samples(folder, [{name: sample[name] for name in facts.inputs}])


def _samples(parts: dict[str, Part], settings: ReconstructionSettings) -> dict[str, Tensors]:
    """An example of the inputs of each part: those of the second image, and of a query."""
    runs = {name: torch_run(part) for name, part in parts.items()}
    _, (second, _), _, (query, _) = run_stream(runs, settings, frames=3)
    given = {name: query if name == "rays" else second for name in parts}
    return {name: {tensor: _rounded(given[name][tensor]) for tensor in part.takes} for name, part in parts.items()}


def _rounded(array: np.ndarray) -> np.ndarray:
    """To 11 bits, so that a file with it is half as large."""
    return array.astype(np.float16).astype(np.float32)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the export."""
    parser = argparse.ArgumentParser(prog="perception export reconstruction", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="checkpoint.pt of a training")
    parser.add_argument("folder", type=Path, help="where the weights go")
    chosen = parser.parse_args(arguments)
    network = load_checkpoint(chosen.checkpoint)
    print(export(network, chosen.folder))


if __name__ == "__main__":
    main()
