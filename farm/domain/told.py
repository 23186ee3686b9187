"""What a host or a child tells of a step that succeeded, held against what can be stored and what its kind gives."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Mapping
from typing import Any

from farm.domain.data import CHOSEN_BY
from farm.domain.stage import TRANSFORMS, Kind

DEEPEST = 64
_NUMERICS = ("sqnr_db", "cosine", "max_abs_error")
_LAYER_NUMBERS = ("sqnr_db", "cosine", "max_abs_error", "max_abs_value", "clipped_share")
_ARTIFACT_LISTS = ("inputs", "outputs", "contract_changes")
_TIMES = ("estimated_inference_time", "p50", "first_load_time")
_OPTIONAL_TIMES = ("p90", "p99", "p999", "warm_load_time", "first_inference_us")


def unstorable(told: Any) -> str | None:
    """Name what PostgreSQL's jsonb can't hold: NUL, lone surrogates, numbers that are not finite, endless nesting."""
    pending: list[tuple[Any, int]] = [(told, 0)]
    while pending:
        value, depth = pending.pop()
        if why := _why_not_storable(value, depth):
            return why
        if isinstance(value, dict):
            pending += [(item, depth + 1) for pair in value.items() for item in pair]
        elif isinstance(value, (list, tuple)):
            pending += [(item, depth + 1) for item in value]
    return None


def missing_output(kind: Kind, names: Collection[str]) -> str | None:
    """Name the output that the next steps need and that is not there."""
    needed = "model" if kind in TRANSFORMS else "samples" if kind is Kind.REFERENCE else None
    return needed if needed is not None and needed not in names else None


def unusable_fact(kind: Kind, facts: Mapping[str, Any]) -> str | None:
    """Name the fact of a child that a verdict rests on and that has not its shape."""
    checks = {
        Kind.COMPARE: lambda: _wrong_comparison(facts),
        Kind.EVALUATE: lambda: _wrong_accuracy(facts.get("accuracy")),
        Kind.TRACE: lambda: _wrong_layers(facts),
    }
    return checks[kind]() if kind in checks else None


def nonsense(kind: Kind, outputs: Collection[str], facts: Mapping[str, Any]) -> str | None:
    """Say what in a host's success can't be: empty, not finite, negative where a clock never is; None when all can."""
    if why := unstorable(dict(facts)):
        return f"{why}, which can't be stored"
    if output := missing_output(kind, outputs):
        return f"no output {output!r}"
    if kind is Kind.MEASURE and (fact := _wrong_measurement(facts)):
        return f"no usable {fact}"
    fact = unusable_fact(kind, facts)
    return f"no usable {fact}" if fact else None


def _wrong_measurement(facts: Mapping[str, Any]) -> str | None:
    summary, conditions = facts.get("execution_summary"), facts.get("conditions")
    if not isinstance(summary, dict):
        return "execution_summary"
    for name in _TIMES:
        if not _is_positive(summary.get(name)):
            return f"execution_summary.{name}"
    for name in _OPTIONAL_TIMES:
        if summary.get(name) is not None and not _is_positive(summary[name]):
            return f"execution_summary.{name}"
    samples = summary.get("all_inference_times")
    if not isinstance(samples, list) or not samples or not all(_are_times(times) for times in samples):
        return "execution_summary.all_inference_times"
    if not isinstance(conditions, dict):
        return "conditions"
    if not isinstance(conditions.get("valid"), bool) or not isinstance(conditions.get("reasons"), list):
        return "conditions.valid"
    return "conditions.valid of an emulated host" if conditions["valid"] and conditions.get("emulated") else None


def _are_times(times: object) -> bool:
    return isinstance(times, list) and bool(times) and all(_is_positive(time) for time in times)


def _is_positive(value: object) -> bool:
    return _is_number(value) and isinstance(value, (int, float)) and value > 0


def _why_not_storable(value: Any, depth: int) -> str | None:
    if depth > DEEPEST:
        return f"values nested deeper than {DEEPEST}"
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= c <= "\udfff" for c in value)):
        return f"the text {value[:80]!a}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"the number {value}"
    return None


def _wrong_comparison(facts: Mapping[str, Any]) -> str | None:
    numerics, artifact = facts.get("numerics"), facts.get("artifact")
    if not isinstance(numerics, dict):
        return "numerics"
    chosen = numerics.get(CHOSEN_BY, {})
    if not isinstance(chosen, dict):
        return f"numerics.{CHOSEN_BY}"
    for name in _NUMERICS:
        if any(told.get(name) is not None and not _is_number(told[name]) for told in (numerics, chosen)):
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
    chosen = accuracy.get(CHOSEN_BY, accuracy)
    if not isinstance(chosen, dict):
        return f"accuracy.{CHOSEN_BY}"
    scores = ((name, told.get(name)) for name in ("value", "float_value") for told in (accuracy, chosen))
    return next((f"accuracy.{name}" for name, value in scores if not _is_number(value)), None)


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
