# SPDX-License-Identifier: Apache-2.0
"""What a reconstruction is worth: confidence-aware point maps, poses and colours (CUT3R, section 3.3; the confidence as
in DUSt3R, CVPR 2024, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from perception_models.reconstruction.data import Batch
from perception_models.reconstruction.heads import Outputs

DOUBT = (
    1.0  # of the logarithm of a confidence, the paper's alpha: what is wrong by more than this is not trusted at all
)
WORLD, EDGES, POSE, COLOUR = 1.0, 0.5, 1.0, 0.1
NEAR = 0.3  # m, below which an error no longer counts more


def reconstruction_loss(outputs: Outputs, batch: Batch, colours: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Outputs of B * T images against a batch; `colours` (B * T, 3, H, W) is what the network saw -> loss, figures.

    Errors of points are taken relative to their distance: to the geometric mean of the true one and the one found, else
    it would pay to call all that is uncertain near. All truth is metric, so that the scale is learnt too; the paper
    divides by the mean distance of a sequence's points instead, which leaves near things to be wrong.
    """
    valid, depth = batch.valid.flatten(0, 1), batch.points_self.flatten(0, 1)[..., 2]
    true_reach, found_reach = batch.points_self.flatten(0, 1).norm(dim=-1), outputs.points_self.norm(dim=-1)
    reach = torch.sqrt(true_reach.clamp(min=NEAR) * found_reach.clamp(min=NEAR))
    own, own_error = _sure(outputs.points_self, outputs.confidence_self, batch.points_self, reach, valid)
    world, world_error = _sure(outputs.points, outputs.confidence, batch.points, reach.detach(), valid)
    edges = _edges(outputs.points_self[..., 2], depth, valid)
    place, turn = _pose(outputs.pose, batch.poses.flatten(0, 1), depth, valid)
    colour = (outputs.rgb - colours.permute(0, 2, 3, 1)).square().mean()
    loss = own + WORLD * world + EDGES * edges + POSE * (place + turn) + COLOUR * colour
    figures = {"self": own_error, "world": world_error, "edges": edges, "place": place, "turn": turn, "rgb": colour}
    return loss, {name: value.detach() for name, value in {"loss": loss, **figures}.items()}


def _sure(points: Tensor, confidence: Tensor, truth: Tensor, reach: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Error of points (N, H, W, 3), relative to `reach` (N, H, W), times confidence, which costs; the error alone."""
    error = (points - truth.flatten(0, 1)).norm(dim=-1) / reach.clamp(min=NEAR)
    weighed = confidence * error - DOUBT * confidence.log()
    return _mean(weighed, valid), _mean(error.detach(), valid)


def _edges(depth: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """How much the logarithm of depth (N, H, W) changes from pixel to pixel, against the truth, near and far: it keeps
    edges sharp and surfaces flat (as in MiDaS, Ranftl et al., TPAMI 2022, eq. 11)."""
    wrong = (depth.clamp(min=0.05).log() - truth.clamp(min=0.05).log()) * valid
    total = torch.zeros((), device=depth.device)
    for step in (1, 4):
        both = valid[:, :, step:] & valid[:, :, :-step], valid[:, step:] & valid[:, :-step]
        changes = wrong[:, :, step:] - wrong[:, :, :-step], wrong[:, step:] - wrong[:, :-step]
        total = total + sum(_mean(change.abs(), known) for change, known in zip(changes, both, strict=True))
    return total


def _pose(pose: Tensor, truth: Tensor, depth: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Errors of translation, relative to the mean depth of what is seen, and of the quaternion."""
    reach = (depth * valid).sum((1, 2)) / valid.sum((1, 2)).clamp(min=1)
    place = (pose[:, :3] - truth[:, :3, 3]).norm(dim=-1) / reach.clamp(min=NEAR)
    turn = (pose[:, 3:] - quaternions(truth[:, :3, :3])).norm(dim=-1)
    return place.mean(), turn.mean()


def quaternions(rotations: Tensor) -> Tensor:
    """Unit quaternions w x y z (N, 4) of rotations (N, 3, 3), w >= 0.

    Each row of K is the quaternion times one of its own parts, twice; the row of the largest part is the safe one.
    """
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in rotations.unbind(-2))
    rows = [
        torch.stack([1 + a + e + i, h - f, c - g, d - b], -1),
        torch.stack([h - f, 1 + a - e - i, b + d, c + g], -1),
        torch.stack([c - g, b + d, 1 - a + e - i, f + h], -1),
        torch.stack([d - b, c + g, f + h, 1 - a - e + i], -1),
    ]
    stacked = torch.stack(rows, -2)
    largest = torch.diagonal(stacked, dim1=-2, dim2=-1).argmax(-1)
    chosen = stacked[torch.arange(len(stacked), device=stacked.device), largest]
    unit = chosen / chosen.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    return torch.where(unit[:, :1] < 0, -unit, unit)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).sum() / where.sum().clamp(min=1)
