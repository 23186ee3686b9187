"""Energy meters are read on trees: what they count, where they wrap, what is no meter; idle power is subtracted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.domain.statistics.energy import EnergyRun, Reading, energy
from hardware_profiles.loader import load_profiles
from workers.further import Further
from workers.host.energy import Counter, Gauge, Metering, find_meter
from workers.results import Made

RAPL = "sys/class/powercap/intel-rapl:0"
WRAP_UJ = 262_143_328_850
"""max_energy_range_uj as Intel cores of the last ten years give it."""

Tree = Callable[[Mapping[str, Any]], Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    def make(files: Mapping[str, Any]) -> Path:
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{content}\n")
        return tmp_path

    return make


def rapl(energy_uj: int = 1000, package: int = 0) -> dict[str, Any]:
    zone = f"sys/class/powercap/intel-rapl:{package}"
    return {
        f"{zone}/name": f"package-{package}",
        f"{zone}/energy_uj": energy_uj,
        f"{zone}/max_energy_range_uj": WRAP_UJ,
        f"{zone}:0/name": "core",
        f"{zone}:0/energy_uj": 1,
        f"{zone}:0/max_energy_range_uj": WRAP_UJ,
    }


def test_the_packages_are_added_and_what_lies_within_them_is_not(tree: Tree) -> None:
    psys = {"sys/class/powercap/intel-rapl:2/name": "psys", "sys/class/powercap/intel-rapl:2/energy_uj": 5}
    root = tree({**rapl(2_000_000), **rapl(3_000_000, package=1), **psys})
    meter = find_meter(root)

    assert isinstance(meter, Counter)
    assert (meter.name, meter.covers) == ("intel-rapl package-0, package-1", "processor package")
    assert meter.read(root) == (2_000_000, 3_000_000)
    assert meter.spent_j((2_000_000, 3_000_000), (5_000_000, 3_500_000)) == 3.5


def test_a_counter_that_wraps_goes_on() -> None:
    meter = Counter("intel-rapl package-0", "processor package", ("x",), (WRAP_UJ,))

    assert meter.spent_j((WRAP_UJ - 1_000_000,), (500_000,)) == 1.5


def test_a_counter_that_goes_back_and_is_not_known_to_wrap_tells_nothing() -> None:
    assert Counter("hwmon amd_energy", "processor sockets", ("x",), (0,)).spent_j((5,), (4,)) is None


@given(st.lists(st.integers(0, 50_000_000), min_size=1, max_size=30), st.integers(0, WRAP_UJ - 1))
def test_wrapping_loses_no_energy(steps: list[int], start: int) -> None:
    meter = Counter("m", "c", ("x",), (WRAP_UJ,))
    at, spent = start, 0.0
    for step in steps:
        after = (at + step) % WRAP_UJ
        spent += meter.spent_j((at,), (after,)) or 0.0
        at = after

    assert spent == pytest.approx(sum(steps) / 1e6)


def test_a_board_with_an_ina226_has_its_supply_measured(tree: Tree) -> None:
    meter = find_meter(
        tree({"sys/class/hwmon/hwmon0/name": "ina226", "sys/class/hwmon/hwmon0/power1_input": 4_250_000})
    )

    assert meter == Gauge("hwmon ina226", "whole board", ("sys/class/hwmon/hwmon0/power1_input",), 1e-6)


def test_a_jetson_is_measured_at_the_channel_of_the_whole_board(tree: Tree) -> None:
    monitor = "sys/class/hwmon/hwmon3"
    files = {"name": "ina3221", "in1_label": "VDD_CPU", "in1_input": 5000, "curr1_input": 100}
    files |= {"in2_label": "VDD_IN", "in2_input": 5000, "curr2_input": 1200}
    root = tree({f"{monitor}/{name}": content for name, content in files.items()})
    meter = find_meter(root)

    assert isinstance(meter, Gauge)
    assert meter.name == "hwmon ina3221 VDD_IN"
    assert meter.read(root) == pytest.approx(6.0)


def test_sockets_of_an_epyc_are_counted_and_its_cores_are_not(tree: Tree) -> None:
    monitor = "sys/class/hwmon/hwmon1"
    files = {"name": "amd_energy", "energy1_label": "Ecore000", "energy1_input": 7}
    files |= {"energy65_label": "Esocket0", "energy65_input": 9_000_000}
    root = tree({f"{monitor}/{name}": content for name, content in files.items()})
    meter = find_meter(root)

    assert isinstance(meter, Counter)
    assert meter.read(root) == (9_000_000,)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"sys/class/hwmon/hwmon0/name": "amdgpu", "sys/class/hwmon/hwmon0/power1_average": 9_000_000},
        {"sys/class/powercap/intel-rapl:0/name": "package-0"},
    ],
    ids=["none", "a graphics card", "a counter that root alone may read"],
)
def test_what_is_no_meter_of_the_host_is_none(tree: Tree, files: dict[str, Any]) -> None:
    assert find_meter(tree(files)) is None


class Clock:
    """Seconds that pass by being read; every second a counter rises by so many microjoules, and wraps."""

    def __init__(self, file: Path, power_w: float, start_uj: int) -> None:
        self.file, self.power_w, self.now, self.energy = file, power_w, 0.0, start_uj

    def __call__(self) -> float:
        self.now += 1.0
        self.energy = (self.energy + round(self.power_w * 1e6)) % WRAP_UJ
        self.file.write_text(str(self.energy))
        return self.now


def test_a_metering_follows_a_counter_over_its_wrap(tree: Tree) -> None:
    root = tree(rapl())
    meter = find_meter(root)
    assert meter is not None
    clock = Clock(root / f"{RAPL}/energy_uj", 25.0, WRAP_UJ - 60_000_000)
    metering = Metering(meter, root, now_s=clock)
    for _ in range(5):
        metering.look()

    assert not metering.is_broken
    assert [one.joules for one in metering.readings] == pytest.approx([0.0, 25.0, 50.0, 75.0, 100.0])


def test_a_meter_that_vanishes_breaks_the_metering(tree: Tree) -> None:
    root = tree(rapl())
    meter = find_meter(root)
    assert meter is not None
    metering = Metering(meter, root)
    metering.look()
    (root / f"{RAPL}/energy_uj").unlink()
    metering.look()

    assert metering.is_broken


def readings(idle_w: float, busy_w: float) -> list[Reading]:
    """Ten readings a second: two idle seconds, then five busy ones."""
    told, joules = [], 0.0
    for tick in range(71):
        told.append(Reading(100 + tick / 10, joules))
        joules += (idle_w if tick < 20 else busy_w) / 10
    return told


def test_what_the_idle_host_takes_is_subtracted() -> None:
    told = energy(readings(3.0, 8.0), idle=(100.0, 102.0), run=EnergyRun(102.0, 107.0, 1000))

    assert told["idle_power_w"] == pytest.approx(3.0)
    assert told["mean_power_w"] == pytest.approx(8.0)
    assert told["energy_per_inference_mj"] == pytest.approx(25.0)


def test_a_run_that_takes_no_more_than_idling_has_no_energy() -> None:
    told = energy(readings(5.0, 5.0), idle=(100.0, 102.0), run=EnergyRun(102.5, 106.0, 10))

    assert told["energy_per_inference_mj"] is None
    assert "no more than idling" in told["why_not"]


def further(root: Path, monkeypatch: pytest.MonkeyPatch, *, emulated: bool | None = False) -> dict[str, Any]:
    import time

    monkeypatch.setattr("workers.further.IDLE_S", 0.02)

    def run(files: object, changes: Mapping[str, Any], cores: tuple[int, ...]) -> Made:
        assert changes == {"mode": "energy"}
        started = time.monotonic()
        time.sleep(0.02)
        return Made(facts={"started_s": started, "ended_s": time.monotonic(), "inferences": 4})

    return Further(run, load_profiles()["x86-64-v3"], (0,), emulated, root).take({})


def test_a_host_without_a_meter_has_no_energy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert further(tmp_path, monkeypatch) == {}


def test_the_meter_is_named_beside_its_figure(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    told = further(tree(rapl()), monkeypatch)["energy"]

    assert (told["meter"], told["covers"]) == ("intel-rapl package-0", "processor package")
    assert told["energy_per_inference_mj"] is None  # the tree's counter stands still
    assert told["inferences"] == 4


@pytest.mark.parametrize("emulated", [True, None])
def test_a_meter_seen_from_an_emulated_host_counts_another_machine(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, emulated: bool | None
) -> None:
    assert further(tree(rapl()), monkeypatch, emulated=emulated) == {}
