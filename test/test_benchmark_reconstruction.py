# SPDX-License-Identifier: Apache-2.0
"""The benchmark of reconstruction on a network that knows the truth, and on one that does not."""

from __future__ import annotations

import json
from argparse import Namespace
from itertools import pairwise

import numpy as np
import pytest
from reconstruction_support import CAMERA, OWN, RADIUS, TrueNetwork, walk

from perception_nodes import cli
from perception_nodes.commands import benchmark_reconstruction as benchmark
from perception_nodes.judges import reconstruction_methods as methods
from perception_nodes.judges.reconstruction_endurance import endure, there_and_back
from perception_nodes.judges.reconstruction_figures import figures
from perception_nodes.judges.reconstruction_scenes import Scene, Truth

BY_FEATURES = {name for name, way in methods.WAYS.items() if way.poses == "features"}


def contest(units=(1.0,), prior: float | None = None, detail: float = 4.0) -> tuple[methods.Contest, Scene]:
    network = TrueNetwork(units)
    scene = Scene("ball", list(network.frames(walk(16), detail=detail)))
    shape = CAMERA.height, CAMERA.width
    return methods.Contest(network, None if prior is None else np.full(shape, prior, np.float32), 5), scene


def test_a_network_that_knows_the_truth_makes_no_error_by_any_method() -> None:
    judged, scene = contest()
    measured = benchmark.measure(scene, judged)

    assert set(measured) == {methods.CONSTANT, *methods.WAYS}
    for name in set(methods.WAYS) - BY_FEATURES:
        assert measured[name]["abs_rel_metric"] < 1e-4 and measured[name]["delta"] == 1
        assert measured[name]["invalid"] == 0
    for name in set(methods.WAYS) - BY_FEATURES - {"single images"}:
        row = measured[name]
        assert row["ate_percent"] < 0.1 and row["ate_metric_percent"] < 0.1 and row["worlds"] == 1
        assert row["rpe_cm"] < 0.01 and row["rpe_deg"] < 0.01
        assert row["accuracy_m"] < 0.002 and row["completeness_m"] < 0.002 and row["normal_consistency"] > 0.99
    assert measured["single images"]["worlds"] == 16 and "ate_percent" not in measured["single images"]


def test_features_find_the_way_on_single_images_and_with_a_state() -> None:
    judged, scene = contest(detail=22.0)
    measured = benchmark.measure(scene, judged, sorted(BY_FEATURES))

    assert len(measured) == 2
    for row in measured.values():
        assert row["ate_metric_percent"] < 2 and row["abs_rel_metric"] < 0.02
        assert row["invalid"] == 0 and row["worlds"] == 1


def test_the_unit_of_the_network_is_told_by_the_metric_figures_alone() -> None:
    judged, scene = contest(units=(0.5,))
    row = benchmark.measure(scene, judged, ["state"])["state"]

    assert row["abs_rel"] < 1e-4 and row["scale"] == pytest.approx(0.5, rel=1e-3)
    assert row["abs_rel_metric"] == pytest.approx(1, rel=1e-3)
    assert row["ate_percent"] < 0.1 < row["ate_metric_percent"]


def test_what_does_not_look_has_the_figures_of_its_depth() -> None:
    judged, scene = contest(prior=2.0)
    measured = benchmark.measure(scene, judged, [methods.CONSTANT, methods.MEAN_MAP])
    truth = np.concatenate([frame.depth.ravel() for frame in scene.frames])

    places = np.array([frame.pose[:3, 3] for frame in scene.frames])
    spread = np.sqrt(((places - places.mean(0)) ** 2).sum(1).mean())
    length = np.linalg.norm(np.diff(places, axis=0), axis=1).sum()
    assert measured[methods.CONSTANT]["ate_percent"] == pytest.approx(100 * spread / length)
    assert "abs_rel_metric" not in measured[methods.CONSTANT] and "p50_ms" not in measured[methods.CONSTANT]
    assert measured[methods.MEAN_MAP]["abs_rel"] == pytest.approx(measured[methods.CONSTANT]["abs_rel"])
    assert measured[methods.MEAN_MAP]["abs_rel_metric"] == pytest.approx(np.mean(np.abs(2 - truth) / truth), rel=1e-4)


def test_a_method_that_cannot_be_run_is_named_with_those_that_can() -> None:
    judged, scene = contest()
    with pytest.raises(ValueError, match=r"'mean depth map' cannot be run; there is best constant, single"):
        judged.run(methods.MEAN_MAP, scene.frames)


def test_results_that_are_denied_are_counted_and_leave_the_rest() -> None:
    judged, scene = contest()
    dark = scene.frames[4]
    dark.rgb[:] = 0
    found = judged.run("state", scene.frames)
    row = figures(found, [Truth.of(frame, CAMERA) for frame in scene.frames])

    assert row["invalid"] == 1 and row["abs_rel"] < 1e-4 and row["ate_percent"] < 0.1


def test_the_truth_lies_on_the_ball_in_the_world() -> None:
    _, scene = contest()
    truth = Truth.of(scene.frames[7], CAMERA)
    np.testing.assert_allclose(np.linalg.norm(truth.points, axis=-1), RADIUS, atol=1e-4)
    assert truth.known.all()


def test_there_and_back_never_shows_an_image_twice_in_a_row() -> None:
    places = list(there_and_back(4, 14))
    assert places == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]
    assert all(one != other for one, other in pairwise(there_and_back(2, 9)))
    with pytest.raises(ValueError, match="there and back"):
        list(there_and_back(1, 3))


def test_a_long_run_counts_its_images_and_keeps_its_memory() -> None:
    judged, scene = contest()
    row = endure(judged.network, scene.frames, 400, OWN)
    assert row["images"] == 400 and row["invalid"] == 0 and row["worlds"] == 1 and row["voxels"] > 100
    assert abs(row["growth_percent"]) < 5


def test_the_command_writes_figures_for_every_room_and_their_mean(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(methods.Contest, "load", lambda *_: contest()[0])
    judged, scene = contest()
    monkeypatch.setattr(methods.Contest, "load", lambda *_: judged)
    monkeypatch.setattr(
        benchmark, "_scenes", lambda arguments: (Scene(f"room {seed}", scene.frames) for seed in arguments.rooms)
    )
    words = ["benchmark", "reconstruction", "--rooms", "1", "2", "--methods", "state", "--out", str(tmp_path)]
    assert cli.main(words) == 0
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["room 1: state"]["delta"] == 1 and written["room 2: state"]["invalid"] == 0
    assert "mean of 2 rooms" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(("text", "chosen"), [("0:60", slice(0, 60)), (":177:3", slice(None, 177, 3)), ("5", slice(5))])
def test_frames_are_chosen_as_a_slice(text: str, chosen: slice) -> None:
    assert benchmark._slice(text) == chosen


def test_a_long_run_needs_a_source() -> None:
    with pytest.raises(ValueError, match="needs a SRC"):
        benchmark._long_run(Namespace(sources=[], rooms=[], long=5, frames=slice(None)), contest()[0])
