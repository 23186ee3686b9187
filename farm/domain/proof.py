"""What `farm prove` concludes of a host from what was attested and measured there. Pure: a reader concludes it again.

A published latency is a sanity check, not a target: other kernels, compilers and clocks move it. Twice as fast or slow
still is plausible, ten times is another machine or another file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

FORMAT = "edge-model-farm/prove/1"
PLAUSIBLE = (0.4, 2.5)
"""Measured over published, between which a host is taken for what it says it is."""


class Proof(StrEnum):
    """How far a report proves that a host is what it says, and measures as such."""

    PROVEN = "proven"
    EMULATED = "emulated"
    NOT_PROVEN = "not-proven"


def compare(published: Sequence[Mapping[str, Any]], measured: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Hold measurements against published latencies, one entry for each published one.

    Args:
        published: model, runtime, latency_ms, threads, source.
        measured: model, runtime, threads, p50_ms, valid, emulated.
    """
    told = []
    for one in published:
        ours = [m for m in measured if _is_same(m, one)]
        found = next(iter(sorted(ours, key=lambda m: not m["valid"])), None)
        ratio = None if found is None or not found["valid"] else found["p50_ms"] / one["latency_ms"]
        told.append(
            {
                **{name: one.get(name) for name in ("model", "runtime", "threads", "latency_ms", "source")},
                "measured_ms": found["p50_ms"] if found and not found["emulated"] else None,
                "ratio": None if ratio is None else round(ratio, 3),
                "result": _result(found, ratio),
            }
        )
    return told


def _is_same(measured: Mapping[str, Any], published: Mapping[str, Any]) -> bool:
    threads = published.get("threads")
    same = measured["model"] == published["model"] and measured["runtime"] == published["runtime"]
    return same and threads in (None, measured.get("threads"))


def _result(found: Mapping[str, Any] | None, ratio: float | None) -> str:
    if found is None:
        return "not measured"
    if found["emulated"]:
        return "emulated"
    if ratio is None:
        return "invalid measurement"
    return "plausible" if PLAUSIBLE[0] <= ratio <= PLAUSIBLE[1] else "implausible"


def foreign_figures(
    told: Sequence[Mapping[str, Any]], known: Sequence[Mapping[str, Any]]
) -> tuple[list[str], list[str]]:
    """Name the published figures that a report alone holds, and those that it leaves out, against a table of ours."""
    theirs, ours = ([_figure(one) for one in table] for table in (told, known))
    return [one for one in theirs if one not in ours], [one for one in ours if one not in theirs]


def _figure(published: Mapping[str, Any]) -> str:
    threads = f" with {published['threads']} threads" if published.get("threads") else ""
    of = f"{published['model']} under {published['runtime']}{threads}"
    return f"{of}: {published['latency_ms']:g} ms ({published['source']})"


def conclude(report: Mapping[str, Any]) -> tuple[Proof, list[str]]:
    """Conclude from a report's body; the reasons say what keeps the host from being proven."""
    host = report["host"]
    if host["emulated"] is not False:
        told = "is emulated" if host["emulated"] else "may be emulated: nothing shows that it is not"
        return Proof.EMULATED, [f"Host {host['name']} {told}; its times say nothing about a device."]
    reasons = list(_lacking(report))
    return (Proof.NOT_PROVEN, reasons) if reasons else (Proof.PROVEN, [])


def _lacking(report: Mapping[str, Any]) -> Iterable[str]:
    host = report["host"]
    if not host["can_measure"]:
        yield f"Nothing proves that {host['name']} is a {host['profile']}; it only satisfies it."
    if not report["self_tests"]:
        yield "The host did not test itself."
    for test in report["self_tests"]:
        if test["verdict"] != "passed":
            yield f"Self-test under {test['runtime']}: {test['verdict']}. {' '.join(test['reasons'])}".strip()
    for one in report["measurements"]:
        if not one["valid"]:
            why = ", ".join(one["reasons"]) or "no reason given"
            yield f"{one['model']} under {one['runtime']}: the measurement is not valid ({why})."
    compared = report["comparisons"]
    if compared and all(one["result"] == "not measured" for one in compared):
        wanted = ", ".join(dict.fromkeys(f"{one['model']} under {one['runtime']}" for one in compared))
        yield (
            f"No published figure of a {host['profile']} was measured ({wanted}); give the files: "
            f"farm prove --model {compared[0]['model']}=FILE."
        )
    for one in compared:
        if one["result"] == "implausible":
            yield (
                f"{one['model']} under {one['runtime']} takes {one['measured_ms']:.3g} ms, {one['ratio']:.2g} times "
                f"the published {one['latency_ms']:g} ms ({one['source']})."
            )
