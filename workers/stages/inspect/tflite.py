"""Inspect a TFLite model.

Tested with ai-edge-litert 2.3.0. Source: the TFLite schema (schema.fbs) and LiteRT's interpreter.
The validity test is an interpreter with allocated tensors; operators are then read from the verified flatbuffer.
"""

from __future__ import annotations

import math
import mmap
import re
from collections import Counter
from pathlib import Path
from typing import Any

from farm.domain.codec import encode
from farm.domain.errors import CorruptModel, CustomOperator, Incompatible
from farm.domain.facts import Format, ModelFacts, TensorSpec
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.edgetpu.limits import KNOWN_CUSTOM
from workers.edgetpu.model import declared_specs, read_model
from workers.edgetpu.predict import predict
from workers.runtimes.files import entry_file
from workers.runtimes.litert import SUFFIXES, LiteRtSession
from workers.stages.inspect.reading import DAMAGE, reading
from workers.stages.wording import plain

EDGE_TPU = "edgetpu-custom-op"
RESAVE = "Convert the model again and check that the copy is complete."
_UNRESOLVED = re.compile(r"unresolved custom op: (?P<custom>[\w:.\-]*[\w:\-])|\((?P<flex>Flex\w+)\) failed to prepare")
_MAGIC, _MAGIC_AT = b"TFL3", 4


@stage(
    name="inspect-tflite",
    version="3",
    kind=Kind.INSPECT,
    source=Format.TFLITE,
    environment="litert",
    tools=("ai-edge-litert",),
    preload=("numpy", "ai_edge_litert.interpreter"),
    timeout_s=60.0,
)
def run(given: StageInput) -> StageOutput:
    """Open the model and count its operators.

    Returns: facts, the JSON of ModelFacts; integer tensors carry scale and zero point, `extra` has the subgraphs
        and, as `edgetpu`, what the Edge TPU compiler is predicted to make of the model.
    Raises: CorruptModel, CustomOperator; Incompatible for a file compiled for the Edge TPU.
    """
    entry = entry_file(given.files["model"], SUFFIXES)
    inputs, outputs = _signature(entry)
    with reading(entry.name), entry.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        model = _flatbuffer(data)
        operators, parameters, subgraphs = _operators(model), _parameters(model), model.SubgraphsLength()
        edge_tpu = _edge_tpu(data)
        producer = plain((model.Description() or b"").decode(errors="replace"), limit=200) or None
    facts = ModelFacts(
        format=Format.TFLITE,
        inputs=inputs,
        outputs=outputs,
        operators=dict(operators),
        parameters=parameters,
        size_bytes=entry.stat().st_size,
        producer=producer,
        extra={"subgraphs": subgraphs, "edgetpu": edge_tpu},
    )
    return StageOutput(facts=encode(facts))


def _signature(entry: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return inputs and outputs; of a model whose custom operator only the Edge TPU's runtime has, as declared.

    Raises:
        CorruptModel, CustomOperator, Incompatible: LiteRT does not open it.
    """
    try:
        session = _open(entry)
    except CustomOperator as error:
        if error.evidence.get("operator") not in KNOWN_CUSTOM:
            raise
        model = read_model(entry.read_bytes())
        return declared_specs(model, model.inputs), declared_specs(model, model.outputs)
    return session.inputs, session.outputs


def _edge_tpu(data: mmap.mmap) -> dict[str, Any]:
    facts = predict(data).as_facts()
    for operator in facts["operators"]:
        operator["type"] = plain(operator["type"], limit=100)
        operator["reason"] = None if operator["reason"] is None else plain(operator["reason"], limit=300)
    return {**facts, "refusal": None if facts["refusal"] is None else plain(facts["refusal"], limit=300)}


def _open(entry: Path) -> LiteRtSession:
    with entry.open("rb") as file:
        head = file.read(_MAGIC_AT + len(_MAGIC))
    if head[_MAGIC_AT:] != _MAGIC:
        raise CorruptModel(f"{entry.name} is not a TFLite model: it lacks the mark TFL3.", remedy=RESAVE)
    try:
        return LiteRtSession(entry)
    except DAMAGE as exc:
        raise _refusal(entry, str(exc)) from exc


def _refusal(entry: Path, message: str) -> Exception:
    found = _UNRESOLVED.search(message)
    operator = (found["custom"] or found["flex"]) if found else None
    if operator == EDGE_TPU:
        return Incompatible(
            f"{entry.name} is already compiled for the Edge TPU.", remedy="Submit the model before compilation."
        )
    if operator:
        return CustomOperator(
            f"{entry.name} uses operator {operator}, which LiteRT does not have.",
            remedy="Convert the model with built-in operators only (no Select TF ops).",
            operator=operator,
            domain="tflite",
        )
    return CorruptModel(f"LiteRT does not open {entry.name}: {plain(message, limit=500)}", remedy=RESAVE)


def _flatbuffer(data: mmap.mmap) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    return schema.Model.GetRootAs(data, 0)


def _operators(model: Any) -> Counter[str]:
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    codes = [model.OperatorCodes(index) for index in range(model.OperatorCodesLength())]
    kinds = [
        code.CustomCode().decode(errors="replace")
        if code.CustomCode()
        else names.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "UNKNOWN")
        for code in codes
    ]
    graphs = (model.Subgraphs(index) for index in range(model.SubgraphsLength()))
    return Counter(kinds[g.Operators(index).OpcodeIndex()] for g in graphs for index in range(g.OperatorsLength()))


def _parameters(model: Any) -> int:
    """Count the elements of every tensor whose values the file holds."""
    total = 0
    for graph in (model.Subgraphs(index) for index in range(model.SubgraphsLength())):
        for tensor in (graph.Tensors(index) for index in range(graph.TensorsLength())):
            buffer = model.Buffers(tensor.Buffer())
            if buffer.DataLength() or buffer.Size():
                total += math.prod(tensor.Shape(axis) for axis in range(tensor.ShapeLength()))
    return total
