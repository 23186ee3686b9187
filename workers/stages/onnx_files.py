"""ONNX files made ready for a converter: one file of standard operators, every input axis fixed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from farm.domain.errors import Incompatible, MissingFile, UnsafeModel
from farm.domain.facts import TensorSpec
from workers.runtimes.files import entry_file
from workers.runtimes.onnxruntime import SUFFIXES
from workers.stages.tool_calls import python_specs, tool_call

if TYPE_CHECKING:
    import onnx

STANDARD = ("", "ai.onnx")
"""Both names of the standard operators' domain."""
_NO_FILE = "is not regular file"


def load_inlined(path: Path) -> onnx.ModelProto:
    """Load an ONNX file, or the folder of one, with its external data read into the model and its functions inlined.

    Raises:
        MissingFile: the external data is not beside the file.
        UnsafeModel: the external data lies outside the model's folder.
        ConversionFailed: a function that can't be inlined.
    """
    import onnx

    file = entry_file(path, SUFFIXES)
    try:
        model = onnx.load(file)
    except onnx.checker.ValidationError as exc:
        raise external_data_error(file.name, exc) from exc
    with tool_call("onnx", *inliner_errors()):
        model = without_functions(model)
    drop_initializer_inputs(model)
    return model


def named_in_commands(path: Path) -> str:
    """Name a model's file, or the folder that it comes in with its data, as commands that repeat a call do."""
    return "model" if path.is_dir() else "model.onnx"


def fixed_lines(path: Path, input_specs: tuple[TensorSpec, ...]) -> tuple[str, ...]:
    """Return lines of Python that load `model` with every axis fixed, for a command that repeats a call."""
    return (
        "from pathlib import Path",
        "from farm.domain.facts import TensorSpec",
        "from workers.stages.onnx_files import fix_axes, load_inlined",
        f"model = load_inlined(Path({named_in_commands(path)!r}))",
        f"fix_axes(model, {python_specs(input_specs)})",
    )


def without_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Put the body of every function of the model's own in the place of its calls, as exporters of 2023 wrote them.

    A body of another opset is converted to the model's, for which the inliner wants the type of every tensor. The
    functions' own operator sets are then imported no longer.

    Raises: what inliner_errors() lists.
    """
    from onnx import inliner, shape_inference

    if not model.functions:
        return model
    local = {function.domain for function in model.functions}
    flat: onnx.ModelProto = inliner.inline_local_functions(model)
    if flat.functions:
        flat = inliner.inline_local_functions(shape_inference.infer_shapes(flat), convert_version=True)
    unused = local - {node.domain for node in nodes(flat.graph)} - set(STANDARD)
    for entry in [entry for entry in flat.opset_import if entry.domain in unused]:
        flat.opset_import.remove(entry)
    return flat


def write_inlined(path: Path, copy: Path) -> Path | None:
    """Write a copy without functions, its weights inside, for a tool that reads files; None where there are none.

    Raises:
        ConversionFailed: a function that can't be inlined, or a copy over the 2 GiB of one file.
    """
    import onnx

    if not has_functions(path):
        return None
    model = load_inlined(path)
    with tool_call("onnx"):
        onnx.save(model, copy)
    return copy


def has_functions(path: Path) -> bool:
    """Tell whether a model has functions of its own."""
    import onnx

    return bool(onnx.load(entry_file(path, SUFFIXES), load_external_data=False).functions)


def inliner_errors() -> tuple[type[Exception], ...]:
    """Name what the inliner raises: those of onnx derive from Exception alone."""
    import onnx
    from onnx import shape_inference, version_converter

    known = onnx.checker.ValidationError, version_converter.ConvertError, shape_inference.InferenceError
    return (*known, RuntimeError, ValueError)


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield every node of a graph and of the bodies in it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from nodes(body)


def external_data_error(subject: str, exc: onnx.checker.ValidationError) -> MissingFile | UnsafeModel:
    """Tell a file that is not there from one that may not be read: onnx 1.23 does so by its text alone."""
    if _NO_FILE in str(exc):
        return MissingFile(
            f"{subject} refers to an external data file that was not submitted.",
            remedy="Submit the folder that holds the model and its data files.",
        )
    return UnsafeModel(
        f"{subject} refers to external data that cannot be read safely: {exc}",
        remedy="Save the model again with its data files beside it, named without folders or links.",
    )


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


def raise_opset(model: onnx.ModelProto, least: int, target: int) -> onnx.ModelProto:
    """Convert a model of an opset under `least` to `target`; others stay as they are.

    Raises:
        Incompatible: it imports no standard operators.
        ConversionFailed: an operator that has no form in `target`.
    """
    from onnx import version_converter

    version = opset(model)
    if version is None:
        held = ", ".join(f"{entry.domain} {entry.version}" for entry in model.opset_import) or "none"
        raise Incompatible(
            f"The model imports no standard operators, only {held}; at least opset {least} of ai.onnx is needed.",
            remedy=f"Add ai.onnx with version {target} to the model's opset_import, or export the part with weights.",
        )
    if version >= least:
        return model
    del model.graph.value_info[:]
    with tool_call("onnx", version_converter.ConvertError):
        raised: onnx.ModelProto = version_converter.convert_version(model, target)
    return raised


def opset(model: onnx.ModelProto) -> int | None:
    """Return the version of the standard operators, or None where the model imports other ones alone."""
    return next((int(entry.version) for entry in model.opset_import if entry.domain in STANDARD), None)


def number_tensors(model: onnx.ModelProto) -> None:
    """Give inner tensors short unique names: tools that append suffixes to long ones produce collisions.

    A name ends in no digit, since ONNX Runtime's quantizer numbers the copies of a shared bias: t4 would become t49.
    Models with subgraphs stay as they are, since names reach into those.
    """
    graph = model.graph
    if any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute):
        return
    fixed = {value.name for value in (*graph.input, *graph.output)} | {""}
    names = [tensor.name for tensor in graph.initializer] + [name for node in graph.node for name in node.output]
    free = (name for name in map("t{}_".format, itertools.count()) if name not in fixed)
    short = {name: next(free) for name in dict.fromkeys(names) if name not in fixed}
    for tensor in graph.initializer:
        tensor.name = short.get(tensor.name, tensor.name)
    for at, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{at}"
        node.input[:] = [short.get(name, name) for name in node.input]
        node.output[:] = [short.get(name, name) for name in node.output]
    del graph.value_info[:]


def rename_interface(model: onnx.ModelProto, inputs: dict[str, str], outputs: dict[str, str]) -> None:
    """Rename inputs and outputs; a new output name that an inner tensor holds already moves that tensor aside."""
    graph = model.graph
    renamed = {**inputs, **outputs}
    taken = {name: f"{name}_inner" for name in renamed.values() if name not in renamed}
    short = {**taken, **renamed}
    _rename_tensors(graph, short)
    for value in (*graph.input, *graph.output):
        value.name = renamed.get(value.name, value.name)


def _rename_tensors(graph: onnx.GraphProto, short: dict[str, str]) -> None:
    """Rename what nodes and initializers call tensors, also in the bodies of If and Loop, which see those outside."""
    for node in graph.node:
        node.input[:] = [short.get(name, name) for name in node.input]
        node.output[:] = [short.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for body in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                _rename_tensors(body, short)
                for value in (*body.input, *body.output):
                    value.name = short.get(value.name, value.name)
    for tensor in graph.initializer:
        tensor.name = short.get(tensor.name, tensor.name)
    del graph.value_info[:]
