# SPDX-License-Identifier: Apache-2.0
"""Measures what the detection node adds to a model: convert and publish, 120,000 points in, 50 boxes out, over DDS.

Run as `python test/measure_node_overhead.py`; a second process publishes at 10 Hz, the detector answers at once.
"""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import rclpy
from node_support import Bench, FakeDetector, overrides, random_points, wait_for
from rclpy.node import Node

from perception_models.detection import Detections
from perception_nodes.detection_node import DetectionNode
from perception_nodes.executors import BackgroundExecutor
from perception_nodes.messages import encode_points
from perception_nodes.run import prepare_middleware

POINTS, BOXES, SCANS, WARM_UP = 120_000, 50, 200, 20


class InstantDetector(FakeDetector):
    """The same fifty boxes for every scan, in no time."""

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        boxes = rng.uniform([-40, -40, -1, 1, 1, 1, -3], [40, 40, 1, 5, 2, 2, 3], (BOXES, 7)).astype(np.float32)
        scores, labels = rng.uniform(0, 1, BOXES).astype(np.float32), rng.integers(0, 3, BOXES)
        self.answer = Detections(boxes, scores, labels, self.settings.classes)

    def detect(self, points: np.ndarray) -> Detections:
        return self.answer


def send() -> None:
    """The other process: clouds at 10 Hz; it also listens, so that results really travel."""
    rclpy.init()
    client = Node("client")
    bench = Bench(DetectionNodeName(), client)
    bench.connect()
    executor = BackgroundExecutor(client, "client")
    wait_for(lambda: bench.points.get_subscription_count() == 1)
    for _ in range(SCANS + WARM_UP):
        bench.send(encode_points(random_points(POINTS), bench.header()))
        time.sleep(0.1)
    executor.stop()
    rclpy.shutdown()


class DetectionNodeName:
    """Stands for the node in the other process."""

    def get_fully_qualified_name(self) -> str:
        return "/detection_node"


def measure() -> None:
    """Prints median and 95th percentile of each stage."""
    prepare_middleware()
    rclpy.init()
    node = DetectionNode(lambda _: InstantDetector(), parameter_overrides=overrides(reliable_input=True))
    executor = BackgroundExecutor(node, "node")
    sender = subprocess.Popen([sys.executable, __file__, "send"])
    wait_for(lambda: node.health.processed >= WARM_UP, timeout=60)
    node.timing.clear()
    sender.wait()
    for stage, (count, (p50, p95, p99)) in node.timing.percentiles().items():
        print(f"{stage:12s} p50 {p50:6.2f}  p95 {p95:6.2f}  p99 {p99:6.2f} ms  ({count} scans)")
    print(node.health.counts(node._worker.received, node._worker.dropped))
    executor.stop()
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    send() if sys.argv[1:] == ["send"] else measure()
