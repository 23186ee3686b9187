"""What a child told, held against what can be stored and what its kind must give."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Mapping
from typing import Any

from farm.domain.errors import ArtifactBroken
from farm.domain.stage import TRANSFORMS, Kind

_DEEPEST = 64
_NUMERICS = ("sqnr_db", "cosine", "max_abs_error")
_LAYER_NUMBERS = ("sqnr_db", "cosine", "max_abs_error", "max_abs_value", "clipped_share")
_ARTIFACT_LISTS = ("inputs", "outputs", "contract_changes")


def check_storable(told: Any, stage: str) -> None:
    """Refuse what PostgreSQL's jsonb can't hold: NUL, lone surrogates, numbers that are not finite, endless nesting.

    Raises:
        ArtifactBroken: naming what was found.
    """
    pending: list[tuple[Any, int]] = [(told, 0)]
    while pending:
        value, depth = pending.pop()
        if why := _why_not_storable(value, depth):
            raise ArtifactBroken(f"Stage {stage} told {why}, which can't be stored.")
        if isinstance(value, dict):
            pending += [(item, depth + 1) for pair in value.items() for item in pair]
        elif isinstance(value, list):
            pending += [(item, depth + 1) for item in value]


def storable(value: Any, depth: int = 0) -> Any:
    """Return a JSON value without what `check_storable` refuses: for failures, which must arrive in any case."""
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, (Mapping, list, tuple)) and depth >= _DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        return {storable(str(key)): storable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [storable(item, depth + 1) for item in value]
    return value


def check_outputs(kind: Kind, names: Collection[str], stage: str) -> None:
    """See that the output which the next steps need is there.

    Raises:
        ArtifactBroken: it is not.
    """
    needed = "model" if kind in TRANSFORMS else "samples" if kind is Kind.REFERENCE else None
    if needed is not None and needed not in names:
        raise ArtifactBroken(f"Stage {stage} succeeded without its output {needed!r}.")


def check_facts(kind: Kind, facts: Mapping[str, Any], stage: str) -> None:
    """See that the facts which verdicts rest on have their shape.

    Raises:
        ArtifactBroken: naming the fact.
    """
    wrong = _wrong_comparison(facts) if kind is Kind.COMPARE else None
    wrong = _wrong_accuracy(facts.get("accuracy")) if kind is Kind.EVALUATE else wrong
    wrong = _wrong_layers(facts) if kind is Kind.TRACE else wrong
    if wrong:
        raise ArtifactBroken(f"Stage {stage} gave no usable {wrong}.")


def _why_not_storable(value: Any, depth: int) -> str | None:
    if depth > _DEEPEST:
        return f"values nested deeper than {_DEEPEST}"
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= c <= "\udfff" for c in value)):
        return f"the text {value[:80]!a}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"the number {value}"
    return None


def _wrong_comparison(facts: Mapping[str, Any]) -> str | None:
    numerics, artifact = facts.get("numerics"), facts.get("artifact")
    if not isinstance(numerics, dict):
        return "numerics"
    for name in _NUMERICS:
        if numerics.get(name) is not None and not _is_number(numerics[name]):
            return f"numerics.{name}"
    if not isinstance(artifact, dict):
        return "artifact"
    return next((f"artifact.{name}" for name in _ARTIFACT_LISTS if not isinstance(artifact.get(name), list)), None)


def _wrong_accuracy(accuracy: object) -> str | None:
    if not isinstance(accuracy, dict):
        return "accuracy"
    if not isinstance(accuracy.get("metric"), str):
        return "accuracy.metric"
    samples = accuracy.get("samples")
    if not isinstance(samples, int) or isinstance(samples, bool) or samples < 0:
        return "accuracy.samples"
    return next((f"accuracy.{name}" for name in ("value", "float_value") if not _is_number(accuracy.get(name))), None)


def _wrong_layers(facts: Mapping[str, Any]) -> str | None:
    layers, note = facts.get("layers"), facts.get("note")
    if note is not None and not isinstance(note, str):
        return "note"
    if layers is None and note is not None:
        return None
    if not isinstance(layers, list):
        return "layers"
    return next((f"layers[{at}]" for at, layer in enumerate(layers) if not _is_layer(layer)), None)


def _is_layer(layer: object) -> bool:
    if not isinstance(layer, dict):
        return False
    named = all(isinstance(layer.get(name), str) for name in ("tensor", "operator"))
    return named and all(_is_number(layer.get(name)) for name in _LAYER_NUMBERS)


def _is_number(value: object) -> bool:
    """Tell whether a value is a number that a float can hold."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return -sys.float_info.max <= value <= sys.float_info.max
