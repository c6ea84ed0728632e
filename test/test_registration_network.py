# SPDX-License-Identifier: Apache-2.0
"""The registration network: what it starts from, what must not change it, and what its export computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from perception_models.geometry import se3
from perception_models.registration import network_input
from perception_models.registration.learned import LearnedDescriptors
from perception_models.registration.local_to_global import local_to_global
from perception_models.registration.network_input import (
    Nodes,
    choose_nodes,
    cloud_tensors,
    node_tensors,
    pad_pair,
    pair_tensors,
)
from perception_models.registration.patch_matching import PatchMatches, match_patches, match_super_points, patches
from perception_models.registration.preprocess import Cloud
from perception_models.registration.settings import INDOOR

torch = pytest.importorskip("torch", reason="torch is for the workshop only")

from perception_models.registration.export import example_cloud, export  # noqa: E402
from perception_models.registration.network import (  # noqa: E402
    CROSS,
    INPUTS,
    OUTPUTS,
    DeployedNetwork,
    NetworkSettings,
    RegistrationNetwork,
)

SMALL = {"channels": 32, "super_channels": 32, "learned": 16, "heads": 2, "blocks": 1, "relative": 8}
Tensors = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def clouds() -> tuple[Cloud, Cloud]:
    return example_cloud(0), example_cloud(1)


def run(network: RegistrationNetwork, tensors: Tensors) -> Tensors:
    """Outputs by name, of both clouds' input tensors."""
    sides = [
        {name.removeprefix(f"{side}_"): torch.from_numpy(value) for name, value in tensors.items() if side in name}
        for side in ("source", "target")
    ]
    with torch.inference_mode():
        return dict(zip(OUTPUTS, (output.numpy() for output in network(*sides)), strict=True))


def trained(cross: str = "gw") -> RegistrationNetwork:
    """A small network whose learned columns count, as after training."""
    torch.manual_seed(0)
    network = RegistrationNetwork(NetworkSettings(cross=cross, **SMALL))
    torch.nn.init.normal_(network.gain)
    torch.nn.init.normal_(network.decoder.matchability.weight)
    return network.eval()


def moved(cloud: Cloud, transform: np.ndarray) -> Cloud:
    normals = (cloud.normals @ transform[:3, :3].T).astype(np.float32)
    return Cloud(se3.apply(transform, cloud.points).astype(np.float32), normals, cloud.features, cloud.settings)


@pytest.mark.parametrize("cross", CROSS)
def test_an_untrained_network_gives_the_classical_scores(cross: str, clouds: tuple[Cloud, Cloud]) -> None:
    outputs = run(RegistrationNetwork(NetworkSettings(cross=cross, **SMALL)), pair_tensors(*clouds))

    scores = outputs["source_descriptors"] @ outputs["target_descriptors"].T
    np.testing.assert_allclose(scores, 167 * clouds[0].features @ clouds[1].features.T, atol=1e-3)
    assert not outputs["source_matchability"].any() and not outputs["target_matchability"].any()


def test_rigid_motion_of_a_cloud_changes_nothing(clouds: tuple[Cloud, Cloud]) -> None:
    source, target = clouds
    transform = se3.from_yaw_pitch_roll(2.0, 0.7, -1.1, (3.0, -2.0, 1.0))
    chosen = choose_nodes(source.points, source.settings.voxel)
    other = {f"target_{name}": value for name, value in cloud_tensors(target).items()}
    sides = [
        {f"source_{name}": value for name, value in node_tensors(cloud, chosen).items()} | other
        for cloud in (source, moved(source, transform))
    ]

    for name, still in run(trained(), sides[0]).items():
        np.testing.assert_allclose(run(trained(), sides[1])[name], still, atol=5e-3, err_msg=name)


@pytest.mark.parametrize("cross", CROSS)
def test_padding_changes_nothing(cross: str, clouds: tuple[Cloud, Cloud], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, capacity in (("MAX_POINTS", 4000), ("MAX_NODES", 1500), ("MAX_SUPER", 90)):
        monkeypatch.setattr(network_input, name, capacity)
    network, tensors = trained(cross), pair_tensors(*clouds)
    padded = run(network, pad_pair(tensors))

    for name, output in run(network, tensors).items():
        assert len(padded[name]) > len(output)
        np.testing.assert_allclose(padded[name][: len(output)], output, atol=1e-3, err_msg=name)


@pytest.mark.parametrize("cross", ["plain", "gw"])
def test_a_cloud_is_described_by_what_the_other_one_holds(cross: str, clouds: tuple[Cloud, Cloud]) -> None:
    network = trained(cross)
    alone = run(network, pair_tensors(clouds[0], clouds[0]))["target_matchability"]
    beside = run(network, pair_tensors(clouds[1], clouds[0]))["target_matchability"]

    assert np.abs(alone - beside).max() > 1e-3


def test_decoding_some_points_gives_what_decoding_all_gives(clouds: tuple[Cloud, Cloud]) -> None:
    network = trained()
    source, target = ({n: torch.from_numpy(v) for n, v in cloud_tensors(cloud).items()} for cloud in clouds)
    rows = torch.tensor([5, 0, 77])
    with torch.inference_mode():
        some = network(source, target, (rows, rows))
        every = network(source, target)

    for part, whole in zip(some[:2] + some[3:5], every[:2] + every[3:5], strict=True):
        np.testing.assert_allclose(part, whole[rows], atol=1e-5)


def test_the_exported_network_computes_what_torch_computes(clouds: tuple[Cloud, Cloud], tmp_path: Path) -> None:
    network = trained()
    export(network, tmp_path)
    learned = LearnedDescriptors.load(tmp_path, backend="onnxruntime")
    described = learned.describe(clouds[1], clouds[0])
    learned.close()
    expected = run(network, pair_tensors(clouds[1], clouds[0]))

    np.testing.assert_allclose(described.source, expected["source_descriptors"], atol=1e-3)
    np.testing.assert_allclose(described.target, expected["target_descriptors"], atol=1e-3)
    matchable = 1 / (1 + np.exp(-expected["source_matchability"]))
    np.testing.assert_allclose(np.exp(described.source_matchability), matchable, atol=1e-4)


def test_clouds_that_the_network_was_not_made_for_are_refused(clouds: tuple[Cloud, Cloud], tmp_path: Path) -> None:
    export(trained("none"), tmp_path)
    learned = LearnedDescriptors.load(tmp_path, backend="onnxruntime")
    few = Cloud(*(values[:5] for values in (clouds[0].points, clouds[0].normals, clouds[0].features)), INDOOR)
    with pytest.raises(ValueError, match="a cloud of 5 points; the network takes 8 to"):
        learned.describe(few, clouds[1])
    with pytest.raises(ValueError, match="expected one of none, plain, gw"):
        RegistrationNetwork(NetworkSettings(cross="wild"))


def test_nodes_thin_the_points_and_stay_within_the_capacity(
    clouds: tuple[Cloud, Cloud], monkeypatch: pytest.MonkeyPatch
) -> None:
    points = clouds[0].points
    free = choose_nodes(points, INDOOR.voxel)
    monkeypatch.setattr(network_input, "MAX_SUPER", 20)
    tight = choose_nodes(points, INDOOR.voxel)

    assert len(points) > len(free.nodes) > len(free.super_points) > 20 >= len(tight.super_points)
    assert len(np.unique(free.nodes)) == len(free.nodes)


def test_neighbours_are_the_nearest_and_repeat_where_there_are_too_few(clouds: tuple[Cloud, Cloud]) -> None:
    cloud = clouds[0]
    chosen = choose_nodes(cloud.points, cloud.settings.voxel)
    tensors = node_tensors(cloud, chosen)
    node = cloud.points[chosen.nodes[7]]
    nearest = np.argsort(np.linalg.norm(cloud.points - node, axis=1))[: network_input.GATHERED]
    assert set(tensors["gather_neighbours"][7].tolist()) == set(nearest.tolist())

    lonely = node_tensors(cloud, Nodes(chosen.nodes[:3], np.array([1, 2])))
    assert lonely["around_neighbours"].shape[1] == network_input.AROUND
    assert set(np.unique(lonely["spread_neighbours"])) <= {0, 1}


def test_deployed_network_takes_tensors_in_the_order_of_the_inputs(clouds: tuple[Cloud, Cloud]) -> None:
    network, tensors = trained(), pair_tensors(*clouds)
    with torch.inference_mode():
        outputs = DeployedNetwork(network)(*(torch.from_numpy(tensors[name]) for name in INPUTS))
    np.testing.assert_allclose(outputs[0], run(network, tensors)["source_descriptors"], atol=1e-5)


def scattered_matches(
    rng: np.random.Generator, outliers: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, PatchMatches]:
    """200 points, the same ones moved, the motion, and matches in patches of ten with that many wrong ones each."""
    source = rng.uniform(-2, 2, (200, 3))
    transform = se3.from_yaw_pitch_roll(1.2, -0.5, 2.0, (0.5, 1.0, -2.0))
    target = se3.apply(transform, source)
    partner, patch = np.arange(200), np.repeat(np.arange(20), 10)
    wrong = np.concatenate([np.arange(start, start + outliers) for start in range(0, 160, 10)])
    partner[wrong] = rng.integers(0, 200, len(wrong))
    return source, target, transform, PatchMatches(np.arange(200), partner, np.full(200, 0.5, np.float32), patch)


def test_local_to_global_finds_the_motion_among_outliers() -> None:
    source, target, transform, matches = scattered_matches(np.random.default_rng(0), outliers=8)

    found = local_to_global(source, target, matches, radius=0.1)

    assert found is not None and found[1] >= 70
    np.testing.assert_allclose(found[0], transform, atol=1e-6)


def test_local_to_global_finds_nothing_in_nothing() -> None:
    none = np.zeros(0, np.int64)
    assert local_to_global(np.zeros((5, 3)), np.zeros((5, 3)), PatchMatches(none, none, none, none), 0.1) is None


def test_patches_hold_the_points_of_their_super_point() -> None:
    points = np.random.default_rng(0).uniform(0, 1, (300, 3)).astype(np.float32)
    rows = patches(points, points[:7])
    owner = np.linalg.norm(points[:, None] - points[None, :7], axis=-1).argmin(1)

    for patch, members in enumerate(rows):
        held = members[members >= 0]
        assert held[0] == patch and (owner[held] == patch).all()
        assert len(held) == min((owner == patch).sum(), rows.shape[1])


def test_matched_patches_match_the_points_that_look_alike() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 16)).astype(np.float32)
    order = rng.permutation(60)
    supers = features[:6] / np.linalg.norm(features[:6], axis=1, keepdims=True)
    first, second = match_super_points(supers, supers[::-1], count=6)
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == [(k, 5 - k) for k in range(6)]

    members = np.full((1, 64), -1)
    members[0, :60] = np.arange(60)
    matches = match_patches(features, features[order], members, members, dustbin=6.0)
    assert len(matches.source) >= 50
    assert (order[matches.target] == matches.source).mean() > 0.95
