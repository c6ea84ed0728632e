# SPDX-License-Identifier: Apache-2.0
"""GeoTransformer at full size (Qin et al., CVPR 2022, arXiv 2202.06688), with the parameter names of its checkpoints.

Neighbours, sub-sampling, distances and angles come from numpy (geotransformer_input.py); matching and local-to-global
registration follow in numpy (geotransformer_matcher.py). All that has weights is here, but for the dustbin.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from perception_models.registration.geotransformer_attention import GeometricTransformer
from perception_models.registration.geotransformer_backbone import Backbone, Pyramid
from perception_models.registration.geotransformer_input import SIDES, input_names
from perception_models.registration.geotransformer_settings import GeoTransformerSettings

OUTPUTS = ("features", "target_super", "source_super")


class OptimalTransport(nn.Module):
    """Holds the score of having no partner."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(1.0))


class GeoTransformer(nn.Module):
    """The tensors of `geotransformer_input.pair_tensors`, in the order of `input_names` -> OUTPUTS: descriptors of the
    fine points of both clouds (N, C), whose scaled dot product is a score, and of super-points (T, C), (S, C), of unit
    length."""

    def __init__(self, settings: GeoTransformerSettings) -> None:
        super().__init__()
        self.settings = settings
        self.inputs = input_names(settings.stages, settings.fine_stage)
        self.backbone = Backbone(settings)
        self.transformer = GeometricTransformer(settings)
        self.optimal_transport = OptimalTransport()

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tensors named by `self.inputs`."""
        given = dict(zip(self.inputs, tensors, strict=True))
        fine, coarse = self.backbone(self._pyramid(given))
        supers = [coarse.index_select(0, given[f"{side}_rows"]) for side in SIDES]
        masks = given["target_mask"], given["source_mask"]
        geometry = [(given[f"{side}_distances"], given[f"{side}_angles"]) for side in SIDES]
        target, source = self.transformer(supers[0], supers[1], masks, (geometry[0], geometry[1]))
        return fine, _unit(target), _unit(source)

    def _pyramid(self, given: dict[str, Tensor]) -> Pyramid:
        levels = range(self.settings.stages)

        def each(name: str, count: int = self.settings.stages) -> list[Tensor]:
            return [given[f"{name}_{stage}"] for stage in levels[:count]]

        below = self.settings.stages - 1
        upsampling = [given.get(f"upsampling_{stage}", torch.zeros(0)) for stage in levels[:below]]
        return Pyramid(each("points"), each("mask"), each("neighbours"), each("pooling", below), upsampling)


def _unit(x: Tensor) -> Tensor:
    """x (S, C) -> rows of unit length; plain operations, so that the number of channels stays known in the graph."""
    return x * torch.rsqrt(x.square().sum(1, keepdim=True) + 1e-12)
