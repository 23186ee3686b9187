"""Measurements are pinned to the fastest, then the quietest cores."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.domain.errors import ConfigurationError
from hardware_profiles.schema import MeasurementPolicy
from workers.host.affinity import busy_shares, choose_cores, pinned, quiet_cores
from workers.host.cpu import read_cores
from workers.host.facts import Core
from workers.host.readings import CoreTime

TREES = Path(__file__).parents[1] / "trees"
BIG_LITTLE = read_cores(TREES / "rockchip-rk3588")
THREADED = read_cores(TREES / "x86-avx2")


def test_big_cores_come_first_even_when_busier() -> None:
    assert choose_cores(BIG_LITTLE, range(8), {7: 0.3, 6: 0.1, 5: 0.2, 4: 0.4}, 2) == (5, 6)


def test_quiet_core_wins_among_equals() -> None:
    assert choose_cores(BIG_LITTLE, range(4), {0: 0.5, 1: 0.0, 2: 0.5, 3: 0.5}, 1) == (1,)


def test_nearly_equal_load_does_not_decide() -> None:
    assert choose_cores(BIG_LITTLE, range(4), {0: 0.001, 1: 0.002, 2: 0.003, 3: 0.004}, 1) == (3,)


def test_hardware_threads_of_one_core_are_the_last_resort() -> None:
    assert choose_cores(THREADED, range(4), {}, 2) == (2, 3)
    assert choose_cores(THREADED, range(4), {2: 0.9}, 1) == (3,)
    assert choose_cores(THREADED, range(4), {}, 3) == (1, 2, 3)


def test_core_is_busy_when_its_other_thread_is() -> None:
    assert choose_cores(THREADED, [2, 3], {1: 0.8}, 1) == (2,)


def test_clock_stands_for_speed_where_capacity_is_hidden() -> None:
    cores = [Core(0, clock_max_khz=2_000_000), Core(1, clock_max_khz=1_000_000)]
    assert choose_cores(cores, [0, 1], {}, 1) == (0,)


def test_more_cores_than_allowed_is_the_operators_matter() -> None:
    with pytest.raises(ConfigurationError, match=r"wants 4 cores.*may use 2"):
        choose_cores(BIG_LITTLE, [0, 1], {}, 4)


@given(st.sets(st.integers(0, 7), min_size=1), st.data())
def test_choice_is_allowed_and_as_many_as_asked(allowed: set[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(allowed)))
    busy = data.draw(st.dictionaries(st.integers(0, 7), st.floats(0, 1)))
    chosen = choose_cores(BIG_LITTLE, allowed, busy, count)
    assert len(set(chosen)) == count
    assert set(chosen) <= allowed


def test_share_counts_work_and_steal() -> None:
    before, after = {0: CoreTime(1.0, 0.0, 10.0)}, {0: CoreTime(1.5, 0.25, 11.0)}
    assert busy_shares(before, after) == {0: 0.75}
    assert busy_shares(before, before) == {0: 0.0}


def test_quiet_core_of_this_machine_may_be_pinned() -> None:
    (core,) = quiet_cores(MeasurementPolicy(), 1)
    former = os.sched_getaffinity(0)
    with pinned((core,)):
        assert os.sched_getaffinity(0) == {core}
    assert os.sched_getaffinity(0) == former


def test_cores_of_the_policy_are_taken() -> None:
    first = min(os.sched_getaffinity(0))
    assert quiet_cores(MeasurementPolicy(cores=(first,)), 1) == (first,)


def test_core_of_the_policy_that_is_not_ours_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="core 4095"):
        quiet_cores(MeasurementPolicy(cores=(4095,)), 1)
