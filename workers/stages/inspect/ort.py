"""Inspect an ORT-format model.

Tested with onnxruntime 1.32.0. Source: ONNX Runtime, ort.fbs (core/flatbuffers/schema), read with the accessors that
the onnxruntime package brings. The validity test is a session, which verifies the flatbuffer first; operators are those
left after the optimizations that were saved, so fused ones stand for several of the model it was made of.
"""

from __future__ import annotations

import importlib
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from farm.domain.codec import encode
from farm.domain.errors import CorruptModel
from farm.domain.facts import Format, ModelFacts
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.runtimes.files import entry_file
from workers.runtimes.onnxruntime import OnnxSession, is_ort_format, refusals
from workers.stages.inspect.reading import DAMAGE, reading
from workers.stages.wording import plain

SUFFIXES = (".ort",)
RESAVE = "Save it again with this ONNX Runtime's major version, or submit the ONNX file it was made of."


@stage(
    name="inspect-ort",
    version="1",
    kind=Kind.INSPECT,
    source=Format.ORT,
    environment="builder",
    tools=("onnxruntime",),
    preload=("numpy", "onnx", "onnxruntime"),
    timeout_s=120.0,
)
def run(given: StageInput) -> StageOutput:
    """Open the model and count its operators.

    Returns: facts, the JSON of ModelFacts; `extra` holds the version of the file format, ir_version and operator-set
        domains.
    Raises: CorruptModel.
    """
    entry = entry_file(given.files["model"], SUFFIXES)
    session = _open(entry)
    with reading(entry.name):
        version, model = _flatbuffer(entry.read_bytes())
        domains = {_domain(one.Domain()): int(one.Version()) for one in _each(model, "OpsetImport")}
        operators = Counter(_qualified(node) for graph in _graphs(model.Graph()) for node in _each(graph, "Nodes"))
        stored = [tensor for graph in _graphs(model.Graph()) for tensor in _each(graph, "Initializers")]
        producer = plain(_text(model.ProducerName()), limit=200) or None
    facts = ModelFacts(
        format=Format.ORT,
        inputs=session.inputs,
        outputs=session.outputs,
        operators=dict(operators),
        parameters=sum(math.prod(tensor.Dims(axis) for axis in range(tensor.DimsLength())) for tensor in stored),
        size_bytes=entry.stat().st_size,
        opset=domains.get("ai.onnx"),
        producer=producer,
        extra={"ort_format_version": version, "ir_version": int(model.IrVersion()), "domains": domains},
    )
    return StageOutput(facts=encode(facts))


def _open(entry: Path) -> OnnxSession:
    if not is_ort_format(entry):
        raise CorruptModel(f"{entry.name} is not an ORT-format model: it lacks the mark ORTM.", remedy=RESAVE)
    try:
        return OnnxSession(entry)
    except (*refusals(), *DAMAGE) as exc:
        raise CorruptModel(
            f"ONNX Runtime does not open {entry.name}: {plain(str(exc), limit=500)}", remedy=RESAVE
        ) from exc


def _flatbuffer(data: bytes) -> tuple[str, Any]:
    """Return the version of the file format, and the model's table; the first import makes the schema importable."""
    importlib.import_module("onnxruntime.tools.ort_format_model")
    schema = importlib.import_module("ort_flatbuffers_py.fbs.InferenceSession")
    session = schema.InferenceSession.GetRootAs(data, 0)
    return plain(_text(session.OrtVersion()), limit=20), session.Model()


def _graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in _each(graph, "Nodes"):
        for attribute in _each(node, "Attributes"):
            if inner := attribute.G():
                yield from _graphs(inner)


def _each(table: Any, field: str) -> Iterator[Any]:
    """Yield the elements of a vector of the schema."""
    for index in range(getattr(table, f"{field}Length")()):
        yield getattr(table, field)(index)


def _qualified(node: Any) -> str:
    domain = _domain(node.Domain())
    kind = plain(_text(node.OpType()), limit=100)
    return kind if domain == "ai.onnx" else f"{domain}:{kind}"


def _domain(name: bytes | None) -> str:
    return plain(_text(name), limit=100) or "ai.onnx"


def _text(stored: bytes | None) -> str:
    return (stored or b"").decode(errors="replace")
