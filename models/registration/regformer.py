# SPDX-License-Identifier: Apache-2.0
"""RegFormer at full size (Liu et al., ICCV 2023): two cylinder images -> the pose between them, from coarse to fine.

Written from published facts (sizes, kinds of layers, names and shapes of the checkpoint's tensors) without its source.
What they leave open and is decided here: the first point of each stride's block stands for it; merged patches and
gathered neighbours are added; the bijective association follows each Swin stage, and its result goes on to the next;
all-to-all costs are of the coarsest level, with its features reduced to 64 channels; warped points stay in their cells
and look for neighbours around the cell of the target that they fall into; quaternions are w, x, y, z and move the
source into the target; sizes of windows. A checkpoint trained elsewhere loads, but its figures are not promised here.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from perception_models.registration.cylindrical import KITTI, Cylinder
from perception_models.registration.regformer_association import AllToAll
from perception_models.registration.regformer_points import (
    CostVolume,
    FlowPredictor,
    Grid,
    Reach,
    SetConv,
    SetUpconv,
    own_cells,
    take,
    weighted,
)
from perception_models.registration.regformer_swin import CrossStage, Shape, SwinStage, cells_of

INPUTS, OUTPUTS = ("source", "target"), ("quaternions", "translations")

STRIDES = ((4, 8), (2, 2), (2, 2), (1, 2))  # rows and columns, level by level
CHANNELS, DEPTHS, HEADS = (16, 32, 64, 128), (2, 2, 6, 2), (2, 4, 8, 16)
LEVELS = range(4)
COARSEST = 3
GATHERED = (Reach((9, 15), 0.75, 32), Reach((7, 11), 3, 16), Reach((5, 9), 6, 16), Reach((5, 9), 12, 16))
CANDIDATES = (Reach((5, 15), 4.5, 16), Reach((5, 11), 9, 16), Reach((3, 11), 18, 16))  # in the target, by level
PATCHES = (Reach((3, 5), 3, 4), Reach((3, 5), 6, 4), Reach((3, 5), 12, 4), Reach((3, 5), 24, 4))
UPWARDS = (Reach((3, 5), 6, 8), Reach((3, 5), 12, 8), Reach((3, 5), 24, 8))  # coarse around fine, by fine level


class Pose(NamedTuple):
    """Unit quaternion (4,) w, x, y, z and translation (3,) in metres, source -> target."""

    quaternion: Tensor
    translation: Tensor


class Believed(NamedTuple):
    """What a level says of its points, both (N, 64): how they move, and how much that counts."""

    motion: Tensor
    weight: Tensor


class PatchMerging(nn.Module):
    """Joins features gathered by a set convolution with those of the 2 x 2 cells that merge."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, channels, bias=False)
        self.linear2 = nn.Linear(2 * channels, channels, bias=False)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)

    def forward(self, gathered: Tensor, finer: Grid, stride: Shape) -> Tensor:
        """gathered (N, C), finer with C/2 channels -> (N, C)."""
        patch = take(finer.features, merged_rows(finer, stride)).flatten(1)
        return self.norm1(self.linear1(gathered)) + self.norm2(self.linear2(patch))  # type: ignore[no-any-return]


class Linear1d(nn.Module):
    """Linear map of one feature vector, with the name that the checkpoint has for it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.composed_module = nn.Sequential(nn.Conv1d(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x (C,) -> (D,)."""
        return self.composed_module(x[None, :, None])[0, :, 0]  # type: ignore[no-any-return]


class RegFormer(nn.Module):
    """Images (rows, columns, 3) of source and target, as `cylindrical.project` makes them -> OUTPUTS: quaternions
    (4, 4) and translations (4, 3) of the poses source -> target, the coarsest level first."""

    def __init__(self, cylinder: Cylinder = KITTI) -> None:
        super().__init__()
        self.cylinder = cylinder
        self.w_x, self.w_q = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.full((1,), -2.5))  # of the loss
        self.dropout = nn.Dropout(0.5)
        self._add_encoder()
        self._add_costs()
        self._add_poses()

    def forward(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """source, target (rows, columns, 3) m -> quaternions (4, 4), translations (4, 3)."""
        sources, targets = self.encode(source, target)
        believed = self._associate(sources[COARSEST], targets[COARSEST])
        poses = [self._pose(COARSEST, believed, sources[COARSEST].mask)]
        for level in reversed(LEVELS[:COARSEST]):
            coarse = sources[level + 1]
            believed = self._refine(level, sources[level], targets[level], coarse, believed, poses[-1])
            step = self._pose(level, believed, sources[level].mask)
            poses.append(compose(step, poses[-1]))
        return torch.stack([pose.quaternion for pose in poses]), torch.stack([pose.translation for pose in poses])

    def encode(self, source: Tensor, target: Tensor) -> tuple[list[Grid], list[Grid]]:
        """Images (rows, columns, 3) -> their levels, the finest first, which have heard of each other."""
        pair, levels = (as_grid(source), as_grid(target)), []
        for level in LEVELS:
            below = [self._level(level, grid) for grid in pair]
            features = self._module("cross_trans", level)(
                *(grid.features for grid in below), *(grid.mask for grid in below)
            )
            both = zip(below, features, strict=True)
            first, second = (grid._replace(features=own * grid.mask) for grid, own in both)
            pair = first, second
            levels.append(pair)
        return [pair[0] for pair in levels], [pair[1] for pair in levels]

    def _level(self, level: int, finer: Grid) -> Grid:
        """The next coarser grid, with features of its own cloud."""
        rows = first_rows(finer, STRIDES[level])
        points, mask = finer.points.index_select(0, rows), finer.mask.index_select(0, rows)
        features = self._module("layer", level)(points, mask, own_cells(finer).index_select(0, rows), finer)
        if level:
            features = self._module("merging", level)(features, finer, STRIDES[level]) * mask
        shape = coarser(finer.shape, STRIDES[level])
        return Grid(points, mask, self._module("swin", level)(features, mask) * mask, shape)

    def _associate(self, source: Grid, target: Grid) -> Believed:
        """All-to-all costs of the coarsest level, gathered in their neighbourhood."""
        reduced = (grid._replace(features=self.reduction3(grid.features)) for grid in (source, target))
        costs = source._replace(features=self.allcost1.forward_all(*reduced))
        motion = self.laye3_1(source.points, source.mask, own_cells(source), costs)
        return Believed(motion, self.flow_predictor0(source.features, motion))

    def _refine(self, level: int, source: Grid, target: Grid, coarse: Grid, above: Believed, pose: Pose) -> Believed:
        """What is left to move after `pose`, by costs of this level and what the coarser one believed."""
        step = COARSEST - level
        warped = source._replace(points=move(pose, source.points))
        cost = self._module("cost_volume", step + 1)(warped, self.cells(warped.points, target.shape), target)
        inside = own_cells(source) // own_cells(source).new_tensor(STRIDES[level + 1])
        motion, weight = (
            self.get_submodule(f"set_upconv{step}_{name}")(source, inside, coarse._replace(features=value))
            for name, value in (("upsample", above.motion), ("w_upsample", above.weight))
        )
        refined = self.get_submodule(f"flow_predictor{step}_predict")(source.features, motion, cost)
        return Believed(refined, self.get_submodule(f"flow_predictor{step}_w")(source.features, weight, refined))

    def _pose(self, level: int, believed: Believed, mask: Tensor) -> Pose:
        pooled = weighted(believed.motion, believed.weight, mask.expand(-1, 64), axis=0)
        hidden = self.dropout(self._module("conv3_l", level)(pooled))
        quaternion = self._module("conv1_l", level)(hidden)
        unit = quaternion * torch.rsqrt(quaternion.square().sum() + 1e-12)
        return Pose(unit, self._module("conv2_l", level)(hidden))

    def cells(self, points: Tensor, shape: Shape) -> Tensor:
        """Row and column (N, 2) of points (N, 3) in an image of this shape, as `cylindrical.cells`; rows may be out."""
        x, y, z = points.unbind(-1)
        elevation = torch.atan(z / (x.square() + y.square() + 1e-12).sqrt())
        height = self.cylinder.top - self.cylinder.bottom
        row = torch.floor((self.cylinder.top - elevation) / height * shape[0])
        column = torch.floor((math.pi - torch.atan2(y, x)) / (2 * math.pi) * shape[1])
        return torch.stack([row, column], dim=-1).long()

    def _module(self, name: str, index: int) -> nn.Module:
        return self.get_submodule(f"{name}{index}")

    def _add_encoder(self) -> None:
        shape: Shape = (self.cylinder.rows, self.cylinder.columns)
        given = 3
        for level, (channels, depth, heads) in enumerate(zip(CHANNELS, DEPTHS, HEADS, strict=True)):
            shape = coarser(shape, STRIDES[level])
            narrow = channels // 2
            self.add_module(f"layer{level}", SetConv(given, (narrow, narrow, channels), GATHERED[level]))
            if level:
                self.add_module(f"merging{level}", PatchMerging(channels))
            self.add_module(f"swin{level}", SwinStage(channels, heads, depth, shape))
            self.add_module(f"cross_trans{level}", CrossStage(channels, heads, depth, shape))
            given = channels

    def _add_costs(self) -> None:
        self.reduction3 = nn.Linear(CHANNELS[COARSEST], 64, bias=False)
        self.allcost1 = AllToAll(64, PATCHES[COARSEST])
        self.laye3_1 = SetConv(64, (128, 64, 64), GATHERED[COARSEST])  # so spelt in the checkpoint
        self.flow_predictor0 = FlowPredictor(CHANNELS[COARSEST] + 64)
        self.cost_volume1 = CostVolume(64, CANDIDATES[2], PATCHES[2])  # in the checkpoint, but `allcost1` has its place

    def _add_poses(self) -> None:
        for level in LEVELS:
            for name, outputs in (("conv1", 4), ("conv2", 3)):
                self.add_module(f"{name}_l{level}", Linear1d(256, outputs))
            self.add_module(f"conv3_l{level}", Linear1d(64, 256))
        for level in LEVELS[:COARSEST]:
            step, own = COARSEST - level, CHANNELS[level]
            self.add_module(f"cost_volume{step + 1}", CostVolume(own, CANDIDATES[level], PATCHES[level]))
            for name in ("upsample", "w_upsample"):
                self.add_module(f"set_upconv{step}_{name}", SetUpconv(own, UPWARDS[level]))
            for name in ("predict", "w"):
                self.add_module(f"flow_predictor{step}_{name}", FlowPredictor(own + 128))


def as_grid(image: Tensor) -> Grid:
    """An image (H, W, 3) with zeros where there is no point; coordinates are the features."""
    points = image.reshape(-1, 3)
    mask = (points.abs().sum(1, keepdim=True) > 0).to(image.dtype)
    return Grid(points, mask, points, (image.shape[0], image.shape[1]))


def coarser(shape: Shape, stride: Shape) -> Shape:
    """Shape of an image after a stride."""
    return shape[0] // stride[0], shape[1] // stride[1]


def first_rows(grid: Grid, stride: Shape) -> Tensor:
    """Row of the grid (N,) of the first point in each block of stride cells; of any cell where there is none."""
    (height, width), (down, right) = coarser(grid.shape, stride), stride
    rows = torch.arange(grid.shape[0] * grid.shape[1], device=grid.points.device)
    blocks = rows.reshape(height, down, width, right).transpose(1, 2).reshape(height * width, down * right)
    return blocks.gather(1, grid.mask[:, 0][blocks].argmax(1, keepdim=True))[:, 0]


def merged_rows(grid: Grid, stride: Shape) -> Tensor:
    """Rows (N, 4) of the grid of 2 x 2 cells, a stride apart; the last row of cells meets itself where it overlaps."""
    device, (height, width) = grid.points.device, grid.shape
    corners = cells_of(coarser(grid.shape, stride), device) * grid.mask.new_tensor(stride).long()
    cells = corners[:, None] + cells_of((2, 2), device)
    return cells[..., 0].clamp(max=height - 1) * width + cells[..., 1].clamp(max=width - 1)


def move(pose: Pose, points: Tensor) -> Tensor:
    """Points (N, 3) moved by a pose."""
    return points @ rotation(pose.quaternion).T + pose.translation


def rotation(quaternion: Tensor) -> Tensor:
    """Unit quaternion (4,) -> matrix (3, 3)."""
    w, x, y, z = quaternion.unbind()
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row) for row in rows])


def compose(second: Pose, first: Pose) -> Pose:
    """The pose that moves as `first`, and then as `second`."""
    (w, x, y, z), (a, b, c, d) = second.quaternion.unbind(), first.quaternion.unbind()
    product = [
        w * a - x * b - y * c - z * d,
        w * b + x * a + y * d - z * c,
        w * c - x * d + y * a + z * b,
        w * d + x * c - y * b + z * a,
    ]
    return Pose(torch.stack(product), move(second, first.translation[None])[0])
