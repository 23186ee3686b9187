"""Hold the results of one report against those of another: which regressed, which improved, which can't be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from farm.domain.errors import Incompatible, NotFound
from farm.domain.statistics.change import Change, Comparison, Measured, compare
from farm.report.model import Result

MEANT_FOR_LOAD = ("loaded", "steal", "unstable", "reference-drift", "memory-pressure", "governor", "unknown-state")
"""Reasons for which a measurement is not valid, but after which processor times still tell of the model."""
SAME_WORK = ("scenario", "threads")


@dataclass(frozen=True, slots=True)
class Compared:
    """Two results and what became of them; `why` says why nothing can be told, or what the reader must know."""

    before: Result
    after: Result
    change: Change
    comparison: Comparison | None
    across_hosts: bool
    why: str | None = None

    def as_json(self) -> dict[str, Any]:
        told = self.comparison
        return {
            "before": self.before.folder,
            "after": self.after.folder,
            "hosts": [_host(self.before), _host(self.after)],
            "across_hosts": self.across_hosts,
            "change": self.change.value,
            "ratio": told.ratio if told else None,
            "ratio_ci95": list(told.interval) if told else None,
            "noise_floor_ratio": told.floor_ratio if told else None,
            "basis": told.basis.value if told else None,
            "relative_to_reference": told.relative_to_reference if told else None,
            "why": self.why,
        }


def compare_results(before: Sequence[Result], after: Sequence[Result], *, across_hosts: bool = False) -> list[Compared]:
    """Compare what matches by model, target, runtime and recipe; one result on each side is compared by any name.

    Raises:
        NotFound: nothing matches, or nothing that was measured.
        Incompatible: matching results are of different hosts and `across_hosts` was not said; all of them named.
    """
    pairs = _pairs(before, after)
    apart = [(one, other) for one, other in pairs if _measured(one) and _measured(other) and _host(one) != _host(other)]
    if apart and not across_hosts:
        named = "; ".join(f"{one.folder} on {_host(one)} and on {_host(other)}" for one, other in apart)
        raise Incompatible(
            f"Times of different hosts say nothing about a model: {named}.",
            remedy="Measure both on one host, or say --across-hosts to compare the hosts.",
        )
    return [_compared(one, other) for one, other in pairs]


def _pairs(before: Sequence[Result], after: Sequence[Result]) -> list[tuple[Result, Result]]:
    if len(before) == len(after) == 1:
        return [(before[0], after[0])]
    later = {result.folder: result for result in after}
    pairs = [(result, later[result.folder]) for result in before if result.folder in later]
    if not pairs:
        raise NotFound(
            "No result of the first is among those of the second: model, target, runtime and recipe must be the same.",
            remedy="Name one result of each to compare those: JOB:model/target/runtime/recipe.",
        )
    return pairs


def _compared(before: Result, after: Result) -> Compared:
    across = _host(before) != _host(after)
    if (why := _silent(before) or _silent(after) or _different_work(before, after)) is not None:
        return Compared(before, after, Change.INCONCLUSIVE, None, across, why)
    same_reference = before.target_runtime == after.target_runtime and not across
    told = compare(_read(before), _read(after), same_reference=same_reference)
    return Compared(before, after, told.change, told, across, _note(before, after, across))


def _silent(result: Result) -> str | None:
    """Say why a result's times tell nothing; None when they do."""
    if result.execution_summary is None or result.conditions is None:
        return f"{result.folder} was not measured ({result.verdict or result.state})."
    if result.conditions.emulated is not False:
        return f"{result.folder} ran on a host that is emulated, or may be: its times say nothing about the target."
    beyond = [reason for reason in result.conditions.reasons if reason not in MEANT_FOR_LOAD]
    if beyond:
        return f"{result.folder} was measured while the host was not itself: {', '.join(beyond)}."
    if len(result.execution_summary.all_inference_times) < 2:
        return f"{result.folder} has one independent process; a comparison needs two."
    return None


def _different_work(before: Result, after: Result) -> str | None:
    """Say in what two measurements differ that makes their times different things."""
    for name in SAME_WORK:
        one, other = (getattr(result.execution_summary, name) for result in (before, after))
        if one != other:
            return f"{after.folder} was measured with {name} {other}, before with {one}."
    return None


def _note(before: Result, after: Result, across: bool) -> str | None:
    reasons = {reason for result in (before, after) if result.conditions for reason in result.conditions.reasons}
    notes = [f"compared by processor time, since a measurement is not valid: {', '.join(sorted(reasons))}"] * bool(
        reasons
    )
    notes += ["across hosts: this compares the hosts as well"] * across
    return "; ".join(notes) or None


def _read(result: Result) -> Measured:
    summary = result.execution_summary
    if summary is None or result.conditions is None:
        raise NotFound(f"{result.folder} was not measured.")
    more = summary.model_extra or {}
    return Measured(
        times=summary.all_inference_times,
        cpu_times=more.get("all_inference_cpu_times_us", ()),
        references=more.get("all_reference_times_us", ()),
        reference_cpu_times=more.get("all_reference_cpu_times_us", ()),
        is_valid=result.conditions.valid,
    )


def _measured(result: Result) -> bool:
    return result.execution_summary is not None


def _host(result: Result) -> str | None:
    return result.conditions.host if result.conditions else None
