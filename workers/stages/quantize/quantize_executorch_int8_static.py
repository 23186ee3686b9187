"""Quantize a torch exported program to static int8 and lower it for XNNPACK: per channel, float input and output.

Tools: executorch 1.5.1 (XNNPACKQuantizer), torchao 0.18.0 (prepare_pt2e, convert_pt2e), then those of
workers/stages/executorch_call.py. Document: https://docs.pytorch.org/executorch/stable/backends/xnnpack/xnnpack-quantization.html
Formula: w8 = round(w / s_c), s_c = max|w_c| / 127; x8 = round(x / s) + z, s = (max − min) / 255 over the calibration.
Limits: those of the exporter; the quantizer annotates what XNNPACK has int8 kernels for, the rest stays in float.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.stages.executorch_call import LOWER_LINES, PRELOAD, TOOLS, write_program
from workers.stages.export.programs import load_fixed_program, load_lines
from workers.stages.quantize.selection import (
    CalibratedOptions,
    Candidate,
    Judge,
    Samples,
    choose,
    rows_lines,
    split_samples,
)
from workers.stages.samples import Feeds
from workers.stages.tool_calls import python_command, tool_call


@dataclass(frozen=True, slots=True)
class Way:
    """Whether each channel of the weights has a scale of its own."""

    name: str
    per_channel: bool


WAYS = (Way("per channel", True), Way("per tensor", False))


@stage(
    name="quantize-executorch-int8-static",
    version="3",
    kind=Kind.QUANTIZE,
    environment="executorch",
    source=Format.TORCH_EXPORTED_PROGRAM,
    target=Format.EXECUTORCH,
    inputs=("calibration",),
    options=CalibratedOptions,
    recipe="int8-static",
    tools=(*TOOLS, "torchao"),
    preload=(
        *PRELOAD,
        "executorch.backends.xnnpack.quantizer.xnnpack_quantizer",
        "torchao.quantization.pt2e.quantize_pt2e",
    ),
    spawns=True,
)
def run(given: StageInput) -> StageOutput:
    """Write model.pte; facts["sqnr_db"] is the worst output's against the float program, on samples set aside.

    Raises:
        BadData: calibration samples that do not fit the inputs.
        BadRequest: the program was exported in training mode.
        ConversionFailed: no way gave a file that loads, runs and stays finite.
    """
    samples = split_samples(given)
    candidates = [Candidate(way.name, _writer(given, samples, way)) for way in WAYS]
    judge = Judge(given, Format.EXECUTORCH, samples.selection, source_kind=Format.TORCH_EXPORTED_PROGRAM)
    chosen = choose(judge, candidates)
    way = next(way for way in WAYS if way.name == chosen.name)
    return chosen.output(_reproduce(given, way))


def _writer(given: StageInput, samples: Samples, way: Way) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        program = load_fixed_program(given.files["model"], given.options.input_specs, given.options.ranges)
        with tool_call("torchao"):
            quantized = quantize(program, samples.calibration, per_channel=way.per_channel)
        write_program(quantized, path)

    return write


def quantize(program: Any, rows: tuple[Feeds, ...], *, per_channel: bool) -> Any:
    """Return the program with quantize and dequantize nodes, calibrated on `rows` (inputs in the program's order)."""
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    feeds = [tuple(torch.from_numpy(array) for array in row.values()) for row in rows]
    config = get_symmetric_quantization_config(is_per_channel=per_channel)
    prepared = prepare_pt2e(program.module(), XNNPACKQuantizer().set_global(config))
    with torch.no_grad():
        for feed in feeds:
            prepared(*feed)
    return torch.export.export(convert_pt2e(prepared), feeds[0])


def _reproduce(given: StageInput, way: Way) -> str:
    """Repeat the call on a program and calibration.npz."""
    return python_command(
        "import torch",
        "from workers.stages.quantize.quantize_executorch_int8_static import quantize",
        *load_lines(given.options.input_specs, given.options.ranges),
        *rows_lines(given),
        f"program = quantize(program, rows, per_channel={way.per_channel})",
        *LOWER_LINES,
    )
