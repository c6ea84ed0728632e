# SPDX-License-Identifier: Apache-2.0
"""The one interface behind which every model runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray

from perception_models.runtime.facts import ModelFacts
from perception_models.runtime.tensors import Arrays, check_inputs

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class EngineInfo:
    """What runs. `precision` is the achieved one, read back from the graph that the backend was given."""

    backend: str  # "onnxruntime" or "tensorrt"
    precision: str  # "fp32" or "fp16"
    provider: str  # execution provider, or GPU name
    build_seconds: float  # time to build or load
    cache: str  # "hit", "built" or "none"


class Engine(ABC):
    """A loaded model: `engine(points=..., mask=...) -> {"scores": ...}`.

    Calls from several threads are run one after the other. Outputs belong to the caller: no later call writes into
    them, and inputs are neither changed nor kept.
    """

    pads_to_capacity: ClassVar[bool]  # True: symbolic axes must be padded to the capacity in model.yaml

    def __init__(self, facts: ModelFacts, info: EngineInfo) -> None:
        self.facts = facts
        self.info = info
        self._lock = Lock()
        self._closed = False

    def __call__(self, **inputs: NDArray[Any]) -> Arrays:
        """Run the model on named arrays.

        Raises ValueError for a wrong name, shape or dtype, RuntimeError when the engine is closed or the device fails.
        """
        check_inputs(self.facts.inputs, inputs, self.facts.capacity, padded=self.pads_to_capacity)
        with self._lock:
            if self._closed:
                raise RuntimeError(f"the engine of {self.facts.name} is closed; load it again")
            return self._run(inputs)

    def close(self) -> None:
        """Free all memory of the engine; closing twice does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._free()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def _run(self, inputs: Arrays) -> Arrays:
        """Run on checked inputs; return new arrays."""

    @abstractmethod
    def _free(self) -> None:
        """Give back what the backend holds."""
