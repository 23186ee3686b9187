"""Quantize an ONNX model to static int8 for ONNX Runtime: QDQ form, per channel, float input and output.

Tool: onnxruntime.quantization.quantize_static, onnxruntime 1.32.0; opsets under 13 are raised to 17 by onnx 1.23.2's
version_converter first, since per-channel scales written below 13 load nowhere.
Document: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
Formula: w8 = round(w / s_c), s_c = max|w_c| / 127; x8 = round(x / s) + z, s = (max − min) / 255 over the calibration.
Limits: activations are uint8 and weights int8 (the fast kernels of x86 and ARM). CPUs without dot-product instructions
add pairs of products in 16 bits, which saturate: for them weights keep 7 bits where that is nearer. Recurrent layers
stay in float.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.errors import BadRequest
from farm.domain.facts import Format, TensorSpec
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.stages.onnx_files import fix_axes, load_inlined, number_tensors, raise_opset
from workers.stages.quantize.selection import CalibratedOptions, Candidate, Samples, choose, split_samples
from workers.stages.samples import Feeds
from workers.stages.tool_calls import python_command, tool_call
from workers.stages.transforms import given_contract

if TYPE_CHECKING:
    import onnx

LEAST_OPSET, OPSET = 13, 17
WEIGHTED = ["Conv", "ConvTranspose", "Gemm", "MatMul"]
METHODS = ("MinMax", "Entropy", "Percentile")


@dataclass(frozen=True, slots=True)
class QuantizeOnnxOptions(CalibratedOptions):
    """`calibration_method` is MinMax, Entropy or Percentile; None tries MinMax in its variants and keeps the best."""

    calibration_method: str | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """Arguments of quantize_static that differ from one candidate to the next."""

    name: str
    method: str = "MinMax"
    weighted_only: bool = True
    moving_average: bool = False
    reduce_range: bool = False

    @property
    def arguments(self) -> dict[str, Any]:
        operators = {"op_types_to_quantize": WEIGHTED} if self.weighted_only else {}
        average = {"extra_options": {"CalibMovingAverage": True}} if self.moving_average else {}
        return {"per_channel": True, "reduce_range": self.reduce_range, **operators, **average}


@stage(
    name="quantize-onnx-int8-static",
    version="2",
    kind=Kind.QUANTIZE,
    environment="builder",
    source=Format.ONNX,
    target=Format.ONNX,
    inputs=("calibration",),
    recipe="int8-static",
    options=QuantizeOnnxOptions,
    reads=("numeric.dot_product",),
    tools=("onnxruntime", "onnx"),
    preload=("onnx", "onnxruntime", "onnxruntime.quantization", "onnxruntime.quantization.shape_inference"),
)
def run(given: StageInput) -> StageOutput:
    """Write model.onnx; facts["sqnr_db"] is the worst output's against the float model, on samples set aside.

    Raises:
        BadData: calibration samples that do not fit the inputs.
        BadRequest: an unknown calibration method.
        ConversionFailed: no candidate gave a file that loads, runs and stays finite.
    """
    samples = split_samples(given)
    prepared = given.work / "prepared.onnx"
    inputs = tuple(binding.artifact for binding in given_contract(given).inputs)
    with tool_call("onnxruntime"):
        _prepare(load_inlined(given.files["model"]), inputs, prepared)
    wanted = ways(given.options.calibration_method, bool(given.profile.get("numeric.dot_product")))
    candidates = [Candidate(way.name, _writer(prepared, samples, way)) for way in wanted]
    chosen = choose(given, Format.ONNX, samples, candidates)
    way = next(way for way in wanted if way.name == chosen.name)
    return StageOutput(
        files={"model": chosen.path},
        facts={"sqnr_db": round(chosen.sqnr_db, 2), "quantization": chosen.name, "tried": chosen.tried},
        contract=chosen.contract,
        reproduce=_reproduce(way),
    )


def ways(method: str | None, dot_product: bool) -> tuple[Way, ...]:
    """List what to try, the fastest result first.

    Raises:
        BadRequest: an unknown method.
    """
    if method is not None:
        if method not in METHODS:
            raise BadRequest(f"Calibration method {method!r} is unknown; there are {', '.join(METHODS)}.")
        return (Way(method, method), Way("MinMax") if method != "MinMax" else Way("MinMax, all", weighted_only=False))
    average = Way("moving average, weighted operators", moving_average=True)
    narrow = Way("moving average, weighted operators, 7-bit weights", moving_average=True, reduce_range=True)
    return (Way("MinMax, every operator", weighted_only=False), average, *(() if dot_product else (narrow,)))


def _prepare(model: onnx.ModelProto, inputs: tuple[TensorSpec, ...], path: Path) -> None:
    """Fix axes, raise the opset, infer shapes, fold constants and batch norms, and shorten names."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = raise_opset(model, LEAST_OPSET, OPSET)
    fix_axes(model, inputs)
    onnx.save(model, path)
    quant_pre_process(path, path, skip_symbolic_shape=True)
    prepared = onnx.load(path)
    number_tensors(prepared)
    onnx.save(onnx.shape_inference.infer_shapes(prepared), path)


def _writer(prepared: Path, samples: Samples, way: Way) -> Any:
    def write(path: Path) -> None:
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

        with tool_call("onnxruntime"):
            quantize_static(
                prepared,
                path,
                _Reader(samples.calibration),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod[way.method],
                **way.arguments,
            )

    return write


class _Reader:
    """Hand calibration samples to ONNX Runtime one by one."""

    def __init__(self, feeds: tuple[Feeds, ...]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feeds | None:
        return next(self._feeds, None)


def _reproduce(way: Way) -> str:
    """Repeat the call on a prepared model and calibration.npz, whose arrays are named as the model's inputs."""
    return python_command(
        "import numpy",
        "from onnxruntime.quantization import *",
        "from onnxruntime.quantization.shape_inference import quant_pre_process",
        "quant_pre_process('model.onnx', 'prepared.onnx', skip_symbolic_shape=True)",
        "arrays = numpy.load('calibration.npz')",
        "rows = iter([dict(zip(arrays.files, row)) for row in zip(*(arrays[name] for name in arrays.files))])",
        "reader = type('Reader', (CalibrationDataReader,), {'get_next': lambda self: next(rows, None)})()",
        "quantize_static('prepared.onnx', 'int8.onnx', reader, quant_format=QuantFormat.QDQ, "
        "activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, "
        f"calibrate_method=CalibrationMethod.{way.method}, **{way.arguments!r})",
    )
