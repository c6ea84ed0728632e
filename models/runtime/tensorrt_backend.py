# SPDX-License-Identifier: Apache-2.0
"""From weights to a running TensorRT engine: cache, build, precision gate."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from dataclasses import replace

from perception_models.runtime.cache import CachedEngine, EngineCache, EngineKey
from perception_models.runtime.cuda import CudaDevice
from perception_models.runtime.engine import EngineInfo
from perception_models.runtime.errors import BadEngine, UnsupportedBackend
from perception_models.runtime.facts import ModelFacts
from perception_models.runtime.half import to_half
from perception_models.runtime.onnxruntime_backend import OnnxRuntimeEngine
from perception_models.runtime.precision import Verdict, first_accepted, gate, gate_ready, parse_samples, read_samples
from perception_models.runtime.tensorrt_builder import build_plan, import_tensorrt, library_version
from perception_models.runtime.tensorrt_engine import TensorRTEngine

log = logging.getLogger(__name__)


def load_tensorrt(facts: ModelFacts, precision: str, cache: EngineCache | None = None) -> TensorRTEngine:
    """Open the engine of `facts` from the cache, or build it for this GPU, in the best precision the gate accepts.

    Raises UnsupportedBackend without GPU or library, BadWeights when TensorRT cannot build the model.
    """
    loader = _Loader(facts, cache or EngineCache())
    try:
        return first_accepted(facts.name, precision, loader.open)
    except BadEngine as error:
        text = f"{library_version(loader.trt)} cannot use the engine that it built of {facts.name}: {error}"
        log.warning("%s", text)
        raise UnsupportedBackend(text) from error


class _Loader:
    def __init__(self, facts: ModelFacts, cache: EngineCache) -> None:
        device = CudaDevice()  # first: it costs nothing where there is no GPU, importing TensorRT does
        self.gpu, self.compute_capability = device.name, device.compute_capability
        device.close()
        self.trt = import_tensorrt()
        self.facts = facts
        self.cache = cache
        self.stored_samples = read_samples(facts.folder)
        self.samples = parse_samples(self.stored_samples)

    def open(self, precision: str) -> TensorRTEngine | Verdict:
        """The engine in one precision, or why that is refused (a refusal is cached, too)."""
        start = time.perf_counter()
        if precision != "fp32":
            ready = gate_ready(self.samples, self.facts.precision_bound)
            if not ready.accepted:
                return ready
        opened, outcome = self.cache.open_or_build(self._key(precision), lambda: self._build(precision), self._open)
        if isinstance(opened, TensorRTEngine):
            opened.info = replace(opened.info, build_seconds=time.perf_counter() - start, cache=outcome)
        return opened

    def _build(self, precision: str) -> CachedEngine:
        log.info("building the TensorRT engine of %s in %s; this takes up to minutes", self.facts.name, precision)
        model = self.facts.read_onnx()
        if precision != "fp32":
            model = to_half(model, self.facts.keep_fp32)
        plan = build_plan(self.trt, model, static_shapes(self.facts))
        built = CachedEngine(plan.content, {"precision": plan.precision})
        verdict = self._judge(built) if precision != "fp32" else Verdict(True, "")
        return built if verdict.accepted else CachedEngine(b"", {"rejected": verdict.reason})

    def _judge(self, built: CachedEngine) -> Verdict:
        """Compare with ONNX Runtime in FP32 on the recorded inputs."""
        with self._run(built) as candidate, OnnxRuntimeEngine(self.facts) as reference:
            return gate(candidate, reference, self.samples, self.facts.precision_bound)

    def _open(self, cached: CachedEngine) -> TensorRTEngine | Verdict:
        return Verdict(False, cached.meta["rejected"]) if "rejected" in cached.meta else self._run(cached)

    def _run(self, engine: CachedEngine) -> TensorRTEngine:
        info = EngineInfo("tensorrt", engine.meta["precision"], self.gpu, 0.0, "none")
        device = CudaDevice()
        try:
            return TensorRTEngine(self.facts, info, self.trt, device, engine.plan)
        except Exception:
            device.close()
            raise

    def _key(self, precision: str) -> EngineKey:
        return EngineKey(
            model=self.facts.name,
            onnx_sha256=self.facts.sha256,
            tensorrt=library_version(self.trt),
            gpu=self.gpu,
            compute_capability=self.compute_capability,
            precision=precision,
            profile=self._profile(precision),
        )

    def _profile(self, precision: str) -> str:
        """Static shapes, and for reduced precision what its conversion and its verdict depend on."""
        profile: dict[str, object] = {"shapes": static_shapes(self.facts)}
        if precision != "fp32":
            profile["keep_fp32"] = self.facts.keep_fp32
            profile["bound"] = dict(self.facts.precision_bound)
            profile["samples"] = hashlib.sha256(self.stored_samples).hexdigest()
        return json.dumps(profile, sort_keys=True)


def static_shapes(facts: ModelFacts) -> dict[str, tuple[int, ...]]:
    """The input shapes with every symbolic axis at its capacity."""
    return {name: spec.shape_at(facts.capacity) for name, spec in facts.inputs.items()}
