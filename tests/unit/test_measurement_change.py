"""Regressed, improved or inconclusive: rarely wrong about equals, seldom blind to ten percent."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.domain.errors import BadMeasurement
from farm.domain.statistics.change import Basis, Change, Measured, compare
from tests.measurement_samples import DRIFTING, LOADED, QUIET, Noise, measured

HOSTS = {"quiet": (QUIET, 3), "drifting": (DRIFTING, 5), "loaded": (LOADED, 9)}
"""Kinds of hosts, and how many processes the stability rule takes there."""
every_host = pytest.mark.parametrize(("noise", "processes"), HOSTS.values(), ids=HOSTS)
PAIRS = 200


@every_host
def test_equals_are_told_apart_in_at_most_five_of_a_hundred(noise: Noise, processes: int) -> None:
    generator = random.Random(1)
    changes = [
        compare(*(measured(generator, noise, processes=processes) for _ in range(2))).change for _ in range(PAIRS)
    ]
    assert sum(change is not Change.INCONCLUSIVE for change in changes) <= 0.05 * PAIRS


@every_host
@pytest.mark.parametrize(("factor", "expected"), [(1.1, Change.REGRESSED), (1 / 1.1, Change.IMPROVED)])
def test_ten_percent_is_found_in_95_of_a_hundred(noise: Noise, processes: int, factor: float, expected: Change) -> None:
    generator = random.Random(2)
    changes = [
        compare(
            measured(generator, noise, processes=processes),
            measured(generator, noise, factor=factor, processes=processes),
        ).change
        for _ in range(PAIRS)
    ]
    assert changes.count(expected) >= 0.95 * PAIRS


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.5, 2.0), st.sampled_from(list(HOSTS.values())))
def test_what_regressed_one_way_improved_the_other(seed: int, factor: float, host: tuple[Noise, int]) -> None:
    generator = random.Random(seed)
    noise, processes = host
    before = measured(generator, noise, processes=processes)
    after = measured(generator, noise, factor=factor, processes=processes)
    there, back = compare(before, after), compare(after, before)
    opposite = {Change.REGRESSED: Change.IMPROVED, Change.IMPROVED: Change.REGRESSED}
    assert back.change is opposite.get(there.change, Change.INCONCLUSIVE)
    assert there.ratio * back.ratio == pytest.approx(1)
    assert there.interval[0] <= there.ratio <= there.interval[1]
    assert compare(before, before).change is Change.INCONCLUSIVE


def test_the_interval_holds_the_true_ratio_nineteen_times_of_twenty() -> None:
    generator = random.Random(3)
    held = 0
    for _ in range(PAIRS):
        told = compare(measured(generator, DRIFTING), measured(generator, DRIFTING, factor=1.2))
        held += told.interval[0] <= 1.2 <= told.interval[1]
    assert held >= 0.92 * PAIRS


def levels(*milliseconds: float, references: tuple[float, ...] = (), valid: bool = True) -> Measured:
    return Measured([[1000 * one] * 9 for one in milliseconds], references=[[1000 * r] * 9 for r in references],
                    is_valid=valid)  # fmt: skip


def test_a_change_below_three_percent_is_none() -> None:
    before = levels(10.0, 10.001, 10.002)
    assert compare(before, levels(10.25, 10.251, 10.252)).change is Change.INCONCLUSIVE
    assert compare(before, levels(10.35, 10.351, 10.352)).change is Change.REGRESSED


def test_a_change_below_the_hosts_own_noise_is_none() -> None:
    restless = (4.0, 4.3, 3.7)
    before, after = levels(10.0, 10.01, 10.02), levels(11.0, 11.01, 11.02)
    assert compare(before, after).change is Change.REGRESSED
    noisy = compare(
        replace(before, references=levels(*restless).times), replace(after, references=levels(*restless).times)
    )
    assert noisy.change is Change.INCONCLUSIVE
    assert noisy.floor_ratio > 0.1


def test_a_host_that_became_slower_is_not_a_model_that_did() -> None:
    before = levels(10.0, 10.1, 9.9, references=(4.0, 4.05, 3.95))
    after = levels(12.0, 12.1, 11.9, references=(4.8, 4.85, 4.75))
    told = compare(before, after)
    assert told.change is Change.INCONCLUSIVE
    assert told.relative_to_reference
    assert told.ratio == pytest.approx(1.0, abs=0.01)
    assert compare(before, after, same_reference=False).change is Change.REGRESSED


def test_processor_time_decides_where_other_work_interrupted_the_calls() -> None:
    generator = random.Random(4)
    before = measured(generator, LOADED, processes=9)
    assert compare(before, measured(generator, LOADED, processes=9)).basis is Basis.PROCESSOR
    assert compare(replace(before, is_valid=True), replace(before, is_valid=True)).basis is Basis.WALL
    assert compare(replace(before, cpu_times=()), before).basis is Basis.WALL


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        (levels(1.0), levels(1.0, 1.0), "the earlier measurement has 1 independent"),
        (levels(1.0, 1.0), Measured([[1.0], []]), "the later measurement has processes without times"),
        (levels(1.0, 1.0), Measured([[1.0], [math.nan]]), "not positive"),
        (levels(1.0, 1.0), Measured([[1.0], [-1.0]]), "not positive"),
    ],
    ids=["few", "empty", "nan", "negative"],
)
def test_what_can_not_be_compared_is_named(before: Measured, after: Measured, word: str) -> None:
    with pytest.raises(BadMeasurement, match=word):
        compare(before, after)
