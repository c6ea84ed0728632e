# SPDX-License-Identifier: Apache-2.0
"""Builds the TensorRT engine of every model: for this GPU into the cache, or for a named one to see that it builds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from perception_models.runtime.cuda import CudaDevice
from perception_models.runtime.errors import BadWeights, UnsupportedBackend
from perception_models.runtime.facts import ModelFacts, load_facts
from perception_models.runtime.half import to_half
from perception_models.runtime.load import load_engine
from perception_models.runtime.onnxruntime_backend import OnnxRuntimeEngine
from perception_models.runtime.precision import Verdict, gate, ladder, parse_samples, read_samples
from perception_models.runtime.tensorrt_backend import static_shapes
from perception_models.runtime.tensorrt_builder import HERE, build_plan, import_tensorrt, targets, unknown_target

MODELS = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class BuildReport:
    """One engine: `ok`, the achieved `precision`, size and time; `note` holds the gate's verdict or the error."""

    model: str
    target: str
    requested: str
    ok: bool
    precision: str = ""
    seconds: float = 0.0
    plan_bytes: int = 0
    note: str = ""


def weight_folders(models: Path = MODELS) -> list[Path]:
    """Every models/<task>/weights/<variant>, or part of a variant of several engines, that has a model.yaml."""
    return sorted(path.parent for depth in ("*", "*/*") for path in models.glob(f"*/weights/{depth}/model.yaml"))


def model_name(folder: Path) -> str:
    """Task and variant of a folder of `weight_folders`, and the part where there are several: "detection/compact"."""
    task, _, *variant = folder.relative_to(MODELS).parts
    return "/".join([task, *variant])


def build_engines(
    target: str = "SM86",
    precisions: Sequence[str] = ("fp32", "fp16"),
    folders: Sequence[Path] | None = None,
    cache_dir: Path | None = None,
) -> Iterator[BuildReport]:
    """Build every model (or those in `folders`) in each precision; yields a report for each as it is done.

    target: a compute capability such as "SM86", or "CURRENT". If it is this machine's GPU, engines go through the
        precision gate into the cache that `load_engine` uses. Otherwise they are built (TensorRT-RTX needs no GPU for
        that) and dropped: it shows that they build. FP16 graphs are then judged on the CPU, which is not the device.

    Raises UnsupportedBackend when nothing here can build for `target`. A model that fails is a report with ok=False.
    """
    for precision in precisions:
        ladder(precision)
    here = _is_here(target.upper())
    if not here:
        _require_target(target.upper())
    chosen = weight_folders() if folders is None else folders
    return (
        _report(folder, target.upper(), precision, here, cache_dir) for folder in chosen for precision in precisions
    )


def _is_here(target: str) -> bool:
    try:
        device = CudaDevice()
    except UnsupportedBackend:
        if target == HERE:
            raise
        return False
    capability = device.compute_capability
    device.close()
    return target in (HERE, capability)


def _require_target(target: str) -> None:
    trt = import_tensorrt()
    if target not in targets(trt):
        raise UnsupportedBackend(unknown_target(trt, target))


def _report(folder: Path, target: str, precision: str, here: bool, cache_dir: Path | None) -> BuildReport:
    name = f"{folder.parent.parent.name}/{folder.name}"
    try:
        if here:
            return _build_here(folder, target, precision, cache_dir)
        return _build_for(load_facts(folder), target, precision)
    except (BadWeights, UnsupportedBackend) as error:
        return BuildReport(name, target, precision, ok=False, note=str(error))


def _build_here(folder: Path, target: str, precision: str, cache_dir: Path | None) -> BuildReport:
    with load_engine(folder, "tensorrt", precision, cache_dir=cache_dir) as engine:
        info = engine.info
        note = f"cache: {info.cache}"
        return BuildReport(engine.facts.name, target, precision, True, info.precision, info.build_seconds, note=note)


def _build_for(facts: ModelFacts, target: str, precision: str) -> BuildReport:
    model = facts.read_onnx()
    verdict = Verdict(True, "")
    if precision != "fp32":
        model = to_half(model, facts.keep_fp32)
        verdict = _judge_graph(facts, model)
    plan = build_plan(import_tensorrt(), model, static_shapes(facts), target)
    note = verdict.reason if verdict.accepted else f"the gate would refuse it: {verdict.reason}"
    return BuildReport(facts.name, target, precision, True, plan.precision, plan.seconds, len(plan.content), note)


def _judge_graph(facts: ModelFacts, model: bytes) -> Verdict:
    samples = parse_samples(read_samples(facts.folder))
    with OnnxRuntimeEngine(facts, model=model) as candidate, OnnxRuntimeEngine(facts) as reference:
        return gate(candidate, reference, samples, facts.precision_bound)
