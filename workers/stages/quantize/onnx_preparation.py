"""ONNX models made ready for ONNX Runtime's quantizers.

Tool: onnxruntime.quantization.shape_inference.quant_pre_process, onnxruntime 1.32.0; opsets under 13 are raised to 17
by onnx 1.23.2's version_converter first, since per-channel scales written below 13 load nowhere.
Document: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html#pre-processing
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from farm.domain.errors import ConversionFailed
from farm.domain.stage import StageInput
from workers.runtimes.onnxruntime import refusals
from workers.stages.onnx_files import fix_axes, load_inlined, number_tensors, raise_opset
from workers.stages.tool_calls import tool_call
from workers.stages.transforms import given_contract

if TYPE_CHECKING:
    import onnx

LEAST_OPSET, OPSET = 13, 17
LARGE_BYTES = 1 << 30
PREPARE_LINES = (
    "from onnxruntime.quantization.shape_inference import quant_pre_process",
    "quant_pre_process('model.onnx', 'prepared.onnx', skip_symbolic_shape=True)",
)
"""Python that repeats the preparation of a model with fixed axes."""


def prepare(given: StageInput) -> Path:
    """Fix axes, raise the opset, infer shapes, fold constants and batch norms, and shorten names.

    Every node has a name afterwards, the same one in every run. Weights over `LARGE_BYTES` lie beside the file, and
    nothing is folded in such a model, for which the tools would hold several copies of it.

    Raises:
        ConversionFailed: the tools refuse the model.
    """
    import onnx

    path = given.work / "prepared.onnx"
    with tool_call("onnxruntime", *refusals()):
        model = raise_opset(load_inlined(given.files["model"]), LEAST_OPSET, OPSET)
        fix_axes(model, tuple(binding.artifact for binding in given_contract(given).inputs))
        if weight_bytes(model) > LARGE_BYTES:
            number_tensors(model)
            _name_nodes(model)
            onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=1024)
            return path
        onnx.save(model, path)
        _pre_process(path)
        prepared = onnx.load(path)
        number_tensors(prepared)
        _name_nodes(prepared)
        onnx.save(onnx.shape_inference.infer_shapes(prepared), path)
    return path


def _pre_process(path: Path) -> None:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(path, path, skip_symbolic_shape=True)


def weight_bytes(model: onnx.ModelProto) -> int:
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


def _name_nodes(model: onnx.ModelProto) -> None:
    taken: set[str] = set()
    for at, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{at}"
        taken.add(node.name)


def operators(path: Path) -> Counter[str]:
    """Count the types of operators of a file, those inside of loops and branches too."""
    import onnx

    found: Counter[str] = Counter()
    graphs = [onnx.load(path, load_external_data=False).graph]
    while graphs:
        for node in graphs.pop().node:
            found[node.op_type] += 1
            for attribute in node.attribute:
                graphs += [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
    return found


def refuse_unchanged(path: Path, made: frozenset[str], recipe: str) -> None:
    """Look into a file that a quantizer wrote; `made` are the operators that it puts in.

    Raises:
        ConversionFailed: it holds none of them.
    """
    found = operators(path)
    if made.isdisjoint(found):
        raise ConversionFailed(
            f"ONNX Runtime found no operator to quantize by {recipe} among {', '.join(sorted(found)[:8])}.",
            remedy="Take int8-static or float16.",
            operators=sorted(found),
        )
