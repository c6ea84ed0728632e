# SPDX-License-Identifier: Apache-2.0
"""What the network of a scene is trained by: the right anchor, and a small error across the line of sight."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from perception_models.relocalization.data import Batch
from perception_models.relocalization.network import OFFSET_SCALE, SceneNet

# A pose hardly depends on errors along the line of sight, and depth cameras err along it: as in a loss on reprojection,
# which this is but for the division by the distance, they count less.
ALONG_SIGHT = 0.3
SMOOTHING = 0.02


def scene_loss(network: SceneNet, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """The sum of cross entropy over anchors and of the Laplacian likelihood of the error -> loss and its parts; `error`
    is the mean in metres for the true anchor."""
    known = batch.known
    features, scores = network.head(network.nodes(*batch.inputs)[known])
    places = batch.places[known]
    anchor = torch.cdist(places, network.head.anchors).argmin(-1)
    classes = F.cross_entropy(scores, anchor, label_smoothing=SMOOTHING)
    found, log_scale = network.head.place(features, anchor)
    error = sight_error(found - places, batch.rays[known])
    likelihood = (error / OFFSET_SCALE * torch.exp(-log_scale) + log_scale).mean()
    return classes + likelihood, {"anchors": classes.item(), "error": error.mean().item()}


def sight_error(difference: Tensor, rays: Tensor) -> Tensor:
    """Lengths (...,) of differences (..., 3) whose part along unit vectors `rays` is shortened to ALONG_SIGHT."""
    along = (difference * rays).sum(-1, keepdim=True) * rays
    length: Tensor = (difference - (1 - ALONG_SIGHT) * along).norm(dim=-1)
    return length
