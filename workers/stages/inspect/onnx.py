"""Inspect an ONNX model, alone or in a folder with its external data.

Tested with onnx 1.23.2 and onnxruntime 1.32.0. Source: the ONNX IR specification.
The validity test is a session of ONNX Runtime: onnx.checker passes operators that nothing runs.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from farm.domain.codec import encode
from farm.domain.errors import BadRequest, CorruptModel, CustomOperator, Incompatible, MissingFile, UnsafeModel
from farm.domain.facts import Format, ModelFacts
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.runtimes.files import entry_file, tree_size_bytes
from workers.runtimes.onnxruntime import SUFFIXES, OnnxSession, refusals
from workers.stages.inspect.reading import DAMAGE
from workers.stages.onnx_files import inliner_errors, without_functions
from workers.stages.wording import plain

DEFAULT_DOMAIN = "ai.onnx"
RESAVE = "Export the model again and check that the copy is complete."
OLDEST_OPSET = 7
"""The first opset that ONNX Runtime promises to run; some operators of older ones have no kernel."""
_RAISE_OPSET = "Raise its opset: onnx.save(onnx.version_converter.convert_version(onnx.load(file), 17), file)."
_IR_LIMIT = re.compile(r"max supported IR version: (?P<limit>\d+)")
_OPSET_LIMIT = re.compile(r"support for domain ai\.onnx is till opset (?P<limit>\d+)")
_UNREGISTERED = re.compile(
    r"(?P<domain>[^\s:]*):(?P<operator>[^\s(]+)\(-?\d+\) is not a registered function/op"
    r"|No Op registered for (?P<bare>\w+)"
)


@stage(
    name="inspect-onnx",
    version="3",
    kind=Kind.INSPECT,
    source=Format.ONNX,
    environment="builder",
    tools=("onnx", "onnxruntime"),
    preload=("numpy", "onnx", "onnxruntime"),
    timeout_s=120.0,
)
def run(given: StageInput) -> StageOutput:
    """Parse the model, check its external data and its operators, and open it.

    Returns: facts, the JSON of ModelFacts; `operators` are those of the graph with the model's own functions inlined,
        `parameters` counts every stored tensor of it, `extra` holds ir_version, operator-set domains, external data
        files and how many functions there were.
    Raises: CorruptModel, MissingFile, UnsafeModel, CustomOperator, Incompatible; BadRequest for a model that was
        exported in training mode.
    """
    path = given.files["model"]
    parsed = _parse(entry_file(path, SUFFIXES))
    model = _flat(parsed)
    external = _check_external(model, path)
    _refuse_training(model)
    operators = Counter(_qualified(node) for node in _nodes(model.graph))
    session = _open(path, model)
    facts = ModelFacts(
        format=Format.ONNX,
        inputs=session.inputs,
        outputs=session.outputs,
        operators=dict(operators),
        parameters=sum(math.prod(tensor.dims) for tensor in _tensors(model)),
        size_bytes=tree_size_bytes(path),
        opset=_opset(model),
        producer=plain(f"{model.producer_name} {model.producer_version}", limit=200) or None,
        extra={
            "ir_version": model.ir_version,
            "domains": {entry.domain or DEFAULT_DOMAIN: entry.version for entry in model.opset_import},
            "external_data": sorted(external),
            "functions": len(parsed.functions),
        },
    )
    return StageOutput(facts=encode(facts))


def _parse(entry: Path) -> Any:
    """Read the protobuf without its external data.

    Raises:
        CorruptModel: it is no ONNX model.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model(str(entry), format="protobuf", load_external_data=False)
    except (DecodeError, *DAMAGE) as exc:
        raise CorruptModel(f"{entry.name} is not a complete ONNX model: {plain(str(exc))}.", remedy=RESAVE) from exc
    if not model.opset_import or not model.graph.node:
        raise CorruptModel(f"{entry.name} is not an ONNX model: it has no operator set or no node.", remedy=RESAVE)
    return model


def _flat(model: Any) -> Any:
    """Inline the model's own functions; where that can't be done, the session tells whether the model is sound."""
    try:
        return without_functions(model)
    except inliner_errors():
        return model


def _refuse_training(model: Any) -> None:
    """See that no dropout drops and no batch norm follows the batch.

    Raises:
        BadRequest: naming the operator and its node.
    """
    for node in _nodes(model.graph):
        if node.domain in ("", DEFAULT_DOMAIN) and _is_training(model, node):
            name = f" ({plain(node.name, limit=200)})" if node.name else ""
            raise BadRequest(
                f"The model was exported in training mode: {node.op_type}{name} is active.",
                remedy="Call model.eval() and export it again; torch.onnx.export takes training=TrainingMode.EVAL.",
                operator=node.op_type,
            )


def _is_training(model: Any, node: Any) -> bool:
    if node.op_type == "BatchNormalization":
        return any(attribute.name == "training_mode" and attribute.i for attribute in node.attribute)
    if node.op_type != "Dropout" or len(node.input) < 3 or not node.input[2]:
        return False
    flags = [tensor for tensor in model.graph.initializer if tensor.name == node.input[2]]
    flags += [
        attribute.t
        for other in model.graph.node
        if other.op_type == "Constant" and node.input[2] in other.output
        for attribute in other.attribute
        if attribute.name == "value"
    ]
    return any(any(flag.raw_data) or any(flag.int32_data) for flag in flags)


def _opset(model: Any) -> int | None:
    return next((int(entry.version) for entry in model.opset_import if entry.domain in ("", DEFAULT_DOMAIN)), None)


def _tensors(model: Any) -> Iterator[Any]:
    """Yield every stored tensor: initializers and attributes, of all subgraphs."""
    for graph in _graphs(model.graph):
        yield from graph.initializer
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


def _graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _graphs(inner)


def _nodes(graph: Any) -> Iterator[Any]:
    for each in _graphs(graph):
        yield from each.node


def _qualified(node: Any) -> str:
    return node.op_type if node.domain in ("", DEFAULT_DOMAIN) else f"{node.domain}:{node.op_type}"


def _check_external(model: Any, path: Path) -> set[str]:
    """Return the names of external data files, each present beside the model.

    Raises:
        UnsafeModel: a location outside the model's folder.
        MissingFile: naming every file that was not submitted.
    """
    locations = {entry.value for tensor in _tensors(model) for entry in tensor.external_data if entry.key == "location"}
    for location in sorted(locations):
        if _leaves(location):
            raise UnsafeModel(
                f"The model's external data points outside its own folder: {plain(location, limit=200)!r}.",
                remedy="Save the model with its external data in the same folder, by a relative name.",
            )
    folder = path if path.is_dir() else None
    missing = sorted(name for name in locations if folder is None or not _is_inside(folder / name, folder))
    if missing:
        raise MissingFile(
            f"The model refers to external data that was not submitted: {plain(', '.join(missing), limit=500)}. "
            f"{_misplaced(missing, folder)}".rstrip(),
            remedy="Submit the folder that holds the .onnx file and its external data files.",
            files=missing[:100],
        )
    return locations


def _misplaced(missing: list[str], folder: Path | None) -> str:
    """Say what the folder has of these names instead: files elsewhere, and links, which are not followed outside."""
    names = {PurePosixPath(name).name for name in missing}
    found = sorted(file for file in folder.rglob("*") if file.name in names) if folder else []
    told = [
        f"{file.relative_to(folder)} is a link that leads out of the folder."
        if file.is_symlink()
        else f"There is {file.relative_to(folder)}, which is another place than the model names."
        for file in found[:10]
        if folder
    ]
    return plain(" ".join(told), limit=1000)


def _leaves(location: str) -> bool:
    kinds = PurePosixPath(location), PureWindowsPath(location)
    return any(kind.is_absolute() or kind.drive or ".." in kind.parts for kind in kinds) or "\0" in location


def _is_inside(file: Path, folder: Path) -> bool:
    return file.is_file() and file.resolve().is_relative_to(folder.resolve())


def _open(path: Path, model: Any) -> OnnxSession:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    try:
        return OnnxSession(path, optimize=False)
    except state.NotImplemented as exc:
        raise Incompatible(
            f"ONNX Runtime has no CPU kernel for an operator of the model: {plain(str(exc))}",
            remedy="Export it in float32, or replace the operator."
            if (_opset(model) or OLDEST_OPSET) >= OLDEST_OPSET
            else _RAISE_OPSET,
        ) from exc
    except (*refusals(), *DAMAGE) as exc:
        raise _refusal(plain(str(exc), limit=2000), model) from exc


def _refusal(message: str, model: Any) -> Exception:
    if found := _UNREGISTERED.search(message):
        operator, domain = found["operator"] or found["bare"], found["domain"] or DEFAULT_DOMAIN
        return CustomOperator(
            f"The model uses operator {operator} of domain {domain}, which ONNX Runtime does not have.",
            remedy="Export the model with standard ONNX operators only.",
            operator=operator,
            domain=domain,
        )
    if found := _IR_LIMIT.search(message):
        limit = found["limit"]
        return Incompatible(
            f"The model has IR version {model.ir_version}; this farm's ONNX Runtime reads {limit} at most.",
            remedy=f"Set model.ir_version = {limit} on the model that onnx.load returns and save it with onnx.save; "
            "onnx.version_converter changes the opset alone.",
        )
    if found := _OPSET_LIMIT.search(message):
        limit, has = found["limit"], _opset(model)
        return Incompatible(
            f"The model has opset {has}; this farm's ONNX Runtime reads {limit} at most.",
            remedy=f"Export it with opset {limit}, or call onnx.version_converter.convert_version(model, {limit}) "
            f"of an onnx release that knows opset {has}.",
        )
    if "under development" in message:
        return Incompatible(
            f"The model is newer than this farm's ONNX Runtime: {plain(message)}",
            remedy="Export it with a lower version of that operator set.",
        )
    if "bad_alloc" in message or "Failed to allocate" in message:
        return MemoryError(message)
    return CorruptModel(f"ONNX Runtime does not open the model: {message}", remedy=RESAVE)
