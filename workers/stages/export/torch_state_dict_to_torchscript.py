"""Trace torch weights and their builder file to TorchScript: the second way, for modules that torch.export refuses.

Tool: torch.jit.trace, torch 2.13.0.
Document: https://docs.pytorch.org/docs/stable/generated/torch.jit.trace.html
Limits: every axis is fixed; a branch that depends on values is frozen as it ran; the tool is in maintenance.
"""

from __future__ import annotations

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.runtimes.torch_state_dict import load_built
from workers.stages.export.modules import SCRIPT_PRELOAD, STATE_DICT_LINES, trace_module


@stage(
    name="torch-state-dict-to-torchscript",
    version="2",
    kind=Kind.EXPORT,
    environment="builder",
    source=Format.TORCH_STATE_DICT,
    target=Format.TORCHSCRIPT,
    tools=("torch", "safetensors"),
    preload=(*SCRIPT_PRELOAD, "safetensors.torch"),
    cost=20,
)
def run(given: StageInput) -> StageOutput:
    """Write model.pt.

    Raises:
        BadRequest: the builder fails, the weights do not fit, or forward refuses the inputs.
        ConversionFailed: torch.jit does not trace the module.
        NumericsBroken: the trace does not compute the module's function.
    """
    built = load_built(given.files["model"])
    return trace_module(given, built.session, Format.TORCH_STATE_DICT, lines=STATE_DICT_LINES)
