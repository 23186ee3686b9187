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
from farm.domain.facts import TensorSpec
from farm.domain.stage import StageInput
from workers.runtimes.onnxruntime import refusals
from workers.stages.onnx_files import fix_axes, load_inlined, named_in_commands, number_tensors, raise_opset
from workers.stages.tool_calls import python_specs, tool_call
from workers.stages.transforms import interface

if TYPE_CHECKING:
    import onnx

LEAST_OPSET, OPSET = 13, 17
LARGE_BYTES = 1 << 28
"""Of weights: above, copies count (folding and optimizing a model of 475 MiB held 7.7 times its size)."""


def prepare(given: StageInput) -> Path:
    """Write prepared.onnx, as `prepare_model` does.

    Raises:
        ConversionFailed: the tools refuse the model.
    """
    path = given.work / "prepared.onnx"
    with tool_call("onnxruntime", *refusals()):
        prepare_model(given.files["model"], path, interface(given)[0])
    return path


def prepare_model(source: Path, path: Path, input_specs: tuple[TensorSpec, ...]) -> None:
    """Fix axes, raise the opset, infer shapes, fold constants and batch norms, and shorten names.

    Every node has a name afterwards, the same one in every run. Weights over `LARGE_BYTES` lie beside the file, and
    nothing is folded in such a model, for which the tools would hold several copies of it.

    Args:
        source: the model, or the folder of one with external data.
        path: what to write.
        input_specs: its inputs, every axis fixed.

    Raises: what the tools raise.
    """
    import onnx

    model = raise_opset(load_inlined(source), LEAST_OPSET, OPSET)
    fix_axes(model, input_specs)
    if weight_bytes(model) > LARGE_BYTES:
        number_tensors(model)
        _name_nodes(model)
        onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=1024)
        return
    onnx.save(model, path)
    _pre_process(path)
    prepared = onnx.load(path)
    number_tensors(prepared)
    _name_nodes(prepared)
    onnx.save(onnx.shape_inference.infer_shapes(prepared), path)


def prepare_lines(given: StageInput) -> tuple[str, ...]:
    """Return lines of Python that write prepared.onnx as the stage did, for a command that repeats a call."""
    model = named_in_commands(given.files["model"])
    return (
        "from pathlib import Path",
        "from farm.domain.facts import TensorSpec",
        "from workers.stages.quantize.onnx_preparation import prepare_model",
        f"prepare_model(Path({model!r}), Path('prepared.onnx'), {python_specs(interface(given)[0])})",
    )


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
