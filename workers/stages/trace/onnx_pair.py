"""Inner tensors of ONNX models, read as outputs that are added to both graphs.

Tool: onnx 1.23.2, onnxruntime 1.32.0. Document:
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
(a quantized tensor T is T_QuantizeLinear_Output, and T_DequantizeLinear_Output what its readers see of it).
The quantizers first fold constants and number inner tensors (t0, t1 …), which is done again here, so that the layers
carry the names of the submitted model. Limits: tensors of the main graph; a model of more than 2 GB is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.facts import TensorSpec
from workers.runtimes.onnxruntime import OnnxSession
from workers.stages.model_sizes import fits
from workers.stages.onnx_files import fix_axes, load_inlined, number_tensors, raise_opset
from workers.stages.quantize.onnx_preparation import LEAST_OPSET, OPSET
from workers.stages.samples import Feeds
from workers.stages.trace.pairs import Tap

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from workers.stages.trace.pairs import Compared

INPUT = "Input"
"""Stands for an operator where a quantized input of the model is a layer."""
SHOWN = fits(
    "the one file in which inner tensors are shown",
    "Its outputs are compared all the same; quantize a part of it alone.",
)
SEEN_AS = "{}_DequantizeLinear_Output"


class OnnxPair:
    """Two graphs; each group of taps is one session a graph, so that no more values are held than it has."""

    def __init__(self, before: Path, after: Path, work: Path) -> None:
        self.inputs = OnnxSession(before, optimize=False).inputs
        self._work, self._after = work, load_inlined(after)
        self._before = _prepared(before, self._after, work)
        held = {name for node in self._after.graph.node for name in node.output}
        given = [value.name for value in self._before.graph.input if SEEN_AS.format(value.name) in held]
        found = [Tap(name, INPUT, name, SEEN_AS.format(name)) for name in given]
        found += [
            Tap(name, node.op_type, name, seen)
            for name, numbered, node in _numbered(self._before)
            if (seen := _seen(name, numbered, held)) is not None
        ]
        self.taps = tuple(found)
        self.total = len(given) + sum(1 for _ in _numbered(self._before))

    def values(self, taps: Sequence[Tap], before: Feeds, after: Feeds) -> Iterator[Compared]:
        made = [tap.before for tap in taps if tap.operator != INPUT]
        expected = {**before, **(self._run(self._before, made, before) if made else {})}
        actual = self._run(self._after, [tap.after for tap in taps], after)
        for tap in taps:
            yield tap, expected[tap.before], actual[tap.after]

    def _run(self, model: onnx.ModelProto, names: Sequence[str], feeds: Feeds) -> dict[str, NDArray[Any]]:
        import onnx

        present = {value.name for value in model.graph.output}
        added = [onnx.ValueInfoProto(name=name) for name in names if name not in present]
        model.graph.output.extend(added)
        path = self._work / "tapped.onnx"
        onnx.save(model, path)
        del model.graph.output[len(model.graph.output) - len(added) :]
        found = OnnxSession(path).run(feeds)
        return {name: found[name] for name in names}


def _prepared(before: Path, after: onnx.ModelProto, work: Path) -> onnx.ModelProto:
    """Do to the float model what the quantizers do first, but for the numbers; axes are fixed as in `after`."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path = work / "prepared.onnx"
    model = raise_opset(load_inlined(before), LEAST_OPSET, OPSET)
    fix_axes(model, tuple(spec for spec in map(_spec, after.graph.input) if not spec.open_axes))
    onnx.save(model, path)
    quant_pre_process(path, path, skip_symbolic_shape=True)
    return onnx.load(path)


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    axes = value.type.tensor_type.shape.dim
    return TensorSpec(value.name, "", tuple(axis.dim_value if axis.HasField("dim_value") else "?" for axis in axes))


def _numbered(model: onnx.ModelProto) -> Iterator[tuple[str, str, onnx.NodeProto]]:
    """Yield every tensor that a node makes: its name, the one that the quantizers give it, and the node."""
    import onnx

    numbered = onnx.ModelProto()
    numbered.CopyFrom(model)
    number_tensors(numbered)
    for node, other in zip(model.graph.node, numbered.graph.node, strict=True):
        if node.op_type != "Constant":
            yield from ((name, known, node) for name, known in zip(node.output, other.output, strict=True) if name)


def _seen(name: str, numbered: str, held: set[str]) -> str | None:
    """Find a tensor in the quantized graph: as its readers see it where it was quantized, else by its own name."""
    return next((one for one in (SEEN_AS.format(numbered), SEEN_AS.format(name), numbered, name) if one in held), None)
