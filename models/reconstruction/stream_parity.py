# SPDX-License-Identifier: Apache-2.0
"""Engines of a recurrent network compared with torch over a stream: what a state carries along must not drift apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from perception_models.onnx_export import Tensors
from perception_models.reconstruction.parts import FINE, FLAGS, Part
from perception_models.reconstruction.settings import ReconstructionSettings

Run = Callable[[Tensors], Tensors]
CARRIED = {"next_state": "state", "next_memory": "memory"}


def example_stream(settings: ReconstructionSettings, frames: int) -> Iterator[Tensors]:
    """Inputs of a stream: images of a smooth scene that passes by, with flags; the last is a query by rays."""
    for frame in range(frames):
        last = 2 * frames // 3  # before the reset
        flags = {
            "fresh": frame in (0, last + 1),
            "update": frame % 7 != 5,
            "reset": frame == last,
            "gated": frame % 2 == 1,
        }
        values = {name: np.array([value], np.float32) for name, value in flags.items()}
        yield {**values, "rgb": _image(settings, frame / 20)}
    values = {name: np.zeros(1, np.float32) for name in FLAGS}
    yield {**values, "rays": _rays(settings)}


def _image(settings: ReconstructionSettings, shift: float) -> NDArray[np.float32]:
    """(1, 3, H, W), in steps of 1/32, which pack well."""
    y, x = np.mgrid[: settings.height, : settings.width] / settings.height
    rgb = np.stack([np.sin(7 * (x + shift) + k) * np.cos(5 * y - k) for k in range(3)])
    image: NDArray[np.float32] = (np.round(24 * rgb + 8 * (np.sin(40 * (x + shift)) > 0.8)) / 32).astype(np.float32)
    return image[None]


def _rays(settings: ReconstructionSettings) -> NDArray[np.float32]:
    """(1, 6, H, W) of a camera beside the origin."""
    y, x = np.mgrid[: settings.height, : settings.width] / settings.width - 0.5
    direction = np.stack([x, y, np.ones_like(x)])
    direction /= np.linalg.norm(direction, axis=0)
    rays: NDArray[np.float32] = np.concatenate([np.full_like(direction, 0.1), direction]).astype(np.float32)
    return rays[None]


def stream_difference(parts: dict[str, Part], folder: Path, frames: int) -> float:
    """The largest difference between torch and the files `folder`/<part>/model.onnx over all outputs of a stream, as a
    part of the largest value of the output; NaN where either is not finite. Each side carries its own state along."""
    settings = parts["encoder"].network.settings
    in_torch = {name: torch_run(part) for name, part in parts.items()}
    in_onnx = {name: onnx_run(folder / name / "model.onnx", part.gives) for name, part in parts.items()}
    streams = run_stream(in_torch, settings, frames), run_stream(in_onnx, settings, frames)
    pairs = ((one, other) for (_, one), (_, other) in zip(*streams, strict=True))
    return float(np.max([_difference(one[name], other[name]) for one, other in pairs for name in one]))


def run_stream(
    runs: dict[str, Run], settings: ReconstructionSettings, frames: int
) -> Iterator[tuple[Tensors, Tensors]]:
    """Of each input of the example stream, what the parts take and what they give, by name."""
    carried: Tensors = {
        "state": np.zeros((1, settings.state, settings.decoder), np.float32),
        "memory": np.zeros((1, settings.memory, 2 * settings.decoder), np.float32),
    }
    fine: Tensors = {}
    for given in example_stream(settings, frames):
        encoded = runs["encoder" if "rgb" in given else "rays"](given)
        fine = {
            name: encoded.get(name, np.zeros_like(last)) for name, last in (fine or encoded).items() if name in FINE
        }
        decoded = runs["decoder"]({**given, **carried, **encoded})
        taken = {**given, **carried, **encoded, **fine, **decoded}
        yield taken, {**encoded, **decoded, **runs["heads"](taken)}
        carried = {old: decoded[new] for new, old in CARRIED.items()}


def torch_run(part: Part) -> Run:
    """The part in torch, on the tensors that it takes."""

    def run(tensors: Tensors) -> Tensors:
        with torch.inference_mode():
            given = part.eval()(*(torch.from_numpy(tensors[name]) for name in part.takes))
        return {name: value.numpy() for name, value in zip(part.gives, given, strict=True)}

    return run


def onnx_run(path: Path, gives: tuple[str, ...]) -> Run:
    """The file in ONNX Runtime, on the tensors that it takes."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    takes = [entry.name for entry in session.get_inputs()]

    def run(tensors: Tensors) -> Tensors:
        return dict(zip(gives, session.run(list(gives), {name: tensors[name] for name in takes}), strict=True))

    return run


def _difference(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(np.abs(one - other).max() / max(np.abs(one).max(), 1e-6))
