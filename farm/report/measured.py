"""What was measured beside the latencies, in sentences: the terminal and the page show the same ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    said = [
        _scenario(summary.scenario, summary.p99, told),
        *_distribution(told.get("distribution") or {}),
        _threads(told.get("threads_sweep") or []),
        _sustained(told.get("sustained")),
        _generation(told.get("generation")),
        _energy(told.get("energy")),
        *_operators(result),
        *_mixed(result),
        *_conditions(result),
    ]
    return [text.plain(sentence) for sentence in said if sentence]


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


def _threads(sweep: list[Mapping[str, Any]]) -> str | None:
    first = next((one["p50"] for one in sweep if "p50" in one), None)
    parts = []
    for one in sweep:
        if "why_not" in one:
            parts.append(f"{one['threads']}: {one['why_not'].rstrip('.')}")
        else:
            parts.append(f"{one['threads']}: {text.milliseconds(one['p50'])} ms ({first / one['p50']:.2f}x)")
    return f"Threads {'; '.join(parts)}." if parts else None


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


def _operators(result: Result) -> Iterator[str]:
    """Say which operators take the time, and which an accelerator left to the CPU."""
    detail = [one.model_dump() for one in result.execution_detail or ()]
    by_type: dict[str, float] = {}
    for one in detail:
        by_type[one["type"]] = by_type.get(one["type"], 0.0) + (one["execution_time"] or 0.0)
    whole = sum(by_type.values())
    if whole > 0:
        ranked = [item for item in sorted(by_type.items(), key=lambda item: -item[1]) if item[1] >= SHOWN_SHARE * whole]
        ranked = ranked[:SHOWN_TYPES]
        yield "Where the time goes: " + ", ".join(f"{kind} {spent / whole:.0%}" for kind, spent in ranked) + "."
    if left := left_on_cpu(detail):
        more = f" and {len(left) - SHOWN_NAMES} more" if len(left) > SHOWN_NAMES else ""
        yield f"Left on the CPU: {', '.join(left[:SHOWN_NAMES])}{more}."


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
