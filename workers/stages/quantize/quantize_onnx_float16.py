"""Store an ONNX model's weights in float16; inputs and outputs stay float32.

Tools: onnx 1.23.2 for the weights; onnxruntime.transformers.float16, onnxruntime 1.32.0, for the arithmetic.
Document: https://onnxruntime.ai/docs/performance/model-optimizations/float16.html
Formula: w16 = float16(w). Where the CPU computes in float16, so do the operators; elsewhere each weight is cast back,
which ONNX Runtime does once while it loads: half the file, the speed of float32.
Limits: constants of few values, and those beyond 65504, stay float32.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.facts import Format
from farm.domain.recipe import RECIPES
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.stages.quantize.onnx_preparation import prepare, prepare_lines
from workers.stages.quantize.selection import Candidate, Judge, choose, seeded_samples
from workers.stages.tool_calls import python_command, tool_call

if TYPE_CHECKING:
    import onnx

LEAST_VALUES = 16
"""A constant of fewer values costs more in nodes than it saves."""
LARGEST = 65504.0


@stage(
    name="quantize-onnx-float16",
    version="2",
    kind=Kind.QUANTIZE,
    environment="builder",
    source=Format.ONNX,
    target=Format.ONNX,
    recipe="float16",
    reads=("numeric.float16",),
    tools=("onnxruntime", "onnx"),
    preload=("onnx", "onnxruntime", "onnxruntime.quantization.shape_inference"),
)
def run(given: StageInput) -> StageOutput:
    """Write model.onnx; facts["sqnr_db"] is the worst output's against the float model, on seeded inputs in [0, 1).

    Raises:
        ConversionFailed: no way gave a file that loads, runs and stays finite.
    """
    ways = [halve, halve_weights] if given.profile.get("numeric.float16") else [halve_weights]
    prepared = prepare(given)
    judge = Judge(given, Format.ONNX, seeded_samples(given).selection)
    candidates = [Candidate(_named(way), _writer(prepared, way)) for way in ways]
    chosen = choose(judge, candidates, enough_db=RECIPES["float16"].degraded_below_db)
    way = next(way for way in ways if _named(way) == chosen.name)
    return chosen.output(
        python_command(
            "import onnx",
            *prepare_lines(given),
            f"from workers.stages.quantize.quantize_onnx_float16 import {way.__name__}",
            f"onnx.save({way.__name__}(onnx.load('prepared.onnx')), 'float16.onnx')",
        )
    )


Change = Callable[["onnx.ModelProto"], Any]


def _named(way: Change) -> str:
    return "float16 arithmetic" if way is halve else "float16 weights"


def _writer(prepared: Path, way: Change) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        import onnx

        with tool_call("onnxruntime"):
            onnx.save(way(onnx.load(prepared)), path)

    return write


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """Turn weights and operators into float16; operators without such a kernel keep float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    changed: onnx.ModelProto = convert_float_to_float16(model, keep_io_types=True)
    return changed


def halve_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store weights in float16 and cast each back to float32 under its old name."""
    import numpy as np
    import onnx

    graph, casts = model.graph, []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        if values.size < LEAST_VALUES or not np.abs(values).max() <= LARGEST:
            continue
        name, half = tensor.name, f"{tensor.name}_float16"
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), half))
        casts.append(onnx.helper.make_node("Cast", [half], [name], name=f"{name}_cast", to=onnx.TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    return model
