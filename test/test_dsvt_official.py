# SPDX-License-Identifier: Apache-2.0
"""The official detectors: names and shapes of the published checkpoints, a forward pass, ONNX against torch."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch", reason="torch is only there with the workshop extra")

from perception_models.detection.official import (  # noqa: E402
    OfficialDetector,
    _dsvt_maps,
    _flatformer_maps,
    build_from_settings,
    build_official,
)
from perception_models.detection.official_export import SYMBOLIC, export_official  # noqa: E402
from perception_models.detection.official_preprocess import (  # noqa: E402
    OFFICIAL,
    DsvtSettings,
    FlatFormerSettings,
    OfficialSettings,
    Tensors,
    prepare_official,
)
from perception_models.onnx_export import parity, write_onnx  # noqa: E402

torch.set_num_threads(1)
FACTS = Path(__file__).parent / "keys"
LISTINGS = Path(os.environ.get("PERCEPTION_KEYS", Path(__file__).parents[2] / "shared" / "keys"))
PARTS = {
    "dsvt_pillar_waymo": {"dsvt_pillar_waymo": "", "dsvt_center_head_waymo": "dense_head."},
    "dsvt_pillar_nuscenes": {"dsvt_pillar_nuscenes": ""},
    "flatformer_waymo": {
        "flatformer_voxel_encoder": "",
        "flatformer_middle_encoder": "middle_encoder.",
        "flatformer_bev_head": "",
    },
}


def read_shapes(file: Path, prefix: str = "") -> dict[str, str]:
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {prefix + line.split("\t")[0]: line.split("\t")[1] for line in lines}


def random_cloud(count: int, settings: OfficialSettings, seed: int = 0) -> npt.NDArray[np.float32]:
    grid = settings.grid
    low, high = (-grid.extent, -grid.extent, grid.z_low, 0), (grid.extent, grid.extent, grid.z_high, 1)
    return np.random.default_rng(seed).uniform(low, high, (count, 4)).astype(np.float32)


def small(name: str) -> OfficialSettings:
    """The official detector on a 40 x 40 grid with two blocks."""
    settings = OFFICIAL[name]
    grid = replace(settings.grid, extent=20 * settings.grid.cell)
    return replace(settings, grid=grid, blocks=2, doublings=5, max_points=3000, max_pillars=1440)


def small_detector(name: str) -> OfficialDetector:
    torch.manual_seed(0)
    return build_from_settings(small(name)).eval()


def run(detector: OfficialDetector, tensors: dict[str, npt.NDArray[np.generic]]) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        return detector(*(torch.from_numpy(tensors[name]) for name in detector.inputs))  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", OFFICIAL)
def test_names_and_shapes_equal_the_published_checkpoint(name: str) -> None:
    with torch.device("meta"):
        built = {key: str(tuple(value.shape)) for key, value in build_official(name).state_dict().items()}
    assert built == read_shapes(FACTS / f"{name}.txt")


@pytest.mark.parametrize("name", OFFICIAL)
def test_committed_shapes_equal_the_listings(name: str) -> None:
    if not LISTINGS.is_dir():
        pytest.skip(f"no key listings at {LISTINGS}; set PERCEPTION_KEYS")
    listed: dict[str, str] = {}
    for part, prefix in PARTS[name].items():
        listed |= read_shapes(LISTINGS / f"{part}.keys.txt", prefix)
    assert read_shapes(FACTS / f"{name}.txt") == listed


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="dsvt_pillar_waymo, dsvt_pillar_nuscenes, flatformer_waymo"):
        build_official("dsvt_voxel_waymo")


@pytest.mark.parametrize("name", OFFICIAL)
def test_padding_to_capacity_does_not_change_the_result(name: str) -> None:
    detector = small_detector(name)
    cloud = random_cloud(900, detector.settings)
    free = run(detector, prepare_official(cloud, detector.settings).tensors)
    padded_input = prepare_official(cloud, detector.settings, pad_to_capacity=True)
    assert padded_input.overflow == 0
    for a, b in zip(free, run(detector, padded_input.tensors), strict=True):
        assert torch.isfinite(a).all()
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", OFFICIAL)
def test_onnx_equals_torch_for_other_numbers_of_points_too(name: str, tmp_path: Path) -> None:
    detector = small_detector(name)
    example = prepare_official(random_cloud(900, detector.settings), detector.settings).tensors
    other = prepare_official(random_cloud(300, detector.settings, seed=1), detector.settings).tensors
    write_onnx(detector, detector.inputs, detector.outputs, example, SYMBOLIC, tmp_path / "model.onnx")
    assert parity(detector, detector.inputs, example, tmp_path / "model.onnx") < 1e-4
    assert parity(detector, detector.inputs, other, tmp_path / "model.onnx") < 1e-4


def test_an_exported_detector_runs_in_the_engine_and_carries_its_facts(tmp_path: Path) -> None:
    from perception_models.runtime import load_engine, load_facts

    detector = small_detector("dsvt_pillar_waymo")
    folder = export_official(detector, "dsvt_pillar_waymo", tmp_path, random_cloud(900, detector.settings)).parent
    facts = load_facts(folder)
    assert facts.settings["official"] == "dsvt_pillar_waymo"
    example = prepare_official(random_cloud(500, detector.settings), detector.settings).tensors
    engine = load_engine(folder, backend="onnxruntime")
    outputs = engine(**example)
    engine.close()
    for name, expected in zip(detector.outputs, run(detector, example), strict=True):
        np.testing.assert_allclose(outputs[name], expected.numpy(), atol=1e-3)


def test_a_detector_without_a_head_is_not_exported(tmp_path: Path) -> None:
    detector = small_detector("dsvt_pillar_nuscenes")
    with pytest.raises(ValueError, match="head is not supported"):
        export_official(detector, "dsvt_pillar_nuscenes", tmp_path, random_cloud(900, detector.settings))


def occupied(tensors: Tensors) -> npt.NDArray[np.int64]:
    """Cells of the grid that a pillar fills."""
    return np.flatnonzero(tensors["bev_rows"] < len(tensors["pillar_first"]))


def test_points_over_capacity_are_reported_and_the_nearest_kept() -> None:
    settings = replace(small("dsvt_pillar_waymo"), max_pillars=200)
    cloud = random_cloud(900, settings)
    everything = occupied(prepare_official(cloud, small("dsvt_pillar_waymo")).tensors)
    limited = prepare_official(cloud, settings)
    kept = occupied(limited.tensors)
    assert limited.overflow == len(everything) - 200 and len(kept) == 200
    distance = np.hypot(*settings.grid.centres(everything).T)
    assert np.hypot(*settings.grid.centres(kept).T).max() <= np.sort(distance)[200]


def test_set_capacity_is_enough_for_the_worst_cloud() -> None:
    settings = small("dsvt_pillar_waymo")
    assert isinstance(settings, DsvtSettings)
    tensors = prepare_official(random_cloud(20000, settings), replace(settings, max_points=20000)).tensors
    for number, windows in enumerate(settings.windows):
        assert tensors[f"members_{number}"].shape[1] <= settings.max_sets(windows)


def test_point_features_hold_offsets_from_the_mean_and_from_the_centre_of_the_pillar() -> None:
    settings = OFFICIAL["dsvt_pillar_waymo"]
    cloud = np.array([[0.1, 0.1, 0.0, 0.5], [0.2, 0.3, 1.0, 0.5], [-9.0, 3.0, 2.0, 1.0]], np.float32)
    features = prepare_official(cloud, settings).tensors["point_features"]
    first = features[np.argsort(np.abs(features[:, 0] - 0.1))[0]]
    expected = [0.1, 0.1, 0.0, np.tanh(0.5), 0.0, -0.05, -0.1, -0.5, -0.06, -0.06, -1.0]
    np.testing.assert_allclose(first, expected, atol=2e-5)


def test_a_last_partial_group_borrows_from_the_group_before_it() -> None:
    settings = small("flatformer_waymo")
    assert isinstance(settings, FlatFormerSettings)
    tensors = prepare_official(random_cloud(500, settings), settings).tensors
    tokens = len(occupied(tensors))
    start = tokens // settings.group * settings.group
    for sorting in range(4):
        last_group = tensors["orders"][sorting, start : start + settings.group]
        last_tokens = tensors["orders"][sorting, tokens - settings.group : tokens]
        assert sorted(last_group) == sorted(last_tokens)


@pytest.mark.parametrize("points", [np.zeros((0, 4), np.float32), np.full((5, 4), np.nan, np.float32)])
@pytest.mark.parametrize("name", ["dsvt_pillar_waymo", "flatformer_waymo"])
def test_a_cloud_without_a_point_in_the_grid_is_an_empty_scene(name: str, points: npt.NDArray[np.float32]) -> None:
    detector = small_detector(name)
    tensors = prepare_official(points, detector.settings).tensors
    assert len(occupied(tensors)) == 0
    heatmap, box, iou = run(detector, tensors)
    assert torch.isfinite(heatmap).all() and torch.isfinite(box).all() and torch.isfinite(iou).all()


def raw_heads(yaw: float, size: tuple[float, ...]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """One cell's raw output of both heads for the same box, DSVT's and FlatFormer's, each in its own convention."""

    def cell(*values: float) -> torch.Tensor:
        return torch.tensor(values).reshape(1, -1, 1, 1)

    length, width, height = np.log(size)
    angle = -yaw - np.pi / 2
    shared = {"iou": cell(0.5)}
    dsvt = {"center": cell(0.75, 0.5), "center_z": cell(1.0), "dim": cell(length, width, height)}
    dsvt |= {"rot": cell(3 * np.cos(yaw), 3 * np.sin(yaw)), "hm": cell(0.0, 1.0, 2.0)}
    flat = {"reg": cell(0.75, 0.5), "height": cell(1.0), "dim": cell(width, length, height)}
    flat |= {"rot": cell(np.sin(angle), np.cos(angle)), "heatmap": cell(0.0, 1.0, 2.0)}
    return dsvt | shared, flat | shared


@pytest.mark.parametrize("yaw", [-2.5, -0.3, 0.0, 1.2, 3.0])
def test_both_heads_are_translated_to_the_same_box_code(yaw: float) -> None:
    dsvt, flat = raw_heads(yaw, (4.5, 1.9, 1.6))
    code = [0.25, 0.0, 1.0, *np.log((4.5, 1.9, 1.6)), np.sin(2 * yaw), np.cos(2 * yaw), np.sin(yaw), np.cos(yaw)]
    for _, box, _ in (_dsvt_maps(dsvt), _flatformer_maps(flat)):
        np.testing.assert_allclose(box.flatten().numpy(), code, atol=1e-5)
    assert _dsvt_maps(dsvt)[2].item() == 0.75 and _flatformer_maps(flat)[2].item() == 0.5
