# SPDX-License-Identifier: Apache-2.0
"""Percentiles of latencies, in milliseconds."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

PERCENTILES = (50, 95, 99)


def percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and max of some latencies; empty for none."""
    if not milliseconds:
        return {}
    values = np.percentile(milliseconds, PERCENTILES).tolist()
    return {**{f"p{p}": value for p, value in zip(PERCENTILES, values, strict=True)}, "max": float(max(milliseconds))}


class LatencyLog:
    """Latencies of several stages, such as preprocess, inference and postprocess, one sample of each a call."""

    def __init__(self) -> None:
        self._stages: defaultdict[str, list[float]] = defaultdict(list)

    def add(self, stages: Mapping[str, float]) -> None:
        """Add one call's milliseconds by stage; their sum is logged as `total`."""
        for stage, value in {**stages, "total": sum(stages.values())}.items():
            self._stages[stage].append(value)

    def summary(self) -> dict[str, float]:
        """Flat figures such as `latency_inference_p95_ms`, of all stages in the order in which they were added."""
        return {
            f"latency_{stage}_{name}_ms": value
            for stage, samples in self._stages.items()
            for name, value in percentiles(samples).items()
        }
