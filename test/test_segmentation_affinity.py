# SPDX-License-Identifier: Apache-2.0
"""The affinity network: the fits of pairs, the network's tensors and start, that both learn, and its ONNX twin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is only there with the workshop extra")

from perception_models.segmentation.affinity import AffinityModel  # noqa: E402
from perception_models.segmentation.affinity_data import Place, elected, prior_loss, vote  # noqa: E402
from perception_models.segmentation.affinity_input import TENSORS, AffinityInput  # noqa: E402
from perception_models.segmentation.affinity_network import AffinityNetwork  # noqa: E402
from perception_models.segmentation.affinity_train import (  # noqa: E402
    Recipe,
    Trainer,
    export,
    fit_places,
    network_loss,
    split,
    train,
)
from perception_models.segmentation.evidence import Evidence  # noqa: E402
from perception_models.segmentation.graph import SuperpointGraph, chance  # noqa: E402
from perception_models.segmentation.pair_channels import SURFACE, VIEWED  # noqa: E402
from perception_models.segmentation.pair_scores import Logistic, PairScores  # noqa: E402

torch.set_num_threads(1)
SCORES = PairScores.shipped()


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
        agreement, weight = (same ^ wrong).astype(np.float32), np.full(len(same), 0.1, np.float32)
        evidence.append(
            Evidence(np.arange(count), rng.random((count, 3)).astype(np.float32), graph.edges, agreement, weight)
        )
    return Place(graph, evidence, things)


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
    prior = SCORES(graph)
    np.testing.assert_allclose(inputs.gathered(np.asarray(inputs.tensors["prior"]), prior), prior, atol=1e-5)


def test_an_untrained_network_says_what_the_graph_says() -> None:
    graph = place(1).graph
    inputs = AffinityInput.of(graph)

    odds = AffinityNetwork().eval()(*tensors(inputs)).detach().numpy()

    np.testing.assert_allclose(inputs.gathered(odds, SCORES(graph)), SCORES(graph), atol=1e-5)


def test_empty_slots_and_added_rows_change_nothing() -> None:
    graph = place(2).graph
    network = AffinityNetwork().eval()
    torch.nn.init.normal_(network.last.weight)
    narrow, wide = AffinityInput.of(graph, 40), AffinityInput.of(graph, 60)
    padded = [torch.cat([one, torch.zeros_like(one[:5])]) for one in tensors(narrow)]

    expected = network(*tensors(narrow))

    np.testing.assert_allclose(network(*padded)[: len(graph)].detach(), expected.detach(), atol=1e-5)
    np.testing.assert_allclose(network(*tensors(wide))[:, :40].detach(), expected.detach(), atol=1e-5)


def test_labels_are_what_the_views_elect_and_unknown_where_they_disagree() -> None:
    votes = np.zeros((3, 6))
    image, instances = np.full((10, 10), -1), np.zeros((40, 40), np.int32)
    image[:5], image[5:] = 0, 1
    instances[:20], instances[20:, :20], instances[20:, 20:] = 5, 2, 3

    vote(votes, image, instances, 4)

    assert votes[:, [2, 3, 5]].tolist() == [[0, 0, 50], [25, 25, 0], [0, 0, 0]]
    assert elected(votes).tolist() == [5, -1, -1]
    one = place(3, 20)
    labels, weights = Place(one.graph, one.evidence, np.where(np.arange(20) == 7, -1, one.things)).labels()
    assert np.array_equal(weights == 0, (one.graph.edges == 7).any(axis=1))
    assert np.array_equal(labels[weights > 0], (np.diff(one.things[one.graph.edges]).ravel() == 0)[weights > 0])


def test_a_fit_finds_the_odds_that_labels_were_drawn_by() -> None:
    rng = np.random.default_rng(0)
    channels = rng.normal(2, 3, (40000, 2)).astype(np.float32)
    labels = (rng.random(40000) < chance(channels @ np.float32([0.5, -1]) + 1)).astype(np.float32)

    found = Logistic.fit(("one", "other"), channels, labels, np.ones(40000, np.float32))

    assert found.coefficients == pytest.approx({"one": 0.5, "other": -1, "bias": 1}, abs=0.06)


def test_fits_use_views_where_there_are_any() -> None:
    one = place(3)
    scores = fit_places([one, place(4)])
    blind, seen = one.graph.emptied(), one.shown(one.evidence)
    labels, _ = one.labels()

    assert np.array_equal(scores(blind), scores.of_surface(blind))
    errors = [np.abs(chance(scores(graph)) - labels).mean() for graph in (blind, seen)]
    assert errors[1] < errors[0]


def test_it_learns_where_the_fits_know_nothing(tmp_path: Path) -> None:
    recipe = Recipe(steps=80, check_every=40)
    places, judging = split([[place(seed)] for seed in range(10)], 2)
    surface, viewed = (Logistic(dict.fromkeys((*names, "bias"), 0.0)) for names in (SURFACE, VIEWED))
    scores = PairScores(surface, viewed)

    checkpoint = train(recipe, tmp_path, places, judging, scores)

    trainer = Trainer(recipe)
    trainer.resume(checkpoint)
    figures = trainer.judge([one.sample(np.random.default_rng(0), scores) for one in judging])
    assert figures["prior_loss"] == pytest.approx(np.log(2), rel=1e-3)
    assert figures["loss"] < 0.5 * figures["prior_loss"]
    assert trainer.step == 80
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2


def test_the_prior_loss_is_that_of_an_untrained_network() -> None:
    sample = place(4).sample(np.random.default_rng(0), SCORES)

    assert float(network_loss(AffinityNetwork().eval(), sample).detach()) == pytest.approx(prior_loss(sample), rel=1e-4)


def test_the_exported_network_says_what_torch_says(tmp_path: Path) -> None:
    trainer, one = Trainer(Recipe(steps=5)), place(5)
    for _ in range(5):
        trainer.train_step(one.sample(np.random.default_rng(0), SCORES))
    trainer.save(tmp_path / "checkpoint.pt")
    export(tmp_path / "checkpoint.pt", tmp_path / "weights", one.sample(np.random.default_rng(0), SCORES))
    model = AffinityModel.load(tmp_path / "weights", "onnxruntime", threads=1)
    graph = place(6, count=55).graph
    inputs = AffinityInput.of(graph)

    odds = trainer.network.eval()(*tensors(inputs)).detach().numpy()

    expected = chance(inputs.gathered(odds, SCORES(graph)))
    np.testing.assert_allclose(model.affinity(graph), expected, atol=1e-4)
    assert model.affinity(place(7, count=1).graph).shape == (0,)


def test_rooms_that_all_judge_leave_none_to_train_on() -> None:
    with pytest.raises(ValueError, match="leave none"):
        split([[place(0)]], 1)
