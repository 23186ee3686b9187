"""Inspect an OpenVINO IR: a folder with one .xml and the .bin of the same name beside it.

Tested with openvino 2026.4.1. Source: OpenVINO documentation, Intermediate Representation format and operation sets.
The validity test is the CPU plugin: only a compiled model proves that every operator has a kernel.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from farm.domain.codec import encode
from farm.domain.errors import CorruptModel, CustomOperator, MissingFile, UnknownFormat
from farm.domain.facts import Format, ModelFacts
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.runtimes.files import entry_file, tree_size_bytes
from workers.runtimes.openvino import SUFFIXES, OpenVinoSession, refusals
from workers.stages.inspect.reading import reading
from workers.stages.wording import plain

RESAVE = "Save it again with openvino.save_model, and submit the folder that holds the .xml and its .bin."
CONSTANT, EXTENSION = "Const", "extension"
NO_OPERATORS = (CONSTANT, "Parameter", "Result")
PADDING_BYTES = 64
"""A weights file may end this much after its last constant."""


@stage(
    name="inspect-openvino-ir",
    version="1",
    kind=Kind.INSPECT,
    source=Format.OPENVINO_IR,
    environment="builder",
    tools=("openvino",),
    preload=("numpy", "openvino"),
    timeout_s=300.0,
)
def run(given: StageInput) -> StageOutput:
    """Read the graph, hold the weights file against it, and compile it.

    Returns: facts, the JSON of ModelFacts; `parameters` counts every constant's elements, `extra` holds the IR's
        version and the elements by type.
    Raises: CorruptModel, MissingFile, CustomOperator, UnknownFormat.
    """
    path = given.files["model"]
    entry = entry_file(path, SUFFIXES)
    graph = _graph(entry)
    layers = list(graph.iter("layer"))
    _check_weights(entry, graph)
    _refuse_extensions(layers)
    with reading(entry.name, *refusals()):
        session = OpenVinoSession(path)
        weights = _weights_types([layer for layer in layers if layer.get("type") == CONSTANT])
    facts = ModelFacts(
        format=Format.OPENVINO_IR,
        inputs=session.inputs,
        outputs=session.outputs,
        operators=dict(Counter(_type(layer) for layer in layers if layer.get("type") not in NO_OPERATORS)),
        parameters=sum(weights.values()),
        size_bytes=tree_size_bytes(path),
        producer=_producer(graph),
        extra={"ir_version": plain(graph.get("version", "?"), limit=20), "weights": weights},
    )
    return StageOutput(facts=encode(facts))


def _graph(entry: Path) -> ElementTree.Element:
    """Parse the .xml, which may declare no entities: they are how a small document becomes a huge one.

    Raises:
        CorruptModel: it is no complete XML document.
        UnknownFormat: it is one, and no network.
    """
    text = entry.read_bytes()
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise UnknownFormat(f"{entry.name} has a document type; OpenVINO's files have none.", remedy=RESAVE)
    try:
        graph = ElementTree.fromstring(text)  # noqa: S314 (entities are refused above)
    except (ElementTree.ParseError, ValueError, LookupError) as exc:
        raise CorruptModel(f"{entry.name} is no complete XML document: {plain(str(exc))}.", remedy=RESAVE) from exc
    if graph.tag != "net" or graph.find("layers") is None:
        raise UnknownFormat(f"{entry.name} is XML, but no OpenVINO network.", remedy=RESAVE)
    return graph


def _check_weights(entry: Path, graph: ElementTree.Element) -> None:
    """Hold the size of the .bin against the constants that the .xml places in it, those of inner graphs too.

    Raises:
        CorruptModel: a place that is no number; a file that is shorter, or so long that it belongs to another model.
        MissingFile: there are constants, and no .bin.
    """
    try:
        ends = [int(data.get("offset", 0)) + int(data.get("size", 0)) for data in graph.iterfind(".//data[@offset]")]
    except ValueError as exc:
        raise CorruptModel(f"{entry.name} places a constant at what is no number.", remedy=RESAVE) from exc
    needed, weights = max(ends, default=0), entry.with_suffix(".bin")
    if needed and not weights.is_file():
        raise MissingFile(f"{entry.name} has no {weights.name} beside it, which holds its weights.", remedy=RESAVE)
    held = weights.stat().st_size if weights.is_file() else 0
    if not needed <= held <= needed + PADDING_BYTES:
        raise CorruptModel(
            f"{weights.name} holds {held:,} bytes, and {entry.name} describes {needed:,}: they are not of one model.",
            remedy=RESAVE,
        )


def _refuse_extensions(layers: list[ElementTree.Element]) -> None:
    """Refuse layers that come from a library beside OpenVINO.

    Raises:
        CustomOperator: naming all of them.
    """
    foreign = sorted({_type(layer) for layer in layers if layer.get("version") == EXTENSION})
    if foreign:
        raise CustomOperator(
            f"The IR holds {', '.join(foreign)}, which OpenVINO itself does not have.",
            remedy="Replace the operator with OpenVINO's own.",
            operator=foreign[0],
            domain=EXTENSION,
        )


def _type(layer: ElementTree.Element) -> str:
    return plain(layer.get("type", "?"), limit=100)


def _elements(constant: ElementTree.Element) -> int:
    """Count a constant's elements; its shape is written "16, 3, 3, 3", and empty for a scalar."""
    data = constant.find("data")
    shape = data.get("shape", "") if data is not None else ""
    return math.prod(int(size) for size in shape.split(",") if size.strip())


def _weights_types(constants: list[ElementTree.Element]) -> dict[str, int]:
    """Count elements by type: what quantization left behind shows here."""
    found: Counter[str] = Counter()
    for constant in constants:
        data = constant.find("data")
        found[plain(data.get("element_type", "?"), limit=20) if data is not None else "?"] += _elements(constant)
    return dict(found)


def _producer(graph: ElementTree.Element) -> str | None:
    version = graph.find("rt_info/Runtime_version")
    return plain(f"openvino {version.get('value')}", limit=200) if version is not None else None
