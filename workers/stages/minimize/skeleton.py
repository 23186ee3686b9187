"""Reduce an ONNX model to its skeleton: operators, shapes and structure, and nothing else of who made it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from farm.domain.facts import TensorSpec
from workers.runtimes.files import entry_file
from workers.runtimes.onnxruntime import SUFFIXES
from workers.stages.minimize.folding import known_values
from workers.stages.minimize.neutral import Neutral
from workers.stages.minimize.structure import is_small, structural_names
from workers.stages.onnx_files import drop_initializer_inputs, external_data_error, fix_axes

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Skeleton:
    """What was found on the way; `names` are all that the model gave to nodes and tensors."""

    operators: tuple[str, ...]
    original_nodes: int
    names: tuple[str, ...]


def make_skeleton(source: Path, inputs: tuple[TensorSpec, ...], seed: int, path: Path) -> Skeleton:
    """Write `path`: weights are declared without data, tensors whose value is known besides get it as initializers.

    External data is read for structure alone, so a model of any size needs little memory.
    """
    import onnx

    file = entry_file(source, SUFFIXES)
    model = onnx.load(file, load_external_data=False)
    original_nodes = len(model.graph.node)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    drop_initializer_inputs(model)
    fix_axes(model, inputs)
    _constants_as_initializers(model.graph)
    _strip(model, file.parent)
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    inferred.graph.initializer.extend(known_values(inferred))
    neutral = Neutral(inferred, seed)
    onnx.save(neutral.model(), path)
    operators = tuple(node.op_type for node in inferred.graph.node)
    return Skeleton(operators, original_nodes, neutral.names)


def _constants_as_initializers(graph: onnx.GraphProto) -> None:
    """Turn Constant nodes into what they are: neither can then be left out without the other."""
    import numpy as np
    from onnx import helper, numpy_helper

    for node in [node for node in graph.node if node.op_type == "Constant" and node.domain in ("", "ai.onnx")]:
        (attribute,) = node.attribute
        if attribute.name == "sparse_value":
            continue
        value = helper.get_attribute_value(attribute)
        if attribute.name != "value":
            dtype = {
                "value_float": np.float32,
                "value_floats": np.float32,
                "value_int": np.int64,
                "value_ints": np.int64,
            }
            value = numpy_helper.from_array(np.asarray(value, dtype.get(attribute.name, np.object_)))
        value.name = node.output[0]
        graph.initializer.append(value)
        graph.node.remove(node)


def _strip(model: onnx.ModelProto, folder: Path) -> None:
    """Leave of each initializer its name, type and shape; structure keeps its values."""
    import onnx

    structural = structural_names(model)
    kept: list[onnx.TensorProto] = []
    for tensor in model.graph.initializer:
        if tensor.name in structural and is_small(tensor):
            _load_external(tensor, folder)
            kept.append(tensor)
        else:
            kept.append(onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims))
    kept = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _load_external(tensor: onnx.TensorProto, folder: Path) -> None:
    from onnx import TensorProto, checker, external_data_helper

    if tensor.data_location != TensorProto.EXTERNAL:
        return
    try:
        external_data_helper.load_external_data_for_tensor(tensor, str(folder))
    except checker.ValidationError as exc:
        raise external_data_error(tensor.name, exc) from exc
    tensor.ClearField("data_location")
    del tensor.external_data[:]
