"""Any process of a run may die at any moment: the run ends as a typed ending, nothing is left, the next run is fine."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.sandbox import Ending, Level, processes

sys.path.insert(0, str(Path(__file__).parents[1]))
from sandbox_fixtures import Bench, adopt_orphans, bench, survivors

MODES = ({}, {"fresh": True}, {"spawns": True})


@pytest.fixture(scope="module", params=[Level.FULL, Level.PARTIAL])
def at(request: pytest.FixtureRequest) -> Iterator[Bench]:
    adopt_orphans()
    with bench(request.param) as made:
        yield made


@pytest.mark.parametrize("seed", range(15))
def test_a_death_at_a_random_moment(at: Bench, seed: int) -> None:
    chance = random.Random(seed)
    at.sandbox.warm(at.environment)
    (zygote,) = at.sandbox.zygote_pids()
    endings: list[Ending] = []

    def run() -> None:
        endings.append(at.run("sleep_with_family", wall_s=1, **MODES[seed % 3])[0])

    thread = threading.Thread(target=run)
    thread.start()
    threading.Event().wait(chance.uniform(0, 0.08))
    family = processes.descendants(zygote)
    victim = chance.choice([zygote, *family])
    processes.kill(victim)
    thread.join(20)
    family += processes.descendants(zygote)

    assert [ending.end for ending in endings] in (["setup"], ["signal"], ["wall"], ["exit"])
    assert survivors(family) == []
    assert at.run("exit_with_7")[0].exit_code == 7
