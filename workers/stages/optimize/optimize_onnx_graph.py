"""Rewrite an ONNX graph for ONNX Runtime: fixed axes, constants folded, operators fused; weights keep float32.

Tools: onnxslim 0.1.98 and, for models with attention, onnxruntime.transformers.optimizer, onnxruntime 1.32.0.
Document: https://onnxruntime.ai/docs/performance/transformers-optimization.html
Formula: y = x; what the graph computes stays, only the number of operators falls.
Limits: fused operators of domain com.microsoft run in ONNX Runtime alone. ONNX Runtime fuses much of this by itself
whenever it loads a model, so the gain in speed is small and must be measured. A graph of fixed shapes of which nothing
can be folded, fused or dropped is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from farm.domain.errors import ConversionFailed
from farm.domain.facts import Format
from farm.domain.recipe import RECIPES
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.stages.onnx_files import fix_axes, fixed_lines, load_inlined
from workers.stages.quantize.onnx_preparation import operators
from workers.stages.quantize.selection import Candidate, Judge, choose, seeded_samples
from workers.stages.tool_calls import python_command, tool_call
from workers.stages.transforms import interface

if TYPE_CHECKING:
    import onnx

ATTENTION = frozenset({"Softmax", "MatMul"})


@stage(
    name="optimize-onnx-graph",
    version="2",
    kind=Kind.OPTIMIZE,
    environment="builder",
    source=Format.ONNX,
    target=Format.ONNX,
    recipe="graph",
    tools=("onnxslim", "onnxruntime", "onnx"),
    preload=("onnx", "onnxslim", "onnxruntime", "onnxruntime.transformers.optimizer"),
)
def run(given: StageInput) -> StageOutput:
    """Write model.onnx; facts tell the number of operators before and after.

    Raises:
        ConversionFailed: nothing to simplify, or no way gave a file that loads, runs and stays finite.
    """
    import onnx

    fixed = given.work / "fixed.onnx"
    with tool_call("onnx"):
        model = load_inlined(given.files["model"])
        was_open = has_open_axes(model)
        fix_axes(model, interface(given)[0])
        onnx.save(model, fixed)
    before = operators(fixed)
    ways = [fuse, simplify] if before.keys() >= ATTENTION else [simplify]
    judge = Judge(given, Format.ONNX, seeded_samples(given).selection)
    candidates = [Candidate(way.__name__, _writer(fixed, way)) for way in ways]
    chosen = choose(judge, candidates, enough_db=RECIPES["graph"].degraded_below_db)
    after = operators(chosen.path)
    if after.total() >= before.total() and not was_open:
        raise ConversionFailed(
            f"The graph has {before.total()} operators over fixed shapes, and none can be folded, fused or dropped.",
            remedy="Take float32: the model is as simple as it gets.",
            operators=sorted(before),
        )
    repeated = python_command(
        "import onnx",
        *fixed_lines(given.files["model"], interface(given)[0]),
        f"from workers.stages.optimize.optimize_onnx_graph import {chosen.name}",
        f"onnx.save({chosen.name}(model), 'simple.onnx')",
    )
    return chosen.output(repeated, operators_before=before.total(), operators=after.total())


def has_open_axes(model: onnx.ModelProto) -> bool:
    return any(not axis.HasField("dim_value") for v in model.graph.input for axis in v.type.tensor_type.shape.dim)


def _writer(fixed: Path, way: Callable[[onnx.ModelProto], onnx.ModelProto]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        import onnx

        with tool_call("onnxslim" if way is simplify else "onnxruntime"):
            onnx.save(way(onnx.load(fixed)), path)

    return write


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold constants and drop what computes nothing."""
    import onnxslim

    simple: onnx.ModelProto = onnxslim.slim(model)
    return simple


def fuse(model: onnx.ModelProto) -> onnx.ModelProto:
    """Simplify, then fuse attention, normalization and activation as ONNX Runtime has operators for."""
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.onnx_model_bert import BertOnnxModel

    bert = BertOnnxModel(simplify(model), num_heads=0, hidden_size=0)
    bert.optimize(FusionOptions("bert"))
    fused: onnx.ModelProto = bert.model
    return fused
