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
from workers.stages.executorch_call import write_program

if TYPE_CHECKING:
    import torch


def exported(weights: Weights) -> torch.export.ExportedProgram:
    """Return (1, 3, 384, 384) -> (1, 10); zeros are added below and right, as TensorFlow does it."""
    import torch

    class Reference(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernels = torch.nn.ParameterList(torch.from_numpy(kernel) for kernel in weights.convolutions)
            self.dense = torch.nn.Parameter(torch.from_numpy(weights.dense))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            at = image
            for kernel, stride in zip(self.kernels, STRIDES, strict=True):
                at = torch.nn.functional.pad(at, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
                at = torch.relu(torch.nn.functional.conv2d(at, kernel, stride=stride))
            return at.mean((2, 3)) @ self.dense

    return torch.export.export(Reference().eval(), (torch.zeros(1, CHANNELS[0], SIZE, SIZE),))


def main(folder: Path) -> None:
    write_program(exported(draw_weights()), folder / FILES[Format.EXECUTORCH])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
