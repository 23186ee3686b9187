"""ONNX files made ready for a converter: one file, every input axis fixed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from farm.domain.errors import MissingFile, UnsafeModel
from farm.domain.facts import TensorSpec
from workers.runtimes.files import entry_file
from workers.runtimes.onnxruntime import SUFFIXES

if TYPE_CHECKING:
    import onnx


def load_inlined(path: Path) -> onnx.ModelProto:
    """Load an ONNX file, or the folder of one, with its external data read into the model.

    Raises:
        MissingFile: the external data is not beside the file.
        UnsafeModel: the external data lies outside the model's folder.
    """
    import onnx

    file = entry_file(path, SUFFIXES)
    try:
        model = onnx.load(file)
    except FileNotFoundError as exc:
        raise MissingFile(f"{file.name} refers to an external data file that was not submitted.") from exc
    except onnx.checker.ValidationError as exc:
        raise UnsafeModel(f"{file.name} refers to external data that cannot be read safely: {exc}") from exc
    drop_initializer_inputs(model)
    return model


def drop_initializer_inputs(model: onnx.ModelProto) -> None:
    """Leave only real inputs: before IR version 4, every weight was also listed as an input."""
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in [value for value in model.graph.input if value.name in weights]:
        model.graph.input.remove(value)


def fix_axes(model: onnx.ModelProto, input_specs: tuple[TensorSpec, ...]) -> None:
    """Give every input the size of its spec, and forget what was inferred from open axes."""
    shapes = {spec.name: spec.static_shape for spec in input_specs}
    for value in model.graph.input:
        if value.name not in shapes:
            continue
        shape = value.type.tensor_type.shape
        del shape.dim[:]
        for size in shapes[value.name]:
            shape.dim.add().dim_value = size
    del model.graph.value_info[:]


def fold_constants(model: onnx.ModelProto, work: Path) -> onnx.ModelProto:
    """Let ONNX Runtime fold what is constant once every axis is fixed; only standard operators come out.

    `work` is a folder for the file that ONNX Runtime writes.
    """
    import onnx
    import onnxruntime

    path = work / "folded.onnx"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    folded = onnx.load(path)
    path.unlink()
    return folded
