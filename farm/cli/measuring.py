"""How results are to be measured: the flags of `farm submit`, and the same words in a job file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from farm.domain.errors import BadRequest

if TYPE_CHECKING:
    from farm.client.client import Measuring

Scenario = Annotated[
    Literal["single_stream", "multi_stream", "offline", "server"] | None,
    typer.Option(help="MLPerf's: one query after the other (the default), N samples a query, all at once, at random."),
]
Threads = Annotated[
    str | None, typer.Option(metavar="1,2,4", help="Thread counts: latencies are told of the first, several are swept.")
]
Sustained = Annotated[str | None, typer.Option(metavar="60s", help="Also run for so long without a pause, up to 25m.")]
SamplesPerQuery = Annotated[int | None, typer.Option(help="Samples in a query of multi_stream; 8 by default.")]
TargetQps = Annotated[float | None, typer.Option(help="Queries per second of server; 10 by default.")]
LatencyBound = Annotated[float | None, typer.Option("--latency-bound-ms", help="What server's p99 has to keep.")]


def measuring_of(given: Mapping[str, Any]) -> Measuring:
    """Read flags, or the keys of a job file; those that were not given are left out.

    Raises:
        BadRequest: threads are no list of counts, or the sustained run no duration.
    """
    from farm.client.durations import parse_duration

    told: Measuring = {}
    if given.get("scenario"):
        told["scenario"] = given["scenario"]
    if given.get("threads") is not None:
        told["threads"] = thread_counts(given["threads"])
    if given.get("sustained") is not None:
        told["sustained_s"] = parse_duration(given["sustained"])
    if given.get("samples_per_query") is not None:
        told["samples_per_query"] = given["samples_per_query"]
    if given.get("target_qps") is not None:
        told["target_qps"] = given["target_qps"]
    if given.get("latency_bound_ms") is not None:
        told["latency_bound_ms"] = given["latency_bound_ms"]
    return told


def thread_counts(given: str | int | list[int]) -> list[int]:
    """Read thread counts: "1,2,4", one number, or a list of them.

    Raises:
        BadRequest: it is none of these.
    """
    parts = given.split(",") if isinstance(given, str) else given if isinstance(given, list) else [given]
    try:
        return [int(part) for part in parts]
    except ValueError:
        raise BadRequest(f"Threads {given!r} are not of the form 1,2,4.") from None
