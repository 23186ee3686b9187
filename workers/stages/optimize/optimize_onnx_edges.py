"""Give an ONNX model other edges on request: channels last, and 32 bits where inputs or outputs have 64.

Tool: onnx 1.23.2; a Transpose, a Cast or both are put between the graph and the tensor that an application sees.
Document: https://onnx.ai/onnx/operators/onnx__Transpose.html
Formula: y = x in another order of axes, or rounded to float32; integers beyond 32 bits can't be fed any more.
Limits: tensors of three axes or more, of fixed sizes. Converters to TFLite lay out axes themselves, so a model is not
sent there afterwards; ONNX Runtime and OpenVINO take it as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from farm.domain.facts import Format, ModelFacts, TensorSpec
from farm.domain.routes import EDGES
from farm.domain.stage import Kind, Options, StageInput, StageOutput, Verdict, stage
from workers.stages.model_sizes import INTO_ONE_ONNX_FILE
from workers.stages.onnx_files import fix_axes, fixed_lines, load_inlined, nodes
from workers.stages.tool_calls import python_command, tool_call
from workers.stages.transforms import given_contract, interface, proven

if TYPE_CHECKING:
    import onnx

NARROWED = {"INT64": "INT32", "UINT64": "UINT32", "DOUBLE": "FLOAT"}
"""Element types of ONNX: what has 64 bits, and what takes its place."""
LEAST_AXES = 3


@dataclass(frozen=True, slots=True)
class EdgeOptions(Options):
    """Which of the source's inputs and outputs get their channels last, and whether 64-bit ones become 32-bit."""

    channel_last_inputs: tuple[str, ...] = ()
    channel_last_outputs: tuple[str, ...] = ()
    narrow_64_bit: bool = False


def check(facts: ModelFacts, profile: Mapping[str, Any], options: EdgeOptions) -> Verdict:
    """Refuse names that the model does not have, and tensors without channels."""
    size = INTO_ONE_ONNX_FILE(facts, profile, options)
    if not size.can:
        return size
    problems = [
        *_problems(options.channel_last_inputs, facts.inputs, "input"),
        *_problems(options.channel_last_outputs, facts.outputs, "output"),
    ]
    return Verdict.no(" ".join(problems)) if problems else Verdict.yes()


def _problems(names: Iterable[str], specs: Sequence[TensorSpec], what: str) -> Iterator[str]:
    known = {spec.name: spec for spec in specs}
    for name in names:
        if name not in known:
            yield f"There is no {what} {name!r} to put channels last in; there are {', '.join(known)}."
        elif (shape := known[name].shape) is not None and len(shape) < LEAST_AXES:
            yield f"The {what} {name!r} has {len(shape)} axes; channels are put last where there are three or more."


@stage(
    name=EDGES,
    version="2",
    kind=Kind.OPTIMIZE,
    environment="builder",
    source=Format.ONNX,
    target=Format.ONNX,
    options=EdgeOptions,
    tools=("onnx",),
    preload=("onnx", "onnxruntime"),
)
def run(given: StageInput) -> StageOutput:
    """Write model.onnx; the contract tells the new order of axes and the new types.

    Raises:
        ContractMismatch, NumericsBroken: its outputs are not the model's in another order.
    """
    import onnx

    options: EdgeOptions = given.options
    contract = given_contract(given)
    inputs, _ = interface(given)
    last = [
        *(b.artifact.name for b in contract.inputs if b.source.name in options.channel_last_inputs),
        *(b.artifact.name for b in contract.outputs if b.source.name in options.channel_last_outputs),
    ]
    path = given.work / "model.onnx"
    with tool_call("onnx"):
        model = load_inlined(given.files["model"])
        fix_axes(model, inputs)
        change_edges(model, last, narrow=options.narrow_64_bit)
        onnx.save(model, path)
    command = python_command(
        "import onnx",
        *fixed_lines(given.files["model"], inputs),
        "from workers.stages.optimize.optimize_onnx_edges import change_edges",
        f"change_edges(model, {last!r}, narrow={options.narrow_64_bit})",
        "onnx.save(model, 'edges.onnx')",
    )
    return proven(given, path, source=Format.ONNX, target=Format.ONNX, reproduce=command)


def change_edges(model: onnx.ModelProto, channel_last: Sequence[str], *, narrow: bool) -> None:
    """Put nodes between the graph and those of its inputs and outputs that are to look otherwise."""
    graph = model.graph
    before = [node for value in graph.input for node in _edge(graph, value, channel_last, narrow=narrow, is_input=True)]
    after = [
        node for value in graph.output for node in _edge(graph, value, channel_last, narrow=narrow, is_input=False)
    ]
    inner = list(graph.node)
    del graph.node[:]
    graph.node.extend([*before, *inner, *after])


def _edge(
    graph: onnx.GraphProto, value: onnx.ValueInfoProto, channel_last: Sequence[str], *, narrow: bool, is_input: bool
) -> list[onnx.NodeProto]:
    """Change one input or output; return the nodes that stand between it and the graph, in their order."""
    from onnx import TensorProto, helper

    tensor, name = value.type.tensor_type, value.name
    was = TensorProto.DataType.Name(tensor.elem_type)
    asked: list[tuple[str, dict[str, Any]]] = []
    if name in channel_last:
        axes = range(len(tensor.shape.dim))
        to_last = (0, *axes[2:], 1)
        to_first = (0, axes[-1], *axes[1:-1])
        asked.append(("Transpose", {"perm": to_first if is_input else to_last}))
        sizes = [tensor.shape.dim[axis] for axis in to_last]
        kept = [size.SerializeToString() for size in sizes]
        for dim, size in zip(tensor.shape.dim, kept, strict=True):
            dim.ParseFromString(size)
    if narrow and was in NARROWED:
        became = TensorProto.DataType.Value(NARROWED[was])
        asked.append(("Cast", {"to": tensor.elem_type if is_input else became}))
        tensor.elem_type = became
    if not asked:
        return []
    _rename(graph, name, f"{name}/inner")
    names = [name, *(f"{name}/{kind}" for kind, _ in asked[1:]), f"{name}/inner"]
    order = list(reversed(asked)) if is_input else asked
    ends = names if is_input else names[::-1]
    return [
        helper.make_node(kind, [ends[at]], [ends[at + 1]], **arguments) for at, (kind, arguments) in enumerate(order)
    ]


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Have every node, also those in the bodies of others, call a tensor otherwise."""
    for node in nodes(graph):
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
