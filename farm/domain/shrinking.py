"""Delta debugging: find a small part of a failing whole that still fails.

The search is a generator that proposes a part and is sent whether it still fails, so whoever tests parts (here:
sandboxed runs of a toolchain) stays outside. A part is any subset of the elements, in their order.

Source: A. Zeller, R. Hildebrandt, Simplifying and Isolating Failure-Inducing Input, IEEE TSE 28(2), 2002. Here
only complements are tested and a pass goes on behind what it removed, which saves tests when few elements matter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

Part = tuple[int, ...]
Search = Generator[Part, bool, Part]


@dataclass(frozen=True, slots=True)
class Budget:
    """What a search may cost: tests, seconds, and the clock that counts these."""

    tries: int
    seconds: float
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The smallest failing part found; `minimal` when leaving out any one of its elements ends the failure."""

    part: Part
    attempts: int
    minimal: bool


def shrink(count: int, fails: Callable[[Part], bool], budget: Budget, hints: Sequence[Part] = ()) -> Shrunk:
    """Search until nothing more can be left out, or the budget is spent.

    Args:
        count: the elements of the whole, which is known to fail.
        fails: tests a part; never given the whole nor nothing, and no part twice.
        budget: looked at before each test.
        hints: parts to try first, the smallest at the front.
    """
    search = propose(count, hints)
    best, attempts, ends = tuple(range(count)), 0, budget.clock() + budget.seconds
    try:
        part = next(search)
        while attempts < budget.tries and budget.clock() < ends:
            attempts += 1
            failed = fails(part)
            if failed:
                best = part
            part = search.send(failed)
    except StopIteration as end:
        return Shrunk(end.value, attempts, minimal=True)
    return Shrunk(best, attempts, minimal=False)


def propose(count: int, hints: Sequence[Part] = ()) -> Search:
    """Yield parts of `range(count)` to test, each smaller than the last one that failed; return the smallest.

    The result is 1-minimal for every predicate that answers the same part alike.
    """
    part, passed = tuple(range(count)), set[Part]()
    for hint in hints:
        if 0 < len(hint) < len(part) and hint not in passed:
            if (yield hint):
                part = hint
                break
            passed.add(hint)
    size = len(part) // 2
    while size:
        before = len(part)
        part = yield from _without_chunks(part, size, passed)
        if len(part) == before:
            size //= 2
        size = min(size, len(part) // 2)
    return part


def _without_chunks(part: Part, size: int, passed: set[Part]) -> Search:
    """Leave out one chunk of `size` after the other, wherever the rest still fails."""
    start = 0
    while start < len(part):
        rest = part[:start] + part[start + size :]
        if rest and rest not in passed:
            if (yield rest):
                part = rest
                continue
            passed.add(rest)
        start += size
    return part
