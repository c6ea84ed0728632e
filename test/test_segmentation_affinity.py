# SPDX-License-Identifier: Apache-2.0
"""The affinity network: its tensors, what it starts from, that it learns from views alone, and its ONNX twin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is only there with the workshop extra")

from perception_models.segmentation.affinity import AffinityModel  # noqa: E402
from perception_models.segmentation.affinity_data import Place, prior_loss  # noqa: E402
from perception_models.segmentation.affinity_input import TENSORS, AffinityInput, log_odds  # noqa: E402
from perception_models.segmentation.affinity_network import AffinityNetwork  # noqa: E402
from perception_models.segmentation.affinity_train import Recipe, Trainer, export, network_loss, train  # noqa: E402
from perception_models.segmentation.evidence import Evidence  # noqa: E402
from perception_models.segmentation.graph import SuperpointGraph  # noqa: E402

torch.set_num_threads(1)


def place(seed: int, count: int = 40, views: int = 6) -> Place:
    """Super-points of two points each in a plane, whose things are stripes of one colour; views that err often."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, 1, (count, 1, 3)) * [1, 1, 0]
    points = (centres + [[0, 0, 0], [0.01, 0, 0]]).reshape(-1, 3).astype(np.float32)
    things = (centres[:, 0, 0] * 4).astype(int)
    colors = rng.integers(0, 255, (4, 3))[things].repeat(2, axis=0).astype(np.uint8)
    up = np.tile(np.float32([0, 0, 1]), (len(points), 1))
    graph = SuperpointGraph(points, up, colors, np.repeat(np.arange(count), 2))
    same = things[graph.edges[:, 0]] == things[graph.edges[:, 1]]
    evidence = []
    for _ in range(views):
        wrong = rng.random(len(same)) < 0.15
        overlap, weight = (same ^ wrong).astype(np.float32), np.full(len(same), 0.1, np.float32)
        evidence.append(
            Evidence(np.arange(count), rng.random((count, 3)).astype(np.float32), graph.edges, overlap, weight)
        )
    return Place(points, graph, evidence)


def tensors(inputs: AffinityInput) -> list[torch.Tensor]:
    return [torch.from_numpy(np.asarray(inputs.tensors[name])) for name in TENSORS]


def test_every_edge_is_heard_from_both_ends_while_slots_suffice() -> None:
    graph = place(0, 12).graph
    inputs = AffinityInput.of(graph, 12)

    assert (inputs.slots >= 0).all()
    assert inputs.tensors["mask"].sum() == 2 * len(graph.edges)
    row, column = np.divmod(inputs.slots, 12)
    assert np.array_equal(row, graph.edges.T.ravel())
    assert np.array_equal(inputs.tensors["neighbours"][row, column], graph.edges[:, ::-1].T.ravel())


def test_with_few_slots_the_nearest_are_heard_and_the_rest_keep_their_prior() -> None:
    graph = place(0).graph
    inputs = AffinityInput.of(graph, 3)

    for node in range(len(graph)):
        near = np.sort(graph.distance[(graph.edges == node).any(axis=1)])[:3]
        used = np.flatnonzero(np.asarray(inputs.tensors["mask"])[node])
        slots = node * 3 + used
        found = np.sort(np.tile(graph.distance, 2)[np.isin(inputs.slots, slots)])
        np.testing.assert_allclose(found, near)
    prior = log_odds(graph.affinity)
    np.testing.assert_allclose(inputs.gathered(np.asarray(inputs.tensors["prior"]), prior), prior, atol=1e-6)


def test_an_untrained_network_says_what_the_graph_says() -> None:
    graph = place(1).graph
    inputs = AffinityInput.of(graph)

    odds = AffinityNetwork().eval()(*tensors(inputs)).detach().numpy()

    np.testing.assert_allclose(inputs.gathered(odds, log_odds(graph.affinity)), log_odds(graph.affinity), atol=1e-6)


def test_empty_slots_and_added_rows_change_nothing() -> None:
    graph = place(2).graph
    network = AffinityNetwork().eval()
    torch.nn.init.normal_(network.last.weight)
    narrow, wide = AffinityInput.of(graph, 40), AffinityInput.of(graph, 60)
    padded = [torch.cat([one, torch.zeros_like(one[:5])]) for one in tensors(narrow)]

    expected = network(*tensors(narrow))

    np.testing.assert_allclose(network(*padded)[: len(graph)].detach(), expected.detach(), atol=1e-5)
    np.testing.assert_allclose(network(*tensors(wide))[:, :40].detach(), expected.detach(), atol=1e-5)


def test_pseudo_labels_come_from_views_and_only_where_enough_agree() -> None:
    one = place(3)
    labels, weights = one.pseudo_labels()
    mean = np.mean([evidence.overlap for evidence in one.evidence], axis=0)

    assert np.array_equal(labels, mean > 0.5)
    assert np.array_equal(weights > 0, np.abs(mean - 0.5) > 0.25)
    assert not Place(one.points, one.graph, one.evidence[:2]).pseudo_labels()[1].any(), "two views are too few"


def test_it_learns_to_say_from_few_views_what_all_views_say(tmp_path: Path) -> None:
    recipe = Recipe(steps=80, held_out=2, check_every=40)
    places = [place(seed) for seed in range(10)]

    checkpoint = train(recipe, tmp_path, places)

    trainer = Trainer(recipe)
    trainer.resume(checkpoint)
    figures = trainer.judge([one.sample(np.random.default_rng(0)) for one in places[-2:]])
    assert figures["loss"] < 0.9 * figures["prior_loss"]
    assert trainer.step == 80
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2


def test_the_prior_loss_is_that_of_an_untrained_network() -> None:
    sample = place(4).sample(np.random.default_rng(0))

    assert float(network_loss(AffinityNetwork().eval(), sample).detach()) == pytest.approx(prior_loss(sample), rel=1e-4)


def test_the_exported_network_says_what_torch_says(tmp_path: Path) -> None:
    trainer, one = Trainer(Recipe(steps=5)), place(5)
    for _ in range(5):
        trainer.train_step(one.sample(np.random.default_rng(0)))
    trainer.save(tmp_path / "checkpoint.pt")
    export(tmp_path / "checkpoint.pt", tmp_path / "weights", one.sample(np.random.default_rng(0)))
    model = AffinityModel.load(tmp_path / "weights", "onnxruntime", threads=1)
    graph = place(6, count=55).graph
    inputs = AffinityInput.of(graph)

    odds = trainer.network.eval()(*tensors(inputs)).detach().numpy()

    expected = 1 / (1 + np.exp(-inputs.gathered(odds, log_odds(graph.affinity))))
    np.testing.assert_allclose(model.affinity(graph), expected, atol=1e-4)
    assert model.affinity(place(7, count=1).graph).shape == (0,)


def test_rooms_that_all_judge_leave_none_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leave none"):
        train(Recipe(held_out=1), tmp_path, [place(0)])
