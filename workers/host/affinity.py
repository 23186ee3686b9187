"""Choose the cores a measurement is pinned to, and pin to them."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from farm.domain.errors import ConfigurationError
from hardware_profiles.schema import MeasurementPolicy
from workers.host.cpu import allowed_cores, read_cores
from workers.host.facts import Core
from workers.host.readings import CoreTime, core_times

QUIET_CHECK_S = 0.25
BUSY_STEP = 0.05
"""Cores whose busy share differs by less are equally quiet."""


def choose_cores(
    cores: Sequence[Core], allowed: Collection[int], busy: Mapping[int, float], count: int
) -> tuple[int, ...]:
    """Pick the fastest, then the quietest cores; hardware threads of one core only when nothing else is left.

    Among equals the highest number wins, for the first core serves most interrupts.

    Raises:
        ConfigurationError: fewer cores are allowed than asked for.
    """
    usable = [core for core in cores if core.index in allowed]
    if count > len(usable):
        raise ConfigurationError(f"A measurement wants {count} cores; this process may use {len(usable)}.")
    ranked = sorted(usable, key=lambda core: (-_speed(core), _business(core, busy), -core.index))
    chosen: list[Core] = []
    for spare in (False, True):
        for core in ranked:
            shares = any(other.index in core.siblings for other in chosen)
            if len(chosen) < count and core not in chosen and shares <= spare:
                chosen.append(core)
    return tuple(sorted(core.index for core in chosen))


def quiet_cores(policy: MeasurementPolicy, count: int, root: Path = Path("/")) -> tuple[int, ...]:
    """Pick `count` cores, of those the policy names, after watching this host for a quarter of a second.

    Raises:
        ConfigurationError: too few cores are allowed, or the policy names one that isn't.
    """
    allowed = allowed_cores(root)
    if policy.cores is not None:
        allowed = _policy_cores(policy.cores, allowed, count)
    before = core_times(root)
    time.sleep(QUIET_CHECK_S)
    return choose_cores(read_cores(root), allowed, busy_shares(before, core_times(root)), count)


def busy_shares(before: Mapping[int, CoreTime], after: Mapping[int, CoreTime]) -> dict[int, float]:
    """Give each core's share of time that was busy or stolen between two readings."""
    shares = {}
    for index in before.keys() & after.keys():
        total = after[index].total_s - before[index].total_s
        used = after[index].busy_s + after[index].steal_s - before[index].busy_s - before[index].steal_s
        shares[index] = used / total if total > 0 else 0.0
    return shares


@contextmanager
def pinned(cores: Collection[int]) -> Iterator[None]:
    """Confine the calling thread, and the children it starts, to these cores."""
    former = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, former)


def _policy_cores(named: tuple[int, ...], allowed: tuple[int, ...], count: int) -> tuple[int, ...]:
    if missing := [str(index) for index in named if index not in allowed]:
        raise ConfigurationError(
            f"The profile pins measurements to core {', '.join(missing)}; this process may not use it."
        )
    return named[:count] if len(named) >= count else named


def _speed(core: Core) -> int:
    return core.capacity or core.clock_max_khz or 0


def _business(core: Core, busy: Mapping[int, float]) -> int:
    """Grade how busy a core and its hardware threads are, in steps."""
    return max(int(busy.get(index, 0.0) / BUSY_STEP) for index in (core.index, *core.siblings))
