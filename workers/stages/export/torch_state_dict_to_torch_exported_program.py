"""Export torch weights and their builder file to an exported program; every converter of programs goes on from there.

Tool: torch.export.export, torch 2.13.0.
Document: https://docs.pytorch.org/docs/stable/export.html
Limits: every axis is fixed; control flow that depends on values is refused, then the trace to TorchScript is tried.
"""

from __future__ import annotations

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.runtimes.torch_state_dict import load_built
from workers.stages.export.modules import PROGRAM_PRELOAD, STATE_DICT_LINES, export_program


@stage(
    name="torch-state-dict-to-torch-exported-program",
    version="2",
    kind=Kind.EXPORT,
    environment="builder",
    source=Format.TORCH_STATE_DICT,
    target=Format.TORCH_EXPORTED_PROGRAM,
    tools=("torch", "safetensors"),
    preload=(*PROGRAM_PRELOAD, "safetensors.torch"),
)
def run(given: StageInput) -> StageOutput:
    """Write model.pt2.

    Raises:
        BadRequest: the builder fails, the weights do not fit, or forward refuses the inputs.
        ConversionFailed: torch.export does not take the module.
        NumericsBroken: the program does not compute the module's function.
    """
    built = load_built(given.files["model"])
    return export_program(given, built.session, Format.TORCH_STATE_DICT, lines=STATE_DICT_LINES)
