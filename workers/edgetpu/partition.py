"""Which operators end in the one part of the graph that the Edge TPU runs.

The compiler is a delegate of TensorFlow Lite: the graph is split in rounds, each of which takes every operator that is
ready and of the kind (supported or not) of the first ready one. Without --enable_multiple_subgraphs only the first
supported round is compiled, so that unsupported operators before it cost nothing, and what needs an unsupported
result after it stays on the CPU.
Source: Coral documentation, Edge TPU Compiler; TensorFlow Lite, graph_info.cc
(PartitionGraphIntoIndependentNodeSubsets).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from workers.edgetpu.model import ABSENT, Model


def first_part(model: Model, supported: Sequence[bool]) -> frozenset[int]:
    """Return the indices of the operators in the first supported part, empty when none is supported."""
    waits, users = _edges(model)
    ready = [{i for i, count in enumerate(waits) if not count and supported[i] is kind} for kind in (False, True)]
    if min(ready[False], default=len(waits)) < min(ready[True], default=len(waits)):
        _take(ready, waits, users, supported, kind=False)
    return frozenset(_take(ready, waits, users, supported, kind=True))


def _edges(model: Model) -> tuple[list[int], dict[int, list[int]]]:
    """Count for each operator the results it waits for, and list for each operator who uses its results."""
    maker = {tensor: each.index for each in model.operators for tensor in each.outputs if tensor != ABSENT}
    needs = [{maker[t] for t in each.inputs if t in maker and maker[t] != each.index} for each in model.operators]
    users = defaultdict(list)
    for index, makers in enumerate(needs):
        for each in makers:
            users[each].append(index)
    return [len(makers) for makers in needs], users


def _take(
    ready: list[set[int]], waits: list[int], users: dict[int, list[int]], supported: Sequence[bool], *, kind: bool
) -> list[int]:
    """Take every operator of one kind that is ready or becomes so on the way; leave the other kind ready."""
    taken: list[int] = []
    while ready[kind]:
        taken.append(ready[kind].pop())
        for user in users[taken[-1]]:
            waits[user] -= 1
            if not waits[user]:
                ready[supported[user]].add(user)
    return taken
