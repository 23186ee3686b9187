"""Whether the labels of evaluation data fit the metric and the model's output, told before anything is converted.

What only the values of an output can tell (how many rows of scores it has where its shape is open) the evaluation
itself refuses, in the same words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from farm.domain.errors import BadData, FarmError
from farm.domain.facts import TensorSpec
from farm.domain.inputs import LABELS, VOCABULARY

CLASS_METRICS = ("top1", "top5", "f1", "auroc")
BY_LABEL_METRICS = ("f1", "auroc")
_INTEGER = re.compile(r"u?int\d+|bool")
_NUMBER = re.compile(r"(u?int|float)\d+|bool")

Arrays = Mapping[str, Mapping[str, Any]]


def label_errors(metric: str, arrays: Arrays, outputs: Sequence[TensorSpec]) -> list[FarmError]:
    """List what is wrong with the labels; nothing without labels, which check_arrays refuses."""
    labels = arrays.get(LABELS)
    if labels is None:
        return []
    if metric in CLASS_METRICS:
        return _class_errors(metric, labels, outputs)
    if metric == "map":
        return _box_errors(labels)
    if metric == "wer":
        return _text_errors(labels, arrays)
    if metric == "mae" and not _NUMBER.fullmatch(str(labels["dtype"])):
        return [BadData(f"The labels are of {labels['dtype']}; mae takes numbers of the output's shape.")]
    return []


def _class_errors(metric: str, labels: Mapping[str, Any], outputs: Sequence[TensorSpec]) -> list[FarmError]:
    if not _INTEGER.fullmatch(str(labels["dtype"])):
        return [
            BadData(
                f"The labels are of {labels['dtype']}; {metric} takes class numbers from 0, as integers.",
                remedy="Convert them: labels.astype('int64'). For numbers to be near to, take the metric mae.",
            )
        ]
    if metric == "auroc" and labels.get("constant"):
        return [
            BadData(
                f"All labels are {labels.get('minimum')}; auroc needs samples of two classes at least.",
                remedy="Add samples of other classes, or take the metric top1.",
            )
        ]
    classes = classes_of(outputs)
    by_label = metric in BY_LABEL_METRICS and list(labels.get("shape", ()))[1:] == [classes]
    low, high = labels.get("minimum"), labels.get("maximum")
    if classes is None or by_label or low is None or high is None or (low >= 0 and high < classes):
        return []
    return [
        BadData(
            f"The labels lie between {low} and {high}; output {outputs[0].name!r} has {classes} classes, numbered "
            "from 0.",
            remedy="Number the classes as the model does, or name the output that is meant first in the model.",
        )
    ]


def classes_of(outputs: Sequence[TensorSpec]) -> int | None:
    """Tell how many classes the scored output has; a lone score has two. None where the file leaves it open."""
    shape = outputs[0].shape if outputs else None
    last = shape[-1] if shape else None
    return max(last, 2) if isinstance(last, int) else None


def _box_errors(labels: Mapping[str, Any]) -> list[FarmError]:
    shape = list(labels.get("shape", ()))
    if len(shape) == 3 and shape[2] == 5 and _NUMBER.fullmatch(str(labels["dtype"])):
        return []
    return [
        BadData(
            f"The labels have shape {shape} and dtype {labels['dtype']}; map takes (N,boxes,5): two corners "
            "and a class.",
            remedy="Pad with rows whose class is -1 where samples have different numbers of boxes.",
        )
    ]


def _text_errors(labels: Mapping[str, Any], arrays: Arrays) -> list[FarmError]:
    dtype = str(labels["dtype"])
    if dtype.startswith("str") and VOCABULARY not in arrays:
        return [
            BadData(
                "The labels are texts, and the evaluation data has no array 'vocabulary' with the text of each id.",
                remedy="Add it: numpy.savez(file, vocabulary=numpy.array(tokens), labels=numpy.array(texts), …).",
            )
        ]
    if not dtype.startswith("str") and not _INTEGER.fullmatch(dtype):
        return [BadData(f"The labels are of {dtype}; wer takes texts, or ids as integers padded with -1.")]
    return []
