# SPDX-License-Identifier: Apache-2.0
"""The genuine detection node around a detector that reports where the bag's test objects are; started as a process."""

import os
import sys
import time

import numpy as np
from node_support import FakeDetector

from perception_models.detection import Detections
from perception_nodes.detection_node import DetectionNode, DetectionParameters
from perception_nodes.run import run_node


class Echo(FakeDetector):
    """Finds one car: at the first point of the cloud. Fails at the third cloud where a test wants it."""

    def detect(self, points: np.ndarray) -> Detections:
        self.seen.append(points)
        if os.environ.get("FAKE_NODE_DIES") and len(self.seen) == 3:
            os._exit(3)
        if os.environ.get("FAKE_NODE_RAISES") and len(self.seen) == 3:
            raise RuntimeError("the engine burnt, says the fake node")
        time.sleep(float(os.environ.get("FAKE_NODE_SECONDS", "0")))
        box = np.array([[*points[0, :3], 4, 2, 1.5, 0]], np.float32)
        return Detections(box, np.array([0.9], np.float32), np.array([0]), self.settings.classes)


def load(parameters: DetectionParameters) -> Echo:
    if os.environ.get("FAKE_NODE_CANNOT_LOAD"):
        raise RuntimeError("the weights are torn, says the fake node")
    return Echo()


if __name__ == "__main__":
    if os.environ.get("FAKE_NODE_EXITS"):
        sys.exit("no weights, says the fake node")
    sys.exit(run_node(lambda: DetectionNode(load_detector=load)))
