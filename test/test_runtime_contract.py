# SPDX-License-Identifier: Apache-2.0
"""The contract of every engine: each model in the package and a tiny one, on each backend that is present."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from test_runtime_facts import change_yaml, tiny_inputs, write_tiny_model

from perception_models.runtime import BadWeights, Engine, TensorSpec, UnsupportedBackend, load_engine
from perception_models.runtime.build import model_name, weight_folders
from perception_models.runtime.cuda import CudaDevice
from perception_models.runtime.precision import parse_samples, read_samples
from perception_models.runtime.tensorrt_builder import import_tensorrt


def backends() -> list[str]:
    """ONNX Runtime, and TensorRT where a GPU and the library are there."""
    try:
        CudaDevice().close()
        import_tensorrt()
    except UnsupportedBackend:
        return ["onnxruntime"]
    return ["onnxruntime", "tensorrt"]


MODELS = {"tiny": None} | {model_name(folder).replace("/", "-"): folder for folder in weight_folders()}


@pytest.fixture(scope="module", params=[(model, backend) for model in MODELS for backend in backends()], ids="-".join)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    model, backend = request.param
    folder = MODELS[model] or write_tiny_model(tmp_path_factory.mktemp("weights")).folder
    with load_engine(folder, backend, threads=2, cache_dir=tmp_path_factory.mktemp("engines")) as loaded:
        yield loaded


@pytest.fixture
def inputs(engine: Engine) -> dict[str, np.ndarray]:
    """Recorded inputs where the model has them; else neutral ones: noise, and zero for every index and mask."""
    recorded = parse_samples(read_samples(engine.facts.folder))
    return recorded[0] if recorded else {name: neutral(spec, engine) for name, spec in engine.facts.inputs.items()}


def neutral(spec: TensorSpec, engine: Engine) -> np.ndarray:
    shape = spec.shape_at(engine.facts.capacity)
    if spec.dtype.kind == "f":
        return np.random.default_rng(0).normal(size=shape).astype(spec.dtype)
    return np.zeros(shape, spec.dtype)


def test_outputs_have_the_names_shapes_and_types_of_the_facts(engine: Engine, inputs: dict[str, np.ndarray]) -> None:
    outputs = engine(**inputs)
    assert list(outputs) == list(engine.facts.outputs)
    for name, spec in engine.facts.outputs.items():
        assert outputs[name].dtype == spec.dtype
        axes = zip(outputs[name].shape, spec.shape, strict=True)
        assert all(length == axis for length, axis in axes if isinstance(axis, int))


def test_outputs_are_finite_and_repeatable(engine: Engine, inputs: dict[str, np.ndarray]) -> None:
    first, second = engine(**inputs), engine(**inputs)
    for name, array in first.items():
        assert np.isfinite(array).all()
        np.testing.assert_array_equal(array, second[name])


def test_outputs_stay_as_they_are_and_inputs_are_left_alone(engine: Engine, inputs: dict[str, np.ndarray]) -> None:
    given = {name: array.copy() for name, array in inputs.items()}
    for array in given.values():
        array.flags.writeable = False
    first = engine(**given)
    kept = {name: array.copy() for name, array in first.items()}
    engine(
        **{
            name: (array * 0.5).astype(array.dtype) if array.dtype.kind == "f" else array
            for name, array in inputs.items()
        }
    )
    for name, array in kept.items():
        np.testing.assert_array_equal(first[name], array)
        assert first[name].flags.writeable
    for name, array in given.items():
        np.testing.assert_array_equal(array, inputs[name])


def test_strided_inputs_give_the_same_outputs(engine: Engine, inputs: dict[str, np.ndarray]) -> None:
    strided = {name: np.repeat(array, 2, axis=0)[::2] for name, array in inputs.items()}
    expected, outputs = engine(**inputs), engine(**strided)
    for name, array in expected.items():
        np.testing.assert_array_equal(outputs[name], array)


def test_threads_may_share_an_engine(engine: Engine, inputs: dict[str, np.ndarray]) -> None:
    expected = engine(**inputs)
    results: list[dict[str, np.ndarray]] = []
    workers = [Thread(target=lambda: results.append(engine(**inputs))) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 3
    for result in results:
        for name, array in expected.items():
            np.testing.assert_array_equal(result[name], array)


def test_missing_and_unknown_inputs_are_refused(engine: Engine, inputs: dict[str, np.ndarray]) -> None:
    name = next(iter(inputs))
    with pytest.raises(ValueError, match=f"expected are .*{name}"):
        engine(**{other: array for other, array in inputs.items() if other != name})
    with pytest.raises(ValueError, match="unheard_of"):
        engine(**inputs, unheard_of=np.zeros(1))


def test_each_wrong_input_is_named_with_what_came_and_what_is_expected(
    engine: Engine, inputs: dict[str, np.ndarray]
) -> None:
    for name, array in inputs.items():
        wrong_dtype = np.float64 if array.dtype != np.float64 else np.float32
        with pytest.raises(ValueError, match=f"'{name}' has dtype {np.dtype(wrong_dtype)}; expected {array.dtype}"):
            engine(**{**inputs, name: array.astype(wrong_dtype)})
        with pytest.raises(ValueError, match=f"'{name}' has shape .*; expected {name}"):
            engine(**{**inputs, name: array[None]})
        with pytest.raises(ValueError, match=f"'{name}' is a list"):
            engine(**{**inputs, name: array.tolist()})


def test_more_than_the_capacity_is_refused(engine: Engine, inputs: dict[str, np.ndarray]) -> None:
    if not engine.facts.capacity:
        pytest.skip(f"{engine.facts.name} has no symbolic axes")
    axis, limit = next(iter(engine.facts.capacity.items()))
    long = {name: lengthen(array, engine.facts.inputs[name], axis, limit + 1) for name, array in inputs.items()}
    with pytest.raises(ValueError, match="capacity" if not engine.pads_to_capacity else f"{axis} = {limit}"):
        engine(**long)


def lengthen(array: np.ndarray, spec: TensorSpec, axis: str, length: int) -> np.ndarray:
    axes = zip(spec.shape, array.shape, strict=True)
    return np.resize(array, [length if name == axis else given for name, given in axes])


def test_info_says_what_runs(engine: Engine) -> None:
    assert engine.info.backend in ("onnxruntime", "tensorrt") and engine.info.precision in ("fp32", "fp16")
    assert engine.info.cache == ("none" if engine.info.backend == "onnxruntime" else "built")
    assert engine.info.build_seconds > 0 and engine.info.provider


def test_a_closed_engine_refuses_and_closes_twice(tmp_path: Path) -> None:
    engine = load_engine(write_tiny_model(tmp_path).folder, "onnxruntime")
    engine.close()
    engine.close()
    with pytest.raises(RuntimeError, match=f"tiny/{tmp_path.name} is closed"):
        engine(**tiny_inputs())


def test_onnxruntime_takes_any_length_up_to_the_capacity(tmp_path: Path) -> None:
    with load_engine(write_tiny_model(tmp_path).folder, "onnxruntime") as engine:
        assert not engine.pads_to_capacity
        for pillars in (1, 7, 32):
            assert engine(**tiny_inputs(pillars))["scores"].shape == (pillars, 4)


def test_inputs_that_disagree_about_a_symbolic_axis_are_refused(tmp_path: Path) -> None:
    with load_engine(write_tiny_model(tmp_path).folder, "onnxruntime") as engine:
        mixed = tiny_inputs(8) | {"mask": tiny_inputs(9)["mask"]}
        with pytest.raises(ValueError, match="'mask' has shape .*pillars = 8"):
            engine(**mixed)


def test_the_tiny_model_computes_what_numpy_computes(tmp_path: Path) -> None:
    facts = write_tiny_model(tmp_path, seed=3)
    rng, inputs = np.random.default_rng(3), tiny_inputs(20)
    features = np.maximum(inputs["points"] @ rng.normal(size=(8, 4)) + rng.normal(size=4), 0)
    normed = (features - features.mean(1, keepdims=True)) / np.sqrt(features.var(1, keepdims=True) + 1e-5)
    weights = np.exp(normed) / np.exp(normed).sum(1, keepdims=True)
    with load_engine(facts.folder, "onnxruntime") as engine:
        np.testing.assert_allclose(engine(**inputs)["scores"], weights[inputs["index"]] * inputs["mask"], atol=1e-5)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({"boxes": {"shape": ["pillars", 4], "dtype": "float32"}}, r"names \['boxes'\], model.onnx has \['scores'\]"),
        ({"scores": {"shape": ["pillars", 5], "dtype": "float32"}}, r"says scores \(pillars, 5\) float32"),
        ({"scores": {"shape": ["pillars", 4], "dtype": "float16"}}, r"says scores \(pillars, 4\) float16"),
        ({"scores": {"shape": [4], "dtype": "float32"}}, r"says scores \(4\) float32"),
    ],
)
def test_facts_that_contradict_the_graph_are_refused(
    tmp_path: Path, outputs: dict[str, dict[str, object]], message: str
) -> None:
    facts = write_tiny_model(tmp_path)
    change_yaml(facts.folder, outputs=outputs)
    with pytest.raises(BadWeights, match=message):
        load_engine(facts.folder, "onnxruntime")


def test_a_graph_that_onnxruntime_refuses_is_bad_weights(tmp_path: Path) -> None:
    facts = write_tiny_model(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"no model")
    change_yaml(tmp_path, sha256=hashlib.sha256(b"no model").hexdigest())
    with pytest.raises(BadWeights, match=f"ONNX Runtime cannot load {facts.name}"):
        load_engine(tmp_path, "onnxruntime")


def test_unknown_choices_are_explained(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path).folder
    with pytest.raises(UnsupportedBackend, match="known are auto, onnxruntime, tensorrt"):
        load_engine(folder, "tensorflow")
    with pytest.raises(UnsupportedBackend, match="known are fp32, fp16"):
        load_engine(folder, precision="int8")
    with pytest.raises(ValueError, match="threads must be at least 1"):
        load_engine(folder, "onnxruntime", threads=0)


@pytest.mark.skipif("tensorrt" in backends(), reason="a GPU is here")
def test_without_a_gpu_auto_runs_on_the_cpu_and_tensorrt_says_why_not(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path).folder
    with load_engine(folder) as engine:
        assert engine.info.backend == "onnxruntime" and engine.info.precision == "fp32"
    with pytest.raises(UnsupportedBackend, match="no NVIDIA GPU"):
        load_engine(folder, "tensorrt")
