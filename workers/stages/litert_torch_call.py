"""The one call of litert-torch, shared by every stage that ends in it.

Tool: litert-torch 0.10.0 with litert-converter 0.5.0, torch 2.13.0. Document: https://github.com/google-ai-edge/litert-torch
Limits: x86-64 hosts only (litert-converter has no other wheels); 64-bit inputs and outputs become 32-bit;
inputs are named serving_default_args_N by the tool; layouts stay the module's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from farm.domain.facts import TensorSpec
from workers.stages.samples import Ranges, example_tensors
from workers.stages.tool_calls import tool_call

if TYPE_CHECKING:
    import torch

TOOLS = ("litert-torch", "litert-converter", "torch")
PRELOAD = ("torch", "torch.export", "litert_torch", "onnxruntime", "ai_edge_litert.interpreter")


def convert_module(
    module: torch.nn.Module, inputs: tuple[TensorSpec, ...], path: Path, *, ranges: Ranges | None = None
) -> None:
    """Write the TFLite form of a torch module that takes `inputs` in order, traced on values within `ranges`.

    Raises:
        ConversionFailed: an operator without a lowering, or a module that torch.export does not take.
    """
    import litert_torch
    import torch

    with tool_call("litert-torch"), torch.no_grad():
        litert_torch.convert(module, example_tensors(inputs, ranges)).export(str(path))
