"""The one call of ExecuTorch's exporter, shared by every stage that ends in it.

Tool: executorch 1.5.1 (to_edge_transform_and_lower with XnnpackPartitioner), torch 2.13.0.
Document: https://docs.pytorch.org/executorch/stable/backends/xnnpack/xnnpack-overview.html
Limits: what XNNPACK lacks stays with the portable kernels, which are slow; every axis is fixed; names are lost. The
exporter writes XNNPACK's part by starting `flatc`, which its package brings, so these stages need leave to start
programs of their environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from workers.stages.tool_calls import tool_call

if TYPE_CHECKING:
    import torch

TOOLS = ("executorch", "torch")
PRELOAD = (
    "numpy",
    "torch",
    "torch.export",
    "executorch.exir",
    "executorch.backends.xnnpack.partition.xnnpack_partitioner",
    "executorch.extension.pybindings._C",
)
LOWER_LINES = (
    "from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner",
    "from executorch.exir import to_edge_transform_and_lower",
    "lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])",
    "open('model.pte', 'wb').write(lowered.to_executorch().buffer)",
)
"""What `write_program` does, for a command that repeats it."""


def write_program(program: torch.export.ExportedProgram, path: Path) -> dict[str, int]:
    """Lower a program for XNNPACK and write it.

    Returns: facts: the operators that XNNPACK got, in how many parts, and those that stayed with portable kernels.
    Raises: ConversionFailed.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.devtools.backend_debug import get_delegation_info
    from executorch.exir import to_edge_transform_and_lower
    from executorch.exir.error import ExportError, InternalError

    with tool_call("executorch", ExportError, InternalError):
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        told = get_delegation_info(lowered.exported_program().graph_module)
        path.write_bytes(lowered.to_executorch().buffer)
    return {
        "delegated_operators": told.num_delegated_nodes,
        "delegated_parts": told.num_delegated_subgraphs,
        "portable_operators": told.num_non_delegated_nodes,
    }
