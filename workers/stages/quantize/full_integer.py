"""Hold a TFLite file to the recipe's word: integers throughout, from input to output.

Source: TensorFlow Lite, schema.fbs, read by workers/edgetpu; what the Edge TPU compiler says is predicted, not asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from farm.domain.errors import ConversionFailed
from workers.edgetpu.model import DataType, Model, read_model
from workers.edgetpu.predict import predict

_FLOATS = (DataType.FLOAT32, DataType.FLOAT16, DataType.FLOAT64)


def float_operators(model: Model) -> list[str]:
    """Name the types of operators that read or give floating-point values, each once."""
    found = [
        operator.type
        for operator in model.operators
        if any(t.data_type in _FLOATS for t in (*model.inputs_of(operator), *model.outputs_of(operator)))
    ]
    return sorted(set(found))


def refuse_floats(path: Path, tool: str) -> None:
    """Look into a file that a tool wrote.

    Raises:
        ConversionFailed: an operator still works on floating-point values.
    """
    if left := float_operators(read_model(path.read_bytes())):
        raise ConversionFailed(
            f"{tool} left {', '.join(left)} in floating point; an integer-only runtime does not run the file.",
            remedy="Leave these operators out of the model, or take recipe int8-static, whose result may mix both.",
            operators=left,
        )


def edge_tpu_facts(path: Path) -> dict[str, Any]:
    """Predict what the Edge TPU compiler makes of the file: how many operators it maps, or why it refuses all."""
    facts = predict(path.read_bytes()).as_facts()
    mapped = sum(bool(operator["mapped"]) for operator in facts["operators"])
    return {
        "edgetpu_predicted": {
            "refusal": facts["refusal"],
            "mapped_operators": mapped,
            "operators": len(facts["operators"]),
        }
    }
