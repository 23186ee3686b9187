"""Static int8 of ONNX models in QDQ form: what int8-static and int8-mixed share.

Tool: onnxruntime.quantization.quantize_static, onnxruntime 1.32.0.
Document: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from farm.domain.errors import BadRequest
from farm.domain.stage import StageInput
from workers.stages.quantize.onnx_preparation import PREPARE_LINES
from workers.stages.quantize.selection import CalibratedOptions, rows_lines
from workers.stages.samples import Feeds
from workers.stages.tool_calls import python_command, tool_call

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
CalibrationName = Literal["MinMax", "Entropy", "Percentile"]
METHODS: tuple[CalibrationName, ...] = get_args(CalibrationName)
PRELOAD = ("onnx", "onnxruntime", "onnxruntime.quantization", "onnxruntime.quantization.shape_inference")


@dataclass(frozen=True, slots=True)
class OnnxStaticOptions(CalibratedOptions):
    """`calibration_method` is MinMax, Entropy or Percentile; None tries several ways and keeps the best."""

    calibration_method: CalibrationName | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """Arguments of quantize_static that differ from one candidate to the next.

    Attributes:
        weighted_only: operators without weights stay in float.
        narrow: weights keep 7 bits but in depthwise convolutions, whose kernel does not saturate.
        keep_float: names of nodes that stay in float.
    """

    name: str
    method: str = "MinMax"
    weighted_only: bool = True
    moving_average: bool = False
    narrow: bool = False
    keep_float: tuple[str, ...] = ()

    @property
    def ranges(self) -> str:
        """Name the calibration it stands on: ways of equal ranges share one."""
        scope = "weighted" if self.weighted_only else "all"
        return f"ranges_{self.method}_{scope}{'_averaged' if self.moving_average else ''}.json"

    def arguments(self, prepared: Path) -> dict[str, Any]:
        extra: dict[str, Any] = {"CalibMovingAverage": True} if self.moving_average else {}
        if self.method != "MinMax":
            extra["CalibStridedMinMax"] = 1
        if self.narrow:
            wide = [{"axis": 0, "reduce_range": False}]
            extra["TensorQuantOverrides"] = dict.fromkeys(depthwise_weights(prepared), wide)
        return {
            "per_channel": True,
            "reduce_range": self.narrow,
            "nodes_to_exclude": list(self.keep_float),
            "op_types_to_quantize": list(WEIGHTED) if self.weighted_only else None,
            "extra_options": extra,
        }


def ways(method: str | None, *, narrow: bool) -> tuple[Way, ...]:
    """List what to try, the fastest result first; a method that is asked for falls back to MinMax.

    Raises:
        BadRequest: an unknown method.
    """
    bits = ", 7-bit weights" if narrow else ""
    if method is not None:
        if method not in METHODS:
            raise BadRequest(f"Calibration method {method!r} is unknown; there are {', '.join(METHODS)}.")
        every = Way(f"{method}, every operator{bits}", method, weighted_only=False, narrow=narrow)
        weighted = Way(f"{method}, weighted operators{bits}", method, narrow=narrow)
        fallback = (Way(f"MinMax, weighted operators{bits}", narrow=narrow),) if method != "MinMax" else ()
        return (every, weighted, *fallback)
    return (
        Way(f"MinMax, every operator{bits}", weighted_only=False, narrow=narrow),
        Way(f"moving average, weighted operators{bits}", moving_average=True, narrow=narrow),
    )


def quantize(prepared: Path, path: Path, rows: Sequence[Feeds], way: Way, *, only: str | None = None) -> None:
    """Write `path`; ranges are kept beside `prepared` for the next way that needs the same.

    `prepared` is what onnx_preparation.prepare wrote, `rows` are samples by input name, `only` is the one node to
    quantize.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    quantize_static(
        prepared,
        path,
        _Reader(rows),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod[way.method],
        calibration_cache_path=prepared.with_name(way.ranges),
        nodes_to_quantize=[only] if only else None,
        **way.arguments(prepared),
    )


def write(prepared: Path, path: Path, rows: Sequence[Feeds], way: Way, *, only: str | None = None) -> None:
    """Quantize, with the tool's failures made typed ones."""
    with tool_call("onnxruntime"):
        quantize(prepared, path, rows, way, only=only)


def depthwise_weights(prepared: Path) -> list[str]:
    """Name the weights of convolutions that see one channel each."""
    import onnx

    graph = onnx.load(prepared).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    found = []
    for node in graph.node:
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        shape = shapes.get(node.input[1], ()) if node.op_type == "Conv" else ()
        if groups > 1 and shape[1:2] == (1,):
            found.append(node.input[1])
    return found


def weighted_nodes(prepared: Path) -> list[str]:
    """Name the nodes with weights, first to last."""
    import onnx

    graph = onnx.load(prepared).graph
    weights = {tensor.name for tensor in graph.initializer}
    return [n.name for n in graph.node if n.op_type in WEIGHTED and weights.intersection(n.input)]


class _Reader:
    """Hand calibration samples to ONNX Runtime one by one, all or a range of them."""

    def __init__(self, feeds: Sequence[Feeds]) -> None:
        self._all = feeds
        self._feeds = iter(feeds)

    def __len__(self) -> int:
        return len(self._all)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._feeds = iter(self._all[start_index:end_index])

    def get_next(self) -> Feeds | None:
        return next(self._feeds, None)


def repeated(given: StageInput, way: Way) -> str:
    """Repeat the call on a model and calibration.npz."""
    return python_command(
        *rows_lines(given),
        "from pathlib import Path",
        *PREPARE_LINES,
        "from workers.stages.quantize.onnx_static import Way, quantize",
        f"quantize(Path('prepared.onnx'), Path('int8.onnx'), rows, {way!r})",
    )
