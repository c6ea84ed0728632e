# SPDX-License-Identifier: Apache-2.0
"""From a torch network to an ONNX file that was checked against it in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from perception_models.runtime.stored import shrink

OPSET = 17
PARITY = 1e-3

Tensors = dict[str, npt.NDArray[np.generic]]


def export_checked(
    network: nn.Module,
    inputs: Sequence[str],
    outputs: Sequence[str],
    example: Tensors,
    symbolic: Mapping[str, Mapping[int, str]],
    path: Path,
) -> float:
    """Write the network as ONNX -> how far ONNX Runtime is from torch. `symbolic`: names of the axes that may vary.

    Raises ValueError when they differ by more than PARITY on the example tensors.
    """
    write_onnx(network, inputs, outputs, example, symbolic, path)
    difference = parity(network, inputs, example, path)
    if not difference <= PARITY:
        raise ValueError(f"ONNX Runtime differs from torch by {difference:.2e}, more than {PARITY}: do not use {path}")
    return float(f"{difference:.1e}")


def write_onnx(
    network: nn.Module,
    inputs: Sequence[str],
    outputs: Sequence[str],
    example: Tensors,
    symbolic: Mapping[str, Mapping[int, str]],
    path: Path,
) -> None:
    """Trace the network on example tensors. Inputs that it does not use are left out of the file; `symbolic` may name
    axes of outputs too, which else get names of their own where they vary."""
    torch.onnx.export(
        network.eval(),
        _arguments(inputs, example),
        path,
        dynamo=False,
        opset_version=OPSET,
        input_names=list(inputs),
        output_names=list(outputs),
        dynamic_axes={name: dict(symbolic[name]) for name in (*inputs, *outputs) if name in symbolic},
    )
    model = onnx.load(path)
    shrink(model)
    onnx.save(model, path)


@torch.no_grad()
def rounded(network: nn.Module) -> nn.Module:
    """The network with parameters that FP16 holds exactly, so that its file needs only two bytes for each."""
    for parameter in network.parameters():
        parameter.copy_(parameter.half())
    return network


def parity(network: nn.Module, inputs: Sequence[str], example: Tensors, path: Path) -> float:
    """Largest absolute difference between torch and ONNX Runtime over all outputs; NaN where either is not finite."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = network.eval()(*_arguments(inputs, example))
    computed = session.run(None, {entry.name: example[entry.name] for entry in session.get_inputs()})
    return float(np.max([np.abs(a - b.numpy()).max() for a, b in zip(computed, expected, strict=True)]))


def _arguments(inputs: Sequence[str], example: Tensors) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(example[name]) for name in inputs)
