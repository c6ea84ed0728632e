# SPDX-License-Identifier: Apache-2.0
"""The genuine reconstruction node around a network that knows the truth of a walk; started as a process."""

import sys

from reconstruction_support import OWN, TrueNetwork, walk

from perception_models.reconstruction import CloudMap, Reconstructor
from perception_nodes.reconstruction_model import ReconstructionModel, ReconstructionParameters
from perception_nodes.reconstruction_node import ReconstructionNode
from perception_nodes.run import run_node

IMAGES = 12


def knowing() -> TrueNetwork:
    """The network, after it was told of every image of the walk."""
    network = TrueNetwork()
    list(network.frames(walk(IMAGES)))
    return network


def load_model(_: ReconstructionParameters) -> ReconstructionModel:
    return ReconstructionModel(Reconstructor(knowing(), OWN), CloudMap())


if __name__ == "__main__":
    sys.exit(run_node(lambda: ReconstructionNode(load_model)))
