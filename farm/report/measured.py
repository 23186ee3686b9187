"""What was measured beside the latencies, in sentences: the terminal and the page show the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from farm.domain.operators import left_on_cpu
from farm.report import text
from farm.report.model import Result

SHOWN_TYPES, SHOWN_SHARE = 4, 0.01
SHOWN_NAMES = 5
SHOWN_PROCESSES = 3


def sentences(result: Result) -> list[str]:
    """Say what a reader has to know about a measurement beyond its row, in the order of importance."""
    summary = result.execution_summary
    if summary is None:
        return []
    told: Mapping[str, Any] = summary.model_extra or {}
    mark = _mark(result)
    figures = [
        (mark, _scenario(summary.scenario, summary.p99, told)),
        *((mark, said) for said in _distribution(told.get("distribution") or {})),
        *_threads(told.get("threads_sweep") or [], result),
        *(
            (_mark(result, told.get(name)), say(told.get(name)))
            for name, say in _SAID.items()
            if _may_say(name, result)
        ),
        (mark, _time_by_type(result)),
    ]
    said = [
        *(f"{mark}{sentence}" for mark, sentence in figures if sentence),
        *_left_to_cpu(result),
        *_edge_tpu_memory(result),
        *_mixed(result),
        *_conditions(result),
    ]
    return [text.plain(sentence) for sentence in said if sentence]


def _mark(result: Result, part: Mapping[str, Any] | None = None) -> str:
    """Begin the sentence of a figure that does not count with why; empty where it counts.

    What was taken after the latencies has conditions of its own; in older reports it shares theirs.
    """
    own = (part or {}).get("conditions")
    if own is None:
        own = {"valid": result.is_valid, "reasons": result.conditions.reasons if result.conditions else ()}
    if own["valid"]:
        return ""
    return f"Not valid ({', '.join(own['reasons']) or 'no reason was recorded'}): "


def _may_say(name: str, result: Result) -> bool:
    """Tell whether a part is of this host: the meter of one that is emulated counts another machine's energy."""
    return name != "energy" or (result.conditions is not None and result.conditions.emulated is False)


def all_sentences(result: Result) -> list[str]:
    """Say as well what could not be told, for a page that has the room."""
    note = (result.model_extra or {}).get("execution_detail_note")
    return [*sentences(result), *([text.plain(str(note))] if note else [])]


def _scenario(scenario: str | None, p99: float | None, told: Mapping[str, Any]) -> str | None:
    if scenario == "multi_stream":
        return f"Scenario multi_stream: times are of queries of {told.get('samples_per_query')} samples."
    if scenario == "offline":
        return f"Scenario offline: {told.get('samples_per_s') or 0:.4g} samples per second."
    if scenario != "server":
        return None
    rates = f"{told.get('target_qps'):g} queries per second asked for, {told.get('samples_per_s') or 0:.4g} answered"
    bound = told.get("latency_bound_ms")
    if bound is None:
        return f"Scenario server: {rates}; no bound was named."
    if p99 is None or told.get("met") is None:
        return f"Scenario server: {rates}; too few queries to tell whether p99 keeps the bound of {bound:g} ms."
    verb = "keeps" if told["met"] else "breaks"
    return f"Scenario server: {rates}; p99 of {text.milliseconds(p99)} ms {verb} the bound of {bound:g} ms."


def _generation(told: Mapping[str, Any] | None) -> str | None:
    """Say how fast a decoder writes; its prompt goes in token by token."""
    if not told:
        return None
    rate, peak = told.get("tokens_per_second"), told.get("peak_memory_bytes")
    further = f", then {rate:.3g} tokens per second" if rate else ""
    memory = f"; peak memory {text.size(peak)}" if peak else ""
    first = f"first token after {text.milliseconds(told['time_to_first_token'])} ms"
    return f"Text: {first} with a prompt of {told['prompt_tokens']} tokens{further}{memory}."


def _distribution(told: Mapping[str, Any]) -> Iterator[str]:
    named = told.get("named") or ()
    if "two-modes" in named:
        low, high = told["modes_us"]
        share = told["mode_shares"][1]
        yield f"The times have two modes, {text.milliseconds(low)} and {text.milliseconds(high)} ms ({share:.0%} slow)."
    if "drift" in named:
        change = told["drift_ratio"] - 1
        longer = "longer" if change > 0 else "shorter"
        yield f"The times drift: at the end of a process they are {abs(change):.0%} {longer} than at its beginning."


def _threads(sweep: list[Mapping[str, Any]], result: Result) -> Iterator[tuple[str, str]]:
    """Say the times of a sweep, those that count apart; a speed-up is told of two that both count, or neither."""
    measured = [one for one in sweep if "p50" in one]
    parts: dict[str, list[str]] = {}
    for one in sweep:
        mark = _mark(result, one)
        if "why_not" in one:
            parts.setdefault("", []).append(f"{one['threads']}: {one['why_not'].rstrip('.')}")
            continue
        said = f"{one['threads']}: {text.milliseconds(one['p50'])} ms"
        if (mark == "") == (_mark(result, measured[0]) == ""):
            said += f" ({measured[0]['p50'] / one['p50']:.2f}x)"
        parts.setdefault(mark, []).append(said)
    yield from ((mark, f"Threads {'; '.join(said)}.") for mark, said in parts.items())


def _sustained(told: Mapping[str, Any] | None) -> str | None:
    if not told:
        return None
    warmed = [one["temperature_c"] for one in told["windows"] if one.get("temperature_c") is not None]
    heat = f", {warmed[0]:.0f} to {max(warmed):.0f} °C" if warmed else ""
    slower = told["time_to_throttle_s"]
    when = "never throttled" if slower is None else f"slower from {slower:g} s on"
    ratio, duration = told["steady_state_ratio"], told["duration_s"]
    return f"Sustained for {duration:g} s: {ratio:.0%} of the first speed at the end, {when}{heat}."


def _energy(told: Mapping[str, Any] | None) -> str | None:
    if not told:
        return None
    if told.get("energy_per_inference_mj") is None:
        return f"Energy by {told['meter']}: none, {told.get('why_not', 'the meter gave nothing')}."
    return (
        f"Energy {told['energy_per_inference_mj']:.3g} mJ per inference by {told['meter']} ({told['covers']}), "
        f"{told['idle_power_w']:.3g} W of the idle host subtracted."
    )


def _time_by_type(result: Result) -> str | None:
    """Say which operators take the time."""
    by_type: dict[str, float] = {}
    for one in result.execution_detail or ():
        by_type[one.type] = by_type.get(one.type, 0.0) + (one.execution_time or 0.0)
    whole = sum(by_type.values())
    if whole <= 0:
        return None
    ranked = [item for item in sorted(by_type.items(), key=lambda item: -item[1]) if item[1] >= SHOWN_SHARE * whole]
    shown = ", ".join(f"{kind} {spent / whole:.0%}" for kind, spent in ranked[:SHOWN_TYPES])
    return f"Where the time goes: {shown}."


def _left_to_cpu(result: Result) -> Iterator[str]:
    """Say which operators an accelerator left to the CPU."""
    detail = [one.model_dump() for one in result.execution_detail or ()]
    if left := left_on_cpu(detail):
        more = f" and {len(left) - SHOWN_NAMES} more" if len(left) > SHOWN_NAMES else ""
        yield f"Left on the CPU: {', '.join(left[:SHOWN_NAMES])}{more}."


def _edge_tpu_memory(result: Result) -> Iterator[str]:
    """Say what a compiled file's parameters take of an Edge TPU's memory; a number that no file tells is marked."""
    edge_tpu = (result.model_extra or {}).get("edgetpu") or {}
    memory, mark = edge_tpu.get("memory"), "" if edge_tpu.get("predicted") is False else "Predicted, not measured: "
    if memory:
        cached, streamed = (text.size(memory[f"{name}_bytes"]) for name in ("cached", "streamed"))
        yield f"{mark}Edge TPU: {cached} of parameters stay on the chip, {streamed} are sent with each inference."


def _mixed(result: Result) -> Iterator[str]:
    """Say which operators a quantizer left in float, and what each of the dearest costs in integers."""
    told = result.model_extra or {}
    if kept := told.get("keep_float"):
        more = f" and {len(kept) - SHOWN_NAMES} more" if len(kept) > SHOWN_NAMES else ""
        yield f"Kept in float: {', '.join(kept[:SHOWN_NAMES])}{more}."
    if ranking := told.get("sensitivity"):
        dearest = (f"{one['operator']} {text.decibels(one['sqnr_db'])}" for one in ranking[:SHOWN_NAMES])
        yield f"Of {len(ranking)} operators quantized alone the dearest are {', '.join(dearest)}."


def _conditions(result: Result) -> Iterator[str]:
    told = (result.conditions.model_extra or {}) if result.conditions else {}
    for earlier in told.get("earlier") or ():
        reasons, pause = ", ".join(earlier["reasons"]), text.seconds(earlier.get("cool_down_s") or 0.0)
        yield f"Measured again after a pause of {pause}: the first time the conditions were {reasons}."
    if not result.is_valid and (beside := told.get("competing_processes")):
        named = ", ".join(f"{one['name']} ({one['cores']:.2f} cores)" for one in beside[:SHOWN_PROCESSES])
        yield f"Beside it ran {named}."


_SAID: Mapping[str, Callable[[Mapping[str, Any] | None], str | None]] = {
    "sustained": _sustained,
    "generation": _generation,
    "energy": _energy,
}
"""Parts of a measurement that are taken after the latencies, and what each says."""
