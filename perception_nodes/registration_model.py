# SPDX-License-Identifier: Apache-2.0
"""What the registration node runs: a registrar from nothing, and odometry or a map on top of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from perception_models.registration import Registrar, Registration
from perception_models.registration.global_map import GlobalMap, PreparedRegistrar
from perception_models.registration.odometry import Odometry
from perception_models.registration.odometry_settings import ODOMETRY_SCALES, OdometrySettings

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class NoEngine:
    """What diagnostics say of a registrar that needs no engine."""

    backend: str = "none: classical descriptors"
    precision: str = "fp32"


class AnyRegistrar(PreparedRegistrar, Protocol):
    """What the node needs of a registrar; tests give one of their own."""

    timing: dict[str, float]

    @property
    def engine_info(self) -> Any:
        """Facts of its engine, None where it has none."""
        ...

    def align(self, source: Floats, target: Floats) -> Registration:
        """See Registrar.align."""
        ...

    def close(self) -> None:
        """Gives back the engine."""
        ...


def load_registrar(variant: str, backend: str, threads: int, scale: str) -> AnyRegistrar:
    """The registrar that the parameters ask for."""
    return Registrar.load(variant=variant, backend=backend, threads=threads or None, scale=scale)


def settings_of(scale: str, min_range: float, max_range: float, threads: int) -> OdometrySettings:
    """The preset of a scale with the operator's ranges, where they are not 0."""
    preset = ODOMETRY_SCALES[scale]
    return replace(
        preset,
        min_range=min_range or preset.min_range,
        max_range=max_range or preset.max_range,
        threads=threads or preset.threads,
    )


class RegistrationModel:
    """One registrar and, unless pairs are asked for, the odometry that falls back on it."""

    def __init__(self, registrar: AnyRegistrar, odometry: Odometry | None) -> None:
        self.registrar, self.odometry = registrar, odometry

    @classmethod
    def load(cls, registrar: AnyRegistrar, mode: str, settings: OdometrySettings, map_file: str) -> RegistrationModel:
        """Raises ValueError or FileNotFoundError where the map cannot be used."""
        if mode == "pair":
            return cls(registrar, None)
        if mode == "odometry":
            return cls(registrar, Odometry(settings, registrar))
        return cls(registrar, Odometry(settings, map=GlobalMap.load(Path(map_file), settings, registrar)))

    @property
    def engine_info(self) -> Any:
        """Facts of the registrar's engine."""
        return self.registrar.engine_info or NoEngine()

    @property
    def timing(self) -> Mapping[str, float]:
        """Milliseconds of the last call."""
        return self.odometry.timing if self.odometry else self.registrar.timing

    def close(self) -> None:
        """Gives back the engine."""
        self.registrar.close()
