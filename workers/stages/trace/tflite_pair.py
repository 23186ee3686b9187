"""Inner tensors of TFLite models, kept by the interpreter.

Tool: ai-edge-litert 2.3.0, Interpreter with experimental_preserve_all_tensors. Document:
https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_debugger
Without delegates, since XNNPACK shows nothing of what it took over: the kernels are LiteRT's own, not those that the
target runs. Tensors go by name, and where names did not survive by the order of equal operators.
Limits: the first subgraph; all inner tensors are held at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.runtimes.files import entry_file
from workers.runtimes.litert import SUFFIXES, LiteRtSession
from workers.stages.samples import Feeds
from workers.stages.trace.pairs import Tap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workers.stages.trace.pairs import Compared

BETWEEN = ("QUANTIZE", "DEQUANTIZE", "DELEGATE")
"""Operators that only change how a tensor is stored."""


class TflitePair:
    """Two interpreters; both run once, when the first values are asked for."""

    def __init__(self, before: Path, after: Path, work: Path) -> None:
        self._before, self._after = _Opened(before), _Opened(after)
        self.inputs = LiteRtSession(before).inputs
        made = self._before.made
        self.total = len(made)
        self.taps = by_name(made, self._after.made) or by_order(made, self._after.made)

    def values(self, taps: Sequence[Tap], before: Feeds, after: Feeds) -> Iterator[Compared]:
        self._before.run(before)
        self._after.run(after)
        for tap in taps:
            yield tap, self._before.value(tap.before), self._after.value(tap.after)


class _Opened:
    """An interpreter that keeps what its operators make; `made` pairs names with operators, in order."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self.interpreter = Interpreter(
            model_path=str(entry_file(path, SUFFIXES)),
            num_threads=1,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        self.interpreter.allocate_tensors()
        self._details: dict[int, Mapping[str, Any]] = {d["index"]: d for d in self.interpreter.get_tensor_details()}
        nodes = [node for node in self.interpreter._get_ops_details() if node["op_name"] not in BETWEEN]
        made = [(int(at), str(node["op_name"])) for node in nodes for at in node["outputs"] if at in self._details]
        self._index = {self._details[at]["name"]: at for at, _ in made}
        self.made = [(self._details[at]["name"], operator) for at, operator in made]
        self._has_run = False

    def run(self, feeds: Feeds) -> None:
        if self._has_run:
            return
        for detail in self.interpreter.get_input_details():
            array = feeds[detail["name"]]
            if tuple(detail["shape"]) != array.shape:
                self.interpreter.resize_tensor_input(detail["index"], array.shape, strict=True)
        self.interpreter.allocate_tensors()
        for detail in self.interpreter.get_input_details():
            self.interpreter.set_tensor(detail["index"], feeds[detail["name"]])
        self.interpreter.invoke()
        self._has_run = True

    def value(self, name: str) -> NDArray[Any]:
        """Return a tensor's real values, by the scales of the whole tensor or of each slice of one axis."""
        import numpy as np

        at = self._index[name]
        array: NDArray[Any] = self.interpreter.get_tensor(at)
        told = self._details[at]["quantization_parameters"]
        scales, zeros = np.asarray(told["scales"], np.float64), np.asarray(told["zero_points"], np.float64)
        if array.dtype.kind not in "iu" or not scales.size:
            return array
        if scales.size > 1:
            shape = [1] * array.ndim
            shape[int(told["quantized_dimension"])] = scales.size
            scales, zeros = scales.reshape(shape), zeros.reshape(shape)
        real: NDArray[Any] = ((array.astype(np.float64) - zeros) * scales).astype(np.float32)
        return real


def by_name(before: Sequence[tuple[str, str]], after: Sequence[tuple[str, str]]) -> tuple[Tap, ...]:
    held = {name for name, _ in after}
    return tuple(Tap(name, operator, name, name) for name, operator in before if name in held)


def by_order(before: Sequence[tuple[str, str]], after: Sequence[tuple[str, str]]) -> tuple[Tap, ...]:
    """Pair tensors one to one where both files have the same operators in the same order; else none."""
    if [operator for _, operator in before] != [operator for _, operator in after]:
        return ()
    return tuple(Tap(name, operator, name, other) for (name, operator), (other, _) in zip(before, after, strict=True))
