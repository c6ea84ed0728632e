# SPDX-License-Identifier: Apache-2.0
"""What can go wrong before an engine runs."""


class BadWeights(RuntimeError):
    """The weights folder is incomplete, damaged, or its model.yaml and model.onnx contradict each other."""


class UnsupportedBackend(RuntimeError):
    """The backend, GPU or target asked for cannot be had here; the text says what is missing."""


class BadEngine(RuntimeError):
    """A built TensorRT engine cannot be used: damaged, foreign, or not of the expected form."""
