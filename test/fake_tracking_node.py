# SPDX-License-Identifier: Apache-2.0
"""The genuine tracking node around a baseline that follows clusters; started as a process."""

import sys

from node_support import FakeInfo

from perception_models.tracking.baselines import Association, ClusterCandidates, Separate
from perception_nodes.run import run_node
from perception_nodes.tracking_node import TrackingNode


class Clusters(Separate):
    """A baseline with what a node needs of a model."""

    def __init__(self) -> None:
        find = ClusterCandidates()
        super().__init__(lambda _: Association(find, heading_from_motion=True))
        self.engine_info, self.timing = FakeInfo(), {"inference": 1.0}

    def close(self) -> None:
        """Holds nothing."""


if __name__ == "__main__":
    sys.exit(run_node(lambda: TrackingNode(load_tracker=lambda _: Clusters())))
