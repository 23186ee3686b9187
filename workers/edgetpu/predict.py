"""Predict what the Edge TPU compiler makes of a TFLite model, without the compiler.

The compiler is not shipped with the farm, so every result is labelled as predicted. The rules are those that its last
version, 16.0.384591198, documents and shows; see docs/edge-tpu.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from workers.edgetpu.compiled import EDGE_TPU_OPERATOR
from workers.edgetpu.flatbuffer import Bytes
from workers.edgetpu.limits import (
    DEFAULT_MIN_RUNTIME_VERSION,
    DYNAMIC_RESULTS,
    FIRST_UNKNOWN_BUILTIN,
    KNOWN_CUSTOM,
    REFUSED_VERSIONS,
    Status,
)
from workers.edgetpu.memory import Memory, predict_memory
from workers.edgetpu.model import ABSENT, DataType, Model, Operator, Tensor, read_model
from workers.edgetpu.partition import first_part
from workers.edgetpu.rules import INDEX_OPERANDS, QUANTIZED, refusal

CONVERSIONS = ("CAST", "DEQUANTIZE", "QUANTIZE")


@dataclass(frozen=True, slots=True)
class MappedOperator:
    """One operator in file order, over all subgraphs; `reason` is None when it is mapped."""

    index: int
    type: str
    mapped: bool
    reason: str | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the compiler would do; `refusal` is why it would not compile the model at all."""

    operators: tuple[MappedOperator, ...]
    memory: Memory
    refusal: str | None

    @property
    def cpu_operators(self) -> tuple[MappedOperator, ...]:
        return tuple(each for each in self.operators if not each.mapped)

    def as_facts(self) -> dict[str, Any]:
        """Return the prediction as JSON values."""
        return {
            "predicted": True,
            "operators": [asdict(each) for each in self.operators],
            "memory": asdict(self.memory),
            "refusal": self.refusal,
        }


def predict(data: Bytes, *, min_runtime_version: int = DEFAULT_MIN_RUNTIME_VERSION) -> Prediction:
    """Predict the mapping and the memory of a model.

    Args:
        data: a .tflite file's bytes.
        min_runtime_version: the Edge TPU runtime that the compiled model must run on.

    Raises:
        CorruptModel: the bytes are no TFLite file, or an offset of them leads outside.
    """
    model = read_model(data)
    refused = model_refusal(model)
    if refused is not None:
        operators = tuple(MappedOperator(each.index, each.type, False, refused) for each in model.operators)
        return Prediction((*operators, *_further(model, refused)), predict_memory(model, ()), refused)
    alone = [refusal(model, each, runtime=min_runtime_version) for each in model.operators]
    part = first_part(model, [each is None for each in alone])
    operators = tuple(
        MappedOperator(each.index, each.type, each.index in part, _reason(each.index in part, alone[each.index]))
        for each in model.operators
    )
    memory = predict_memory(model, [each for each in model.operators if each.index in part])
    return Prediction((*operators, *_further(model, None)), memory, None)


def _further(model: Model, refused: str | None) -> Iterator[MappedOperator]:
    """List what is in other subgraphs, which conditions and loops run: only the main one is given to the device."""
    for index, (graph, name) in enumerate(model.further, len(model.operators)):
        yield MappedOperator(
            index, name, False, refused or f"It is in subgraph {graph}, and only the main one is mapped"
        )


def _reason(mapped: bool, alone: object) -> str | None:
    if mapped:
        return None
    return Status.ONE_SUBGRAPH.value if alone is None else str(alone)


def model_refusal(model: Model) -> str | None:
    """Return why the compiler refuses the model as a whole, naming the operator, else None."""
    if not _is_quantized(model):
        return "Model not quantized: quantize it to full-integer int8 first"
    for tensor in (model.tensors[index] for index in model.inputs if index != ABSENT):
        if any(axis < 0 for axis in tensor.signature[1:]):
            return f"Dynamic-sized tensors are not supported: input {tensor.name} has shape {list(tensor.signature)}"
    return next(filter(None, (_operator_refusal(model, each) for each in model.operators)), None)


def _is_quantized(model: Model) -> bool:
    """Whether an operator works on 8-bit values; one that only converts types does not count beside others."""
    working = [each for each in model.operators if each.type not in CONVERSIONS] or model.operators
    return any(tensor.data_type in QUANTIZED for operator in working for tensor in _computed(model, operator))


def _computed(model: Model, operator: Operator) -> Iterator[Tensor]:
    yield from model.outputs_of(operator)
    yield from (each for each in model.inputs_of(operator) if not each.is_constant)


def _operator_refusal(model: Model, operator: Operator) -> str | None:
    name = f"{operator.type} (operator {operator.index})"
    if operator.is_custom and operator.type == EDGE_TPU_OPERATOR:
        return "The model is already compiled for the Edge TPU"
    if operator.is_custom and operator.type not in KNOWN_CUSTOM:
        return f"Encountered unresolved custom op: {name}"
    if operator.version >= REFUSED_VERSIONS.get(operator.type, operator.version + 1):
        return f"{Status.VERSION.value}: {name} has version {operator.version}, which the compiler does not read"
    if operator.code >= FIRST_UNKNOWN_BUILTIN:
        return f"Op builtin_code out of range: {name} has code {operator.code}"
    if (dynamic := _dynamic(model, operator)) is not None:
        return f"Dynamic-sized tensors are not supported: {dynamic} of {name}"
    return None


def _dynamic(model: Model, operator: Operator) -> str | None:
    """Return what makes the operator's results have no size before it runs."""
    if operator.type in DYNAMIC_RESULTS:
        return "the results"
    for tensor in (*model.inputs_of(operator), *model.outputs_of(operator)):
        if any(axis < 0 for axis in tensor.shape):
            return f"tensor {tensor.name} with shape {list(tensor.shape)}"
    for position in INDEX_OPERANDS.get(operator.type, ()):
        operand = model.operand(operator, position)
        if operand is not None and not operand.is_constant and operand.data_type in (DataType.INT32, DataType.INT64):
            return f"operand {operand.name}, which is computed,"
    return None
