# SPDX-License-Identifier: Apache-2.0
"""Published registration networks to model.onnx and model.yaml, checked between torch and ONNX Runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from perception_models.onnx_export import Tensors, export_checked
from perception_models.registration import regformer
from perception_models.registration.cylindrical import Cylinder, project
from perception_models.registration.geotransformer import OUTPUTS, GeoTransformer
from perception_models.registration.geotransformer_input import MOST_POINTS, SIDES, Stages, pair_tensors, stages_of
from perception_models.registration.geotransformer_settings import GeoTransformerSettings
from perception_models.registration.regformer import RegFormer
from perception_models.runtime.describe import describe_model

TASK = "registration"
MOST_SUPER = 1024  # of a cloud; memory grows with their square
SHRINKING = 2.5  # fewer points from stage to stage, at least; surfaces have about a quarter


def export_geotransformer(network: GeoTransformer, name: str, folder: Path) -> Path:
    """Write the network, called `name` -> `folder`. Raises ValueError when ONNX Runtime and torch differ too much."""
    folder.mkdir(parents=True, exist_ok=True)
    example = example_tensors(network.settings)
    axes = symbolic_axes(network.settings)
    path = folder / "model.onnx"
    difference = export_checked(network, network.inputs, OUTPUTS, example, axes, path)
    settings = replace(network.settings, dustbin=float(network.optimal_transport.alpha.detach()))
    describe_model(
        folder,
        TASK,
        name,
        capacity=capacity(settings),
        settings=settings.to_dict(),
        figures={"torch_to_onnx_difference": difference},
    )
    return folder


def export_regformer(network: RegFormer, name: str, folder: Path) -> Path:
    """Write the network, called `name` -> `folder`; all shapes are static. Raises as `export_geotransformer`."""
    folder.mkdir(parents=True, exist_ok=True)
    example = example_images(network.cylinder)
    difference = export_checked(network, regformer.INPUTS, regformer.OUTPUTS, example, {}, folder / "model.onnx")
    describe_model(
        folder, TASK, name, settings=network.cylinder.to_dict(), figures={"torch_to_onnx_difference": difference}
    )
    return folder


def capacity(settings: GeoTransformerSettings) -> dict[str, int]:
    """Longest length of each symbolic axis: of both clouds together and row 0 by stage, and of super-points."""
    lengths = [1 + int(2 * MOST_POINTS / SHRINKING**stage) for stage in range(settings.stages)]
    lengths[-1] = min(lengths[-1], 1 + 2 * MOST_SUPER)
    by_stage = {f"points_{stage}": length for stage, length in enumerate(lengths)}
    return by_stage | {f"{side}_super": MOST_SUPER for side in SIDES}


def symbolic_axes(settings: GeoTransformerSettings) -> dict[str, dict[int, str]]:
    """Names of the axes of every tensor that vary with the clouds."""
    axes: dict[str, dict[int, str]] = {"features": {0: f"points_{settings.fine_stage}"}}
    for stage in range(settings.stages):
        own = ("points", "mask", "neighbours", "upsampling")
        axes |= {f"{name}_{stage}": {0: f"points_{stage}"} for name in own}
        axes[f"pooling_{stage}"] = {0: f"points_{stage + 1}"}
    for side in SIDES:
        axes |= {f"{side}_{name}": {0: f"{side}_super"} for name in ("rows", "mask", "super")}
        axes |= {f"{side}_{name}": {0: f"{side}_super", 1: f"{side}_super"} for name in ("distances", "angles")}
    return axes


def example_tensors(settings: GeoTransformerSettings) -> Tensors:
    """Two clouds of different sizes as input tensors."""
    return pair_tensors(example_stages(settings, 0, cells=4), example_stages(settings, 1, cells=3))


def example_stages(settings: GeoTransformerSettings, seed: int, cells: int) -> Stages:
    """A corner of three noisy faces, some coarsest voxels wide: enough to record inputs and to compare engines."""
    rng = np.random.default_rng(seed)
    extent = cells * settings.voxel * 2 ** (settings.stages - 1)
    points = rng.uniform(0, extent, (3000, 3))
    points[np.arange(len(points)), rng.integers(0, 3, len(points))] = 0
    noisy = points + rng.normal(0, settings.voxel / 10, points.shape)
    return stages_of(noisy.astype(np.float32), settings)


def example_images(cylinder: Cylinder) -> Tensors:
    """Two noisy spheres around the sensor, with gaps, as images of points."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(len(regformer.INPUTS), 100_000, 3)) * [1, 1, 0.3]
    shells = 10 * points / np.linalg.norm(points, axis=2, keepdims=True) + rng.normal(0, 0.1, points.shape)
    both = shells.astype(np.float32)
    return {name: project(shell, cylinder) for name, shell in zip(regformer.INPUTS, both, strict=True)}
