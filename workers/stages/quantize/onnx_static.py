"""Static int8 of ONNX models in QDQ form: what int8-static and int8-mixed share.

Tool: onnxruntime.quantization.quantize_static, onnxruntime 1.32.0.
Document: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from farm.domain.errors import BadRequest
from farm.domain.stage import StageInput
from workers.stages.quantize.onnx_preparation import prepare_lines
from workers.stages.quantize.selection import OUTPUT_MARGIN, CalibratedOptions, rows_lines
from workers.stages.samples import Feeds
from workers.stages.tool_calls import python_command, tool_call

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
CalibrationName = Literal["MinMax", "Entropy", "Percentile"]
METHODS: tuple[CalibrationName, ...] = get_args(CalibrationName)
MINMAX = "MinMax"
SPANNED, AVERAGED = "ranges_spanned.json", "ranges_averaged.json"
"""Files of what one MinMax calibration found."""
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
        """Name the calibration it stands on: ways of equal ranges share one, those by MinMax for any operators."""
        if self.method == MINMAX:
            return AVERAGED if self.moving_average else SPANNED
        return f"ranges_{self.method}_{'weighted' if self.weighted_only else 'all'}.json"

    def arguments(self, prepared: Path) -> dict[str, Any]:
        extra: dict[str, Any] = {} if self.method == MINMAX else {"CalibStridedMinMax": 1}
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
    """Write `path`; ranges are kept beside `prepared` for the next way that stands on the same calibration.

    `prepared` is what onnx_preparation.prepare wrote, `rows` are samples by input name, `only` is the one node to
    quantize.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    if way.method == MINMAX and not prepared.with_name(way.ranges).exists():
        _calibrate(prepared, rows)
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


def _calibrate(prepared: Path, rows: Sequence[Feeds]) -> None:
    """Run the samples once, and write the ranges that span them and those that average theirs.

    The tool would run them once for each. Formula: (min, max) per tensor over the samples, `OUTPUT_MARGIN` more at each
    end of an output, or the mean of the samples' own minima and maxima, as
    onnxruntime.quantization.calibrate.MinMaxCalibrater.compute_data has it.
    """
    import numpy as np
    import onnx
    from onnxruntime.quantization import calibrate, registry

    kinds = sorted({*registry.QLinearOpsRegistry, *registry.QDQRegistry})
    calibrator = calibrate.create_calibrator(prepared, kinds, str(prepared.with_name("augmented.onnx")))
    found = []
    for row in rows:
        calibrator.calibrate_tensors_range = None
        calibrator.collect_data(_Reader([row]))
        found.append({name: data.range_value for name, data in calibrator.compute_data().items()})
    outputs = {value.name for value in onnx.load(prepared, load_external_data=False).graph.output}
    for name, low, high in ((SPANNED, np.nanmin, np.nanmax), (AVERAGED, np.nanmean, np.nanmean)):
        ends = {
            tensor: (low([one[tensor][0] for one in found], axis=0), high([one[tensor][1] for one in found], axis=0))
            for tensor in found[0]
        }
        if name == SPANNED:
            ends |= {tensor: _widened(*ends[tensor]) for tensor in outputs & ends.keys()}
        told = calibrate.TensorsData(calibrate.CalibrationMethod.MinMax, ends)
        calibrate.save_tensors_data(told, prepared.with_name(name))


def _widened(low: NDArray[Any], high: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Move both ends outwards; an end at zero stays there."""
    return low + OUTPUT_MARGIN * low.clip(max=0), high + OUTPUT_MARGIN * high.clip(min=0)


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
        *prepare_lines(given),
        "from workers.stages.quantize.onnx_static import Way, quantize",
        f"quantize(Path('prepared.onnx'), Path('int8.onnx'), rows, {way!r})",
    )
