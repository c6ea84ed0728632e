# SPDX-License-Identifier: Apache-2.0
"""What a perception node is put together from: its model, its inputs and its outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from rclpy.qos import QoSProfile, ReliabilityPolicy

# Best effort also matches reliable publishers. The newest measurement is picked in our mailbox, which counts what it
# drops; a middleware queue of one would drop unseen.
SENSOR_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
# Loses nothing, but hears only publishers that are reliable too.
RELIABLE_SENSOR_QOS = QoSProfile(depth=5)
RESULT_QOS = QoSProfile(depth=5)
COMMAND_QOS = QoSProfile(depth=50)


class Closable(Protocol):
    """Anything that holds something until it is closed."""

    def close(self) -> None:
        """Gives back what it holds."""
        ...


class Model(Closable, Protocol):
    """What a node loads: a pipeline of perception_models."""

    @property
    def engine_info(self) -> Any:
        """A dataclass of facts for the diagnostics: backend, precision, provider and so on."""
        ...

    @property
    def timing(self) -> Mapping[str, float]:
        """Milliseconds of the last call: preprocess, inference, postprocess."""
        ...


@dataclass(frozen=True, eq=False)
class Input:
    """A subscription and the name of the method that gets its messages, on the worker thread.

    The input of `process` makes results: it is timed and counted. Others are remembered for it (camera info, a first
    box). The header of a `stamped` message is checked before it is handed on. A measurement that waits is replaced by
    the next one; of a command `every` one is handed on.
    """

    topic: str
    kind: type[Any]
    handler: str = "process"
    qos: QoSProfile = field(default_factory=lambda: SENSOR_QOS)
    stamped: bool = True
    every: bool = False

    @property
    def makes_results(self) -> bool:
        """Whether a message of this input is to become a result."""
        return self.handler == "process"


@dataclass(frozen=True, eq=False)
class Output:
    """A publisher, used by its topic: `self.publish("~/detections", message)`."""

    topic: str
    kind: type[Any]
    qos: QoSProfile = field(default_factory=lambda: RESULT_QOS)
