# SPDX-License-Identifier: Apache-2.0
"""Parameters of a node from one frozen dataclass: described, and validated all together before any is applied."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, Generic, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter


class InvalidParameters(ValueError):
    """Parameters given at start are not valid. The text names every one of them."""


def parameter(
    default: bool | float | str,
    description: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    name: str = "",
    fixed: bool = False,
) -> Any:
    """A dataclass field that is a ROS parameter.

    `low` and `high` include themselves and come together; `choices` are the allowed texts; `name` is the parameter's
    name where it differs from the field's (`score_threshold.vehicle`); a `fixed` one changes only while unconfigured.
    """
    text = f"{description} [{unit}]" if unit else description
    facts = {"text": text, "low": low, "high": high, "choices": choices, "name": name, "fixed": fixed}
    return field(default=default, metadata=facts)


@dataclass(frozen=True)
class Parameters:
    """What every node has. A node's own parameters extend this class with fields made by `parameter`."""

    autostart: bool = parameter(True, "configure and activate without being asked", fixed=True)
    reliable_input: bool = parameter(
        False, "sensor topics are asked for reliably from the next activation on; best-effort publishers go unheard"
    )
    max_age: float = parameter(
        0.0, "input older than this is rejected; 0 accepts any age", unit="s", low=0.0, high=3600.0
    )
    stamp_jump: float = parameter(
        1.0, "a stamp this far before the last one is a restarted source, a smaller step back is rejected",
        unit="s", low=0.0, high=3600.0,
    )  # fmt: skip
    silence: float = parameter(
        5.0, "diagnostics turn stale when no input came for this long", unit="s", low=0.1, high=3600.0
    )

    def problems(self) -> list[str]:
        """What is wrong with these values, one text each; empty when all are valid."""
        return [text for entry in fields(self) for text in _problems(entry, getattr(self, entry.name))]


P = TypeVar("P", bound=Parameters)


class ParameterSet(Generic[P]):
    """Declares the fields of a dataclass on a node and holds the current valid values as one frozen object.

    A change is applied as a whole or not at all. Raises InvalidParameters, naming all of them, where the values
    given at start are not valid.
    """

    def __init__(self, node: Node, kind: type[P], is_unconfigured: Callable[[], bool]) -> None:
        self._fields: dict[str, Field[Any]] = {ros_name(entry): entry for entry in fields(kind)}
        self._is_unconfigured = is_unconfigured
        self.current: P = self._declare(node, kind)
        node.add_on_set_parameters_callback(self._change)

    def _declare(self, node: Node, kind: type[P]) -> P:
        values, reasons = {}, []
        for name, entry in self._fields.items():
            try:
                values[entry.name] = node.declare_parameter(name, entry.default, descriptor(entry)).value
            except ParameterException as error:
                reasons.append(str(error))
        declared = kind(**values)
        if reasons := reasons + declared.problems():
            raise InvalidParameters("; ".join(reasons))
        return declared

    def _change(self, changes: Sequence[Parameter[Any]]) -> SetParametersResult:
        """Checks a set of changes as a whole and applies it.

        rclpy has checked types and ranges before this call and nothing can refuse after it, so applying here is safe,
        and unlike a post-set callback it exists in ROS 2 Humble.
        """
        own = {self._fields[change.name]: change.value for change in changes if change.name in self._fields}
        candidate = replace(self.current, **{entry.name: value for entry, value in own.items()})
        reasons = candidate.problems()
        if not self._is_unconfigured():
            moved = [entry for entry in own if getattr(candidate, entry.name) != getattr(self.current, entry.name)]
            fixed = [ros_name(entry) for entry in moved if entry.metadata["fixed"]]
            reasons += [f"{name} is fixed while the node is configured: clean up first" for name in fixed]
        if not reasons:
            self.current = candidate
        return SetParametersResult(successful=not reasons, reason="; ".join(reasons))


def ros_name(entry: Field[Any]) -> str:
    """The ROS name of a dataclass field."""
    return str(entry.metadata["name"] or entry.name)


def descriptor(entry: Field[Any]) -> ParameterDescriptor:
    """Description, unit and range of a field as ROS tools show them."""
    facts = entry.metadata
    described = ParameterDescriptor(description=facts["text"], additional_constraints=", ".join(facts["choices"]))
    if facts["low"] is not None and isinstance(entry.default, float):
        described.floating_point_range = [FloatingPointRange(from_value=facts["low"], to_value=facts["high"])]
    elif facts["low"] is not None:
        described.integer_range = [IntegerRange(from_value=int(facts["low"]), to_value=int(facts["high"]), step=1)]
    return described


def _problems(entry: Field[Any], value: Any) -> list[str]:
    facts, name = entry.metadata, ros_name(entry)
    if isinstance(value, float) and not math.isfinite(value):
        return [f"{name} is {value}; expected a finite number"]
    if facts["low"] is not None and not facts["low"] <= value <= facts["high"]:
        return [f"{name} is {value}; expected {facts['low']} to {facts['high']}"]
    if facts["choices"] and value not in facts["choices"]:
        return [f"{name} is '{value}'; expected one of {', '.join(facts['choices'])}"]
    return []
