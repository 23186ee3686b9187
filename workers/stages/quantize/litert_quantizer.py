"""What every recipe for TFLite files shares: how ai-edge-quantizer is told, called, and judged.

Tool: ai-edge-quantizer 0.10.0, which calibrates with ai-edge-litert 2.3.0.
Document: https://github.com/google-ai-edge/ai-edge-quantizer
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from farm.domain.errors import ConversionFailed
from farm.domain.facts import Format
from farm.domain.stage import StageInput
from workers.stages.quantize.full_integer import refuse_floats
from workers.stages.quantize.selection import (
    ENOUGH_DB,
    OUTPUT_MARGIN,
    Candidate,
    Chosen,
    Judge,
    Samples,
    choose,
    rows_lines,
    seeded_samples,
)
from workers.stages.samples import Feeds
from workers.stages.tool_calls import python_command, tool_call
from workers.stages.transforms import given_contract

TOOLS = ("ai-edge-quantizer", "ai-edge-litert")
PRELOAD = ("ai_edge_litert.interpreter", "ai_edge_quantizer.quantizer", "ai_edge_quantizer.calibrator")
EVERY = ("ALL_SUPPORTED",)
MATMUL = "BATCH_MATMUL"
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "CONV_2D_TRANSPOSE")


class Way(Protocol):
    """One way to quantize; `manager` is the tool's recipe for it, `averaged` how it calibrates."""

    @property
    def name(self) -> str: ...

    @property
    def averaged(self) -> bool: ...

    def manager(self, model: Path) -> Any: ...


@dataclass(frozen=True, slots=True)
class Static:
    """Weights and activations of `operators` by calibration.

    Attributes:
        averaged: ranges are averaged over samples (outliers are cut) instead of spanned.
        integer_io: integers of inputs and outputs too.
        activation_bits: 8, or 16 (symmetric).
        float_ends: operators that give an output of the model, or read one, stay in float; the tool writes a file that
            does not load, or whose output is an integer, where an output is read inside of the model too.
    """

    name: str
    operators: tuple[str, ...]
    averaged: bool = False
    integer_io: bool = False
    activation_bits: int = 8
    float_ends: bool = False

    def manager(self, model: Path) -> Any:
        from ai_edge_quantizer import qtyping, recipe_manager

        manager, names = recipe_manager.RecipeManager(), qtyping.TFLOperationName
        for name in self.operators:
            manager.add_static_config(".*", names[name], self.activation_bits, 8)
        per_tensor = qtyping.QuantGranularity.TENSORWISE
        manager.add_static_config(".*", names[MATMUL], self.activation_bits, 8, weight_granularity=per_tensor)
        for name in () if self.integer_io else ("INPUT", "OUTPUT"):
            manager.add_quantization_config(".*", names[name], algorithm_key="no_quantize")
        for end in end_operators(model) if self.float_ends else ():
            scope = f".*{re.escape(end)}.*"
            manager.add_quantization_config(scope, names["ALL_SUPPORTED"], algorithm_key="no_quantize")
        return manager


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of `operators` alone, without data.

    Attributes:
        bits: 16 (float16), 8 or 4 (integers).
        group: weights that share a scale; 0 is a whole output channel.
        unpacked: they are turned back into float32 before they are used, else activations are scaled at run time.
    """

    name: str
    operators: tuple[str, ...]
    bits: int
    group: int = 0
    unpacked: bool = False
    averaged: bool = False

    def manager(self, model: Path) -> Any:
        from ai_edge_quantizer import algorithm_manager, qtyping, recipe_manager

        manager, names = recipe_manager.RecipeManager(), qtyping.TFLOperationName
        by = qtyping.QuantGranularity
        if self.bits == 16:
            halved = qtyping.OpQuantizationConfig(
                weight_tensor_config=qtyping.TensorQuantizationConfig(16, dtype=qtyping.TensorDataType.FLOAT),
                compute_precision=qtyping.ComputePrecision.FLOAT,
                explicit_dequantize=True,
            )
            for name in self.operators:
                key = algorithm_manager.AlgorithmName.FLOAT_CASTING
                manager.add_quantization_config(".*", names[name], halved, algorithm_key=key)
            return manager
        add = manager.add_weight_only_config if self.unpacked else manager.add_dynamic_config
        for name in self.operators:
            granularity = by[f"BLOCKWISE_{self.group}"] if self.group else by.CHANNELWISE
            add(".*", names[name], self.bits, by.TENSORWISE if name == MATMUL else granularity)
        return manager


def quantize(model: Path, path: Path, rows: Sequence[Feeds], way: Way) -> None:
    """Write `path`, calibrated on `rows` (by the names of input tensors) where the way needs that.

    The tool's own calibrate() only averages, which cuts off rare large values; its calibrator can also span them.
    """
    from ai_edge_quantizer import calibrator, quantizer
    from ai_edge_quantizer.utils import qsv_utils

    manager, ranges = way.manager(model), None
    if rows:
        signature, names = signature_of(model)
        update = qsv_utils.moving_average_update if way.averaged else qsv_utils.min_max_update
        found = calibrator.Calibrator(str(model), num_threads=1, qsv_update_func=update)
        given = [{names[name]: array for name, array in feed.items()} for feed in rows]
        found.calibrate({signature: given}, manager)
        ranges = found.get_model_qsvs()
        if not way.averaged:
            widen_outputs(model, ranges)
    tool = quantizer.Quantizer(str(model), manager.get_quantization_recipe())
    tool.quantize(ranges).export_model(str(path), overwrite=True)


def widen_outputs(model: Path, ranges: dict[str, Any]) -> None:
    """Move both ends of the outputs' ranges outwards by `OUTPUT_MARGIN`, in place; an end at zero stays there.

    Args:
        model: the float file.
        ranges: by tensor, `min` and `max`: arrays as the tool's calibrator gives them.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    subgraph = flatbuffer_utils.read_model(str(model)).subgraphs[0]
    for index in subgraph.outputs:
        found = ranges.get(subgraph.tensors[index].name.decode())
        if found is not None:
            low, high = found["min"], found["max"]
            found |= {"min": low + OUTPUT_MARGIN * low.clip(max=0), "max": high + OUTPUT_MARGIN * high.clip(min=0)}


def refuse_unchanged(model: Path, path: Path) -> None:
    """Look into a file that the tool wrote.

    Raises:
        ConversionFailed: every tensor has the type it had, since the model has no operator that the way is for.
    """
    if tensor_types(path) == tensor_types(model):
        raise ConversionFailed(
            "ai-edge-quantizer found no operator to quantize: the file is what it was.",
            remedy="Take int8-static or float16.",
        )


def tensor_types(model: Path) -> Counter[int]:
    """Count the element types of a file's tensors, by their numbers in TFLite's schema."""
    from ai_edge_litert.tools import flatbuffer_utils

    read = flatbuffer_utils.read_model(str(model))
    return Counter(tensor.type for subgraph in read.subgraphs for tensor in subgraph.tensors)


def end_operators(model: Path) -> list[str]:
    """Name the operators that give an output of the model, or read one, by what they write first."""
    from ai_edge_litert.tools import flatbuffer_utils

    subgraph = flatbuffer_utils.read_model(str(model)).subgraphs[0]
    ends = set(subgraph.outputs)
    touching = [op for op in subgraph.operators if ends.intersection((*op.inputs, *op.outputs))]
    return [subgraph.tensors[op.outputs[0]].name.decode() for op in touching]


def signature_of(model: Path) -> tuple[str | None, dict[str, str]]:
    """Return the signature's key, and its name for each input tensor."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(model))
    signatures = interpreter.get_signature_list()
    if not signatures:
        return None, {detail["name"]: detail["name"] for detail in interpreter.get_input_details()}
    key = next(iter(signatures))
    details = interpreter.get_signature_runner(key).get_input_details()
    return key, {detail["name"]: name for name, detail in details.items()}


def best_of(
    given: StageInput,
    ways: Sequence[Way],
    *,
    samples: Samples | None = None,
    integers: bool = False,
    enough_db: float = ENOUGH_DB,
) -> Chosen:
    """Quantize by each way until one is near enough; without `samples` judged on seeded inputs in [0, 1).

    `integers` refuses a file that still computes in floating point, and binds integer inputs and outputs.

    Raises:
        ConversionFailed: no way gave a file that loads, runs and stays finite.
    """
    parts = samples or seeded_samples(given)
    known_as = {b.artifact.name: b.artifact.name for b in given_contract(given).inputs} if integers else None

    def candidate(way: Way) -> Candidate:
        def write(path: Path) -> None:
            with tool_call("ai-edge-quantizer"):
                quantize(given.files["model"], path, parts.calibration, way)
            refuse_unchanged(given.files["model"], path)
            if integers:
                refuse_floats(path, "ai-edge-quantizer")

        return Candidate(way.name, write)

    judge = Judge(given, Format.TFLITE, parts.selection, known_as=known_as)
    return choose(judge, [candidate(way) for way in ways], enough_db=enough_db)


def repeated(given: StageInput, ways: Sequence[Way], chosen: Chosen) -> str:
    """Repeat the call on a model, and on calibration.npz where the way needs data."""
    way = next(way for way in ways if way.name == chosen.name)
    calibrates = isinstance(way, Static)
    return python_command(
        *(rows_lines(given) if calibrates else ("rows = []",)),
        "from pathlib import Path",
        "from workers.stages.quantize.litert_quantizer import Static, Weights, quantize",
        f"quantize(Path('model.tflite'), Path('quantized.tflite'), rows, {way!r})",
    )
