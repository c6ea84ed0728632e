# SPDX-License-Identifier: Apache-2.0
"""Optimal transport and the Gromov-Wasserstein term against brute force and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from perception_models.registration.patch_matching import transport_with_dustbin

torch = pytest.importorskip("torch", reason="torch is for the workshop only")

from perception_models.registration.gromov_wasserstein import (  # noqa: E402
    GromovWasserstein,
    gromov_wasserstein_cost,
)
from perception_models.registration.sinkhorn import mutual_log_marginals, sinkhorn  # noqa: E402


def distances(points: np.ndarray) -> torch.Tensor:
    """Distances (S, S) within points (S, 3)."""
    return torch.from_numpy(np.linalg.norm(points[:, None] - points[None], axis=-1).astype(np.float32))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_cost_is_the_quadruple_sum(rng: np.random.Generator) -> None:
    source, target = distances(rng.normal(size=(6, 3))), distances(rng.normal(size=(5, 3)))
    coupling = torch.from_numpy(rng.uniform(0, 1, (6, 5)).astype(np.float32))
    coupling /= coupling.sum()
    expected = np.zeros((6, 5))
    for i, j, k, m in np.ndindex(6, 5, 6, 5):
        expected[i, j] += (source[i, k] - target[j, m]) ** 2 * coupling[k, m]

    np.testing.assert_allclose(gromov_wasserstein_cost(source, target, coupling), expected, atol=1e-5)


def test_marginals_of_the_coupling_are_the_ones_asked_for(rng: np.random.Generator) -> None:
    scores = torch.from_numpy(rng.normal(size=(7, 9)).astype(np.float32))
    p, q = (torch.from_numpy(rng.dirichlet(np.ones(n)).astype(np.float32)) for n in (7, 9))

    coupling = torch.exp(sinkhorn(scores, p.log(), q.log(), iterations=100))

    np.testing.assert_allclose(coupling.sum(1), p, atol=1e-5)
    np.testing.assert_allclose(coupling.sum(0), q, atol=1e-6)


def test_mass_goes_to_what_is_mutual(rng: np.random.Generator) -> None:
    scores = torch.zeros(4, 3)
    scores[0, 1] = scores[2, 0] = 10.0  # rows 1 and 3 and column 2 have no partner
    log_p, log_q = mutual_log_marginals(scores, torch.ones(4), torch.ones(3))

    assert log_p.exp().sum().item() == pytest.approx(1) and log_q.exp().sum().item() == pytest.approx(1)
    assert set(log_p.topk(2).indices.tolist()) == {0, 2} and log_q.argmin().item() == 2


def test_the_distance_of_true_partners_is_the_least_at_full_overlap(rng: np.random.Generator) -> None:
    points = rng.uniform(0, 5, (20, 3))
    order = rng.permutation(20)
    scores = torch.zeros(20, 20)
    scores[order, np.arange(20)] = torch.from_numpy(rng.uniform(0, 4, 20).astype(np.float32))  # weak hints
    transport = GromovWasserstein(steps=4)
    with torch.inference_mode():
        distance, _ = transport(scores, distances(points), distances(points[order]), torch.ones(20), torch.ones(20))

    assert (distance.argmin(0).numpy() == order).mean() >= 0.9


def test_rigid_motion_of_either_cloud_changes_nothing(rng: np.random.Generator) -> None:
    points, others = rng.uniform(0, 5, (12, 3)), rng.uniform(0, 5, (10, 3))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    scores = torch.from_numpy(rng.normal(size=(12, 10)).astype(np.float32))
    masks = (torch.ones(12), torch.ones(10))
    with torch.inference_mode():
        still = GromovWasserstein()(scores, distances(points), distances(others), *masks)[0]
        moved = GromovWasserstein()(scores, distances(points @ turn + 3), distances(others @ turn.T - 1), *masks)[0]

    np.testing.assert_allclose(still, moved, atol=1e-4)


def test_padding_gets_no_mass_and_changes_nothing(rng: np.random.Generator) -> None:
    source, target = distances(rng.uniform(0, 5, (8, 3))), distances(rng.uniform(0, 5, (6, 3)))
    scores = torch.from_numpy(rng.normal(size=(8, 6)).astype(np.float32))
    pad = torch.nn.functional.pad
    with torch.inference_mode():
        distance, coupling = GromovWasserstein()(scores, source, target, torch.ones(8), torch.ones(6))
        padded, wide = GromovWasserstein()(
            pad(scores, (0, 4, 0, 3)),
            pad(source, (0, 3, 0, 3)),
            pad(target, (0, 4, 0, 4)),
            pad(torch.ones(8), (0, 3)),
            pad(torch.ones(6), (0, 4)),
        )

    assert wide[8:].abs().max() < 1e-6 and wide[:, 6:].abs().max() < 1e-6
    np.testing.assert_allclose(padded[:8, :6], distance, atol=1e-4)
    np.testing.assert_allclose(wide[:8, :6], coupling, atol=1e-6)


def test_what_has_no_partner_goes_to_the_dustbin() -> None:
    scores = np.full((1, 3, 4), -9, np.float32)
    scores[0, 0, 2] = scores[0, 1, 0] = 9

    confidence = np.exp(transport_with_dustbin(scores, dustbin=0.0, iterations=100))[0]

    assert confidence[0, 2] > 0.95 and confidence[1, 0] > 0.95 and confidence[2].sum() < 0.05
    assert (confidence.sum(1) <= 1 + 1e-4).all() and (confidence.sum(0) <= 1 + 1e-4).all()
