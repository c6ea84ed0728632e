# SPDX-License-Identifier: Apache-2.0
"""The precision gate: reduced precision is accepted only while its outputs stay near the FP32 reference."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from perception_models.runtime.errors import BadWeights, UnsupportedBackend
from perception_models.runtime.tensors import Arrays

LADDER = {"fp32": ("fp32",), "fp16": ("fp16", "fp32")}
SAMPLES_FILE = "samples.npz"

Run = Callable[..., Arrays]
Opened = TypeVar("Opened")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """What the gate says, with the reason in words."""

    accepted: bool
    reason: str


def ladder(precision: str) -> tuple[str, ...]:
    """The precisions to try for a request, in order; FP32 is always the last."""
    if precision not in LADDER:
        raise UnsupportedBackend(f"precision '{precision}' is unknown; known are {', '.join(LADDER)}")
    return LADDER[precision]


def first_accepted(name: str, precision: str, attempt: Callable[[str], Opened | Verdict]) -> Opened:
    """Walk down the ladder until `attempt` returns an opened engine instead of a refusal; one warning a step."""
    for step in ladder(precision):
        result = attempt(step)
        if not isinstance(result, Verdict):
            return result
        log.warning("%s does not run in %s: %s; trying the next precision", name, step, result.reason)
    raise UnsupportedBackend(f"no precision of {name} was accepted")


def gate_ready(samples: Sequence[Arrays], bound: Mapping[str, float]) -> Verdict:
    """Whether there is anything to judge by; without it no reduced precision is accepted."""
    if not bound:
        return Verdict(False, "model.yaml gives no precision_bound")
    if not samples:
        return Verdict(False, f"there are no recorded inputs ({SAMPLES_FILE}) to compare on")
    return Verdict(True, "")


def gate(candidate: Run, reference: Run, samples: Sequence[Arrays], bound: Mapping[str, float]) -> Verdict:
    """Run both on every recorded input; accept if each output's largest absolute error is within its bound."""
    ready = gate_ready(samples, bound)
    if not ready.accepted:
        return ready
    worst = dict.fromkeys(bound, 0.0)
    for sample in samples:
        expected, actual = reference(**sample), candidate(**sample)
        for name in bound:
            worst[name] = max(worst[name], _largest_error(actual[name], expected[name]))
    text = ", ".join(f"{name} differs by {worst[name]:.3g} (bound {bound[name]:.3g})" for name in bound)
    return Verdict(all(worst[name] <= bound[name] for name in bound), text)


def _largest_error(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest absolute difference; infinite where a value is not finite and the other does not equal it."""
    with np.errstate(invalid="ignore"):
        difference = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    difference = np.where(actual == expected, 0.0, difference)
    return float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0))


def save_samples(folder: Path, samples: Sequence[Arrays]) -> Path:
    """Record inputs (each a dict of arrays, symbolic axes at capacity) beside the model for the gate."""
    path = folder / SAMPLES_FILE
    arrays = {f"{index}/{name}": array for index, sample in enumerate(samples) for name, array in sample.items()}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return path


def read_samples(folder: Path) -> bytes:
    """The recorded inputs as stored; empty if there are none."""
    path = folder / SAMPLES_FILE
    return path.read_bytes() if path.is_file() else b""


def parse_samples(stored: bytes) -> list[Arrays]:
    """The recorded inputs, in the order in which they were saved; BadWeights if they cannot be read."""
    samples: dict[int, Arrays] = {}
    if stored:
        try:
            with np.load(io.BytesIO(stored), allow_pickle=False) as archive:
                for key in archive.files:
                    index, _, name = key.partition("/")
                    samples.setdefault(int(index), {})[name] = archive[key]
        except (ValueError, OSError, BadZipFile) as error:
            raise BadWeights(f"{SAMPLES_FILE} is damaged: {error}; record the inputs again") from error
    return [samples[index] for index in sorted(samples)]
