# SPDX-License-Identifier: Apache-2.0
"""SAM as engines: image encoder and decoder in a folder each, checked between torch and ONNX Runtime.

An ONNX file holds at most 2 GB. The encoder of ViT-H is larger, so an encoder may become a chain of engines, each of
which takes what the one before gave.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from perception_models.onnx_export import Tensors, export_checked
from perception_models.runtime.describe import describe_model
from perception_models.runtime.precision import save_samples
from perception_models.segmentation.sam import Sam
from perception_models.segmentation.sam_backend import fit
from perception_models.segmentation.sam_encoder import SamEncoder
from perception_models.segmentation.sam_settings import SamSettings

TASK = "segmentation"
INPUTS = ("features", "coordinates", "labels", "mask", "has_mask")
OUTPUTS = ("logits", "scores")
CAPACITY = {"prompts": 16, "points": 16}
AXES = {name: {0: "prompts"} for name in (*INPUTS[1:], *OUTPUTS)} | {
    name: {0: "prompts", 1: "points"} for name in ("coordinates", "labels")
}
MOST_BYTES = 1_500_000_000  # of the weights of one engine
# The first convolution starts the residual stream, which outgrows FP16; phases of positions need more than its 11 bits.
# LayerNorm and softmax are FP32 anyway (runtime/half.py).
KEEP_FP32 = ("/encoder/patch_embed", "/prompt_encoder/pe_layer")
# How far FP16 may be off. Features have about unit variance behind the last norm; a logit is 0 at the edge of a mask.
BOUNDS = {"tokens_out": 0.5, "features": 0.1, "logits": 0.5, "scores": 0.02}


def export_sam(sam: Sam, variant: str, folder: Path, most_bytes: int = MOST_BYTES) -> Path:
    """Write `folder`/encoder (and encoder_2, ... of a large one) and `folder`/decoder -> `folder`.

    Raises ValueError when ONNX Runtime and torch differ too much.
    """
    encoders: list[str] = []
    x = fit(example_picture(sam.settings.image_size), sam.settings.image_size)[0]
    for part in encoder_parts(sam.image_encoder, most_bytes):
        encoders.append(f"encoder_{len(encoders) + 1}" if encoders else "encoder")
        _write(part, {part.takes: x}, (part.gives,), variant, folder / encoders[-1], {})
        with torch.inference_mode():
            x = part(torch.from_numpy(x))[0].numpy()
    settings: dict[str, Any] = {"encoders": encoders, "sam": sam.settings.to_dict()}
    _write(sam.answering, example_prompts(x, sam.settings), OUTPUTS, variant, folder / "decoder", settings)
    return folder


class EncoderPart(nn.Module):
    """The encoder from one block to another: one engine."""

    def __init__(self, encoder: SamEncoder, first: int, last: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.first = first
        self.last = last if last < len(encoder.blocks) else None
        self.takes = "tokens" if first else "image"
        self.gives = "features" if self.last is None else "tokens_out"

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """See `SamEncoder.forward`."""
        return (self.encoder(x, self.first, self.last),)


def encoder_parts(encoder: SamEncoder, most_bytes: int = MOST_BYTES) -> Iterator[EncoderPart]:
    """The encoder cut between blocks into as few parts of about equal size as keep each below `most_bytes`."""
    total = sum(weight.numel() * weight.element_size() for weight in encoder.parameters())
    cuts = np.linspace(0, len(encoder.blocks), -(-total // most_bytes) + 1).round().astype(int).tolist()
    return (EncoderPart(encoder, first, last) for first, last in zip(cuts, cuts[1:], strict=False))


def example_picture(side: int) -> NDArray[np.uint8]:
    """Coloured shapes before a gradient (side * 3 / 4, side, 3): an image with edges that packs well."""
    rng = np.random.default_rng(0)
    picture = np.empty((side * 3 // 4, side, 3), np.uint8)
    picture[:] = np.linspace(40, 200, side).astype(np.uint8)[None, :, None]
    for _ in range(12):
        x, y, radius = (int(value) for value in rng.integers(side // 32, side * 3 // 4, 3))
        cv2.circle(picture, (x, y), radius // 4, rng.integers(0, 256, 3).tolist(), thickness=-1)
    return picture


def example_prompts(features: NDArray[np.float32], settings: SamSettings) -> Tensors:
    """Inputs of the decoder at its capacity: a click, clicks with a box, a mask, and padding."""
    prompts, points, side = CAPACITY["prompts"], CAPACITY["points"], settings.mask_size
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (prompts, points))
    labels[: prompts // 2, :2] = 2, 3
    labels[np.arange(points) > np.arange(prompts)[:, None]] = -1
    mask = np.zeros((prompts, 1, side, side), np.float32)
    mask[:, :, : side // 2] = 4
    return {
        "features": features,
        "coordinates": rng.uniform(0, settings.image_size, (prompts, points, 2)).astype(np.float32),
        "labels": labels,
        "mask": mask,
        "has_mask": (np.arange(prompts) % 2).astype(np.float32),
    }


def _write(
    network: nn.Module,
    example: Tensors,
    outputs: tuple[str, ...],
    variant: str,
    folder: Path,
    settings: dict[str, Any],
) -> None:
    """One engine: model.onnx, model.yaml and what the precision gate compares on."""
    folder.mkdir(parents=True, exist_ok=True)
    axes = AXES if settings else {}
    difference = export_checked(network, tuple(example), outputs, example, axes, folder / "model.onnx")
    describe_model(
        folder,
        TASK,
        f"{variant}/{folder.name}",
        capacity=CAPACITY if axes else {},
        precision_bound={name: BOUNDS[name] for name in outputs},
        keep_fp32=list(KEEP_FP32),
        settings=settings,
        figures={"torch_to_onnx_difference": difference},
    )
    save_samples(folder, [example])
