"""Write the pinned reference model as an ExecuTorch program, from the weights of its other forms.

Run in the executorch environment: `python -m workers.runtimes.reference_model.make_executorch [FOLDER]`. Made with
executorch 1.5.1 and torch 2.13.0.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from farm.domain.facts import Format
from workers.runtimes.reference_model import FILES
from workers.runtimes.reference_model.make import CHANNELS, SIZE, STRIDES, Weights, draw_weights

if TYPE_CHECKING:
    import torch


def exported(weights: Weights) -> torch.export.ExportedProgram:
    """Return (1, 3, 384, 384) -> (1, 10); zeros are added below and right, as TensorFlow does it."""
    import torch

    layers: list[torch.nn.Module] = []
    for kernel, stride in zip(weights.convolutions, STRIDES, strict=True):
        convolution = torch.nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, stride, bias=False)
        convolution.weight.data = torch.from_numpy(kernel)
        layers += [torch.nn.ZeroPad2d((0, 1, 0, 1) if stride == 2 else 1), convolution, torch.nn.ReLU()]
    dense = torch.nn.Linear(*weights.dense.shape, bias=False)
    dense.weight.data = torch.from_numpy(weights.dense.T.copy())
    module = torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), dense).eval()
    return torch.export.export(module, (torch.zeros(1, CHANNELS[0], SIZE, SIZE),))


def main(folder: Path) -> None:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    lowered = to_edge_transform_and_lower(exported(draw_weights()), partitioner=[XnnpackPartitioner()])
    (folder / FILES[Format.EXECUTORCH]).write_bytes(lowered.to_executorch().buffer)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
