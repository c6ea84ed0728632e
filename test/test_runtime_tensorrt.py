# SPDX-License-Identifier: Apache-2.0
"""TensorRT: real builds for a GPU that is not here; loading, caching and running against a stand-in for the GPU."""

from __future__ import annotations

import ctypes
import importlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from test_runtime_facts import CAPACITY, tiny_inputs, write_tiny_model

from perception_models.runtime import BadWeights, ModelFacts, UnsupportedBackend, build, tensorrt_backend
from perception_models.runtime.build import build_engines, model_name, weight_folders
from perception_models.runtime.cache import EngineCache
from perception_models.runtime.half import to_half
from perception_models.runtime.onnxruntime_backend import OnnxRuntimeEngine
from perception_models.runtime.precision import save_samples
from perception_models.runtime.tensorrt_backend import load_tensorrt, static_shapes
from perception_models.runtime.tensorrt_builder import Plan, build_plan, import_tensorrt, targets


@pytest.fixture(scope="module")
def trt() -> ModuleType:
    library = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed: nothing can be built here")
    assert isinstance(library, ModuleType)
    return library


# --- real builds, no GPU ---


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_precision_is_read_back_from_the_network(trt: ModuleType, tmp_path: Path, precision: str) -> None:
    facts = write_tiny_model(tmp_path)
    model = facts.read_onnx() if precision == "fp32" else to_half(facts.read_onnx())
    plan = build_plan(trt, model, static_shapes(facts), "SM86")
    assert plan.precision == precision and len(plan.content) > 1000


@pytest.mark.parametrize("folder", weight_folders(), ids=model_name)
def test_each_model_builds_for_sm86(trt: ModuleType, folder: Path) -> None:
    for report in build_engines("SM86", folders=[folder]):
        assert report.ok, report.note
        assert report.precision == report.requested and report.plan_bytes > 1000


def test_a_build_report_covers_each_model_and_names_what_fails(trt: ModuleType, tmp_path: Path) -> None:
    good, bad = (
        write_tiny_model(tmp_path / "good", precision_bound=1e-2).folder,
        write_tiny_model(tmp_path / "bad").folder,
    )
    save_samples(good, [tiny_inputs()])
    (bad / "model.onnx").write_bytes(b"no model")
    reports = list(build_engines("sm86", folders=[good, bad]))
    assert [(report.requested, report.ok) for report in reports] == [
        ("fp32", True), ("fp16", True), ("fp32", False), ("fp16", False),
    ]  # fmt: skip
    assert "scores differs by" in reports[1].note and "would refuse" not in reports[1].note
    assert "damaged or was replaced" in reports[3].note


def test_a_target_that_the_library_lacks_is_explained(trt: ModuleType) -> None:
    assert "SM86" in targets(trt) and "SM87" not in targets(trt)
    with pytest.raises(UnsupportedBackend, match=r"cannot build for SM87 \(it builds for .*SM86.*Orin is SM87"):
        build_engines("SM87")


def test_a_graph_that_tensorrt_cannot_parse_is_bad_weights(trt: ModuleType) -> None:
    with pytest.raises(BadWeights, match="cannot parse"):
        build_plan(trt, b"no model", {}, "SM86")


def test_a_graph_that_tensorrt_cannot_build_says_why(trt: ModuleType, tmp_path: Path) -> None:
    facts = write_tiny_model(tmp_path)
    wrong = static_shapes(facts) | {"points": (CAPACITY, 9)}
    with pytest.raises(BadWeights, match="cannot build the model for SM86: .*[Mm]atrix"):
        build_plan(trt, facts.read_onnx(), wrong, "SM86")


def test_too_old_and_missing_libraries_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ModuleType:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UnsupportedBackend, match="pip install tensorrt-rtx-cu12"):
        import_tensorrt()
    monkeypatch.setattr(importlib, "import_module", lambda _: SimpleNamespace(__version__="8.5.2"))
    with pytest.raises(UnsupportedBackend, match=r"8\.5\.2 is too old"):
        import_tensorrt()


# --- loading and running, with memory of this process as the GPU's and ONNX Runtime as TensorRT ---


class FakeDevice:
    """Device memory is host memory."""

    name, compute_capability, stream = "Fake GPU", "SM99", 7
    open_devices = 0

    def __init__(self) -> None:
        self.memory: list[Any] = []
        FakeDevice.open_devices += 1

    def activate(self) -> None: ...

    def synchronize(self) -> None: ...

    def allocate(self, size: int) -> int:
        self.memory.append(ctypes.create_string_buffer(size))
        return ctypes.addressof(self.memory[-1])

    def upload(self, address: int, array: np.ndarray) -> None:
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def download(self, array: np.ndarray, address: int) -> None:
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def close(self) -> None:
        FakeDevice.open_devices -= 1


class FakeEngine:
    """Both engine and context; `error` is added to what the model gives, `cut` takes the last axis off each shape."""

    def __init__(self, facts: ModelFacts, error: float, cut: bool) -> None:
        self.facts, self.error, self.cut = facts, error, cut
        self.addresses: dict[str, int] = {}
        self.specs = {**facts.inputs, **facts.outputs}
        self.num_io_tensors = len(self.specs)
        self.runner = OnnxRuntimeEngine(facts)

    def get_tensor_name(self, index: int) -> str:
        return list(self.specs)[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        shape = self.specs[name].shape_at(self.facts.capacity)
        return shape[:-1] if self.cut else shape

    def get_tensor_dtype(self, name: str) -> np.dtype[Any]:
        return self.specs[name].dtype

    def create_execution_context(self) -> FakeEngine:
        return self

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def view(self, name: str) -> NDArray[Any]:
        spec, shape = self.specs[name], self.get_tensor_shape(name)
        size = int(np.prod(shape)) * spec.dtype.itemsize
        memory = (ctypes.c_char * size).from_address(self.addresses[name])
        return np.ndarray(shape, spec.dtype, buffer=memory)  # type: ignore[arg-type,unused-ignore]

    def execute_async_v3(self, stream: int) -> bool:
        for name, array in self.runner(**{name: self.view(name) for name in self.facts.inputs}).items():
            self.view(name)[...] = array + self.error
        return stream == FakeDevice.stream


class Laboratory:
    """What the stand-in library does and what was asked of it."""

    def __init__(self, facts: ModelFacts) -> None:
        self.facts, self.half_error = facts, 0.0
        self.builds: list[str] = []
        self.refused: set[int] = set()  # numbers of the builds that cannot be opened
        self.reshaped: set[int] = set()  # numbers of the builds that have other tensors

    def build(self, trt: Any, model: bytes, shapes: dict[str, tuple[int, ...]]) -> Plan:
        assert shapes == {"points": (CAPACITY, 8), "index": (CAPACITY,), "mask": (CAPACITY, 1)}
        half = any(node.op_type == "Cast" for node in onnx.load_from_string(model).graph.node)
        self.builds.append("fp16" if half else "fp32")
        plan = {"number": len(self.builds), "error": self.half_error if half else 0.0}
        return Plan(json.dumps(plan).encode(), self.builds[-1], 0.1)

    def open(self, plan: bytes) -> FakeEngine | None:
        document = json.loads(plan)
        if document["number"] in self.refused:
            return None
        return FakeEngine(self.facts, document["error"], cut=document["number"] in self.reshaped)

    def library(self) -> Any:
        runtime = SimpleNamespace(deserialize_cuda_engine=self.open)
        logger = type("ILogger", (), {"ERROR": 1, "INTERNAL_ERROR": 0})
        return SimpleNamespace(
            __name__="tensorrt",
            __version__="10.3.0",
            ILogger=logger,
            Runtime=lambda _: runtime,
            nptype=lambda dtype: dtype,
        )


@pytest.fixture
def laboratory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laboratory]:
    facts = write_tiny_model(tmp_path / "weights", precision_bound=0.01)
    save_samples(facts.folder, [tiny_inputs()])
    laboratory = Laboratory(facts)
    monkeypatch.setattr(tensorrt_backend, "CudaDevice", FakeDevice)
    monkeypatch.setattr(build, "CudaDevice", FakeDevice)
    monkeypatch.setattr(tensorrt_backend, "build_plan", laboratory.build)
    monkeypatch.setattr(tensorrt_backend, "import_tensorrt", laboratory.library)
    FakeDevice.open_devices = 0
    yield laboratory
    assert FakeDevice.open_devices == 0, "a device was not given back"


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


def test_the_engine_copies_in_runs_and_copies_out(laboratory: Laboratory, cache: EngineCache) -> None:
    with load_tensorrt(laboratory.facts, "fp32", cache) as engine, OnnxRuntimeEngine(laboratory.facts) as reference:
        assert engine.pads_to_capacity and engine.info.provider == "Fake GPU"
        first = engine(**tiny_inputs(seed=1))
        engine(**tiny_inputs(seed=2))
        np.testing.assert_array_equal(first["scores"], reference(**tiny_inputs(seed=1))["scores"])
        with pytest.raises(ValueError, match=f"pillars = {CAPACITY}"):
            engine(**tiny_inputs(CAPACITY - 1))


def test_the_second_start_builds_nothing(laboratory: Laboratory, cache: EngineCache) -> None:
    for outcome in ("built", "hit"):
        with load_tensorrt(laboratory.facts, "fp16", cache) as engine:
            assert (engine.info.precision, engine.info.cache) == ("fp16", outcome)
    assert laboratory.builds == ["fp16"]


def test_inaccurate_half_precision_falls_back_and_is_not_tried_again(
    laboratory: Laboratory, cache: EngineCache, caplog: pytest.LogCaptureFixture
) -> None:
    laboratory.half_error = 0.02
    for start in (1, 2):
        with load_tensorrt(laboratory.facts, "fp16", cache) as engine:
            assert engine.info.precision == "fp32"
        warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert len(warnings) == start and "scores differs by 0.02 (bound 0.01)" in caplog.text
    assert laboratory.builds == ["fp16", "fp32"]


def test_another_bound_reopens_the_verdict(laboratory: Laboratory, cache: EngineCache) -> None:
    laboratory.half_error = 0.02
    load_tensorrt(laboratory.facts, "fp16", cache).close()
    facts = write_tiny_model(laboratory.facts.folder, precision_bound=0.03)
    with load_tensorrt(facts, "fp16", cache) as engine:
        assert engine.info.precision == "fp16"
    assert laboratory.builds == ["fp16", "fp32", "fp16"]


def test_without_recorded_inputs_half_precision_is_not_even_built(laboratory: Laboratory, cache: EngineCache) -> None:
    (laboratory.facts.folder / "samples.npz").unlink()
    with load_tensorrt(laboratory.facts, "fp16", cache) as engine:
        assert engine.info.precision == "fp32"
    assert laboratory.builds == ["fp32"]


def test_a_cached_engine_that_is_refused_or_has_other_tensors_is_built_again(
    laboratory: Laboratory, cache: EngineCache, caplog: pytest.LogCaptureFixture
) -> None:
    load_tensorrt(laboratory.facts, "fp32", cache).close()
    laboratory.refused = {1}
    load_tensorrt(laboratory.facts, "fp32", cache).close()
    laboratory.reshaped = {2}
    with load_tensorrt(laboratory.facts, "fp32", cache) as engine:
        assert engine.info.cache == "built"
    assert len(laboratory.builds) == 3
    assert ["refuses it" in record.message for record in caplog.records] == [True, False]
    assert "its tensors are" in caplog.records[1].message


def test_an_engine_that_is_refused_even_when_new_is_not_kept(laboratory: Laboratory, cache: EngineCache) -> None:
    laboratory.refused = {1}
    with pytest.raises(UnsupportedBackend, match="tensorrt 10.3.0 cannot use the engine that it built .*refuses"):
        load_tensorrt(laboratory.facts, "fp32", cache)
    assert not list(cache.folder.glob("*.engine"))


@pytest.mark.parametrize("target", ["current", "SM99"])
def test_building_ahead_for_the_gpu_that_is_here_fills_the_cache(
    laboratory: Laboratory, cache: EngineCache, target: str
) -> None:
    reports = list(build_engines(target, folders=[laboratory.facts.folder], cache_dir=cache.folder))
    assert [(report.ok, report.precision, report.note) for report in reports] == [
        (True, "fp32", "cache: built"),
        (True, "fp16", "cache: built"),
    ]
    with load_tensorrt(laboratory.facts, "fp16", cache) as engine:
        assert engine.info.cache == "hit"
