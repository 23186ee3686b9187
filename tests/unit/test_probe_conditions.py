"""Conditions become reasons: what is read on trees decides, what is unknown is unknown."""

import json
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from farm.domain.errors import ArtifactBroken
from farm.domain.remeasuring import Retaking
from farm.domain.statistics.stability import StabilityRule
from hardware_profiles.loader import load_profiles
from hardware_profiles.schema import MeasurementPolicy
from workers.host.competitors import Competitor, competitors, own_pid, processes
from workers.host.conditions import Conditions, Watch, Window, breaches, envelope, sample, unknowns
from workers.host.facts import Throttle
from workers.host.probe import probe
from workers.host.readings import CoreTime
from workers.measuring import Bench
from workers.results import Made

TREES = Path(__file__).parents[1] / "trees"
SCHEMA = Path(__file__).parents[2] / "farm" / "report" / "report.schema.json"
PROFILES = load_profiles()
PI = PROFILES["raspberry-pi-4"].measurement
VM = PROFILES["graviton3"].measurement
PI_THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
PI_CLOCK = "sys/devices/system/cpu/cpu3/cpufreq/scaling_cur_freq"


@pytest.fixture
def pi(tmp_path: Path):
    """Give a window on core 3 of a Raspberry Pi 4 whose files change in between: 10 s, 9 of them our own work."""

    def make(**changes: str) -> Window:
        root = tmp_path / "pi"
        shutil.copytree(TREES / "raspberry-pi-4", root)
        before = sample(root)
        for file, content in changes.items():
            (root / file).write_text(content)
        return passed(before, sample(root), core=3, busy_s=9.0)

    return make


def passed(before: Conditions, after: Conditions, *, core: int, busy_s: float, steal_s: float = 0.0) -> Window:
    """Let ten seconds pass on one core; nine of them were the measurement's."""
    old = before.core_times[core]
    new = CoreTime(old.busy_s + busy_s, old.steal_s + steal_s, old.total_s + 10)
    after = replace(after, taken_s=before.taken_s + 10, core_times={**after.core_times, core: new})
    return Window(before, after, (core,), own_cpu_s=9.0)


def cloud(**changes: float) -> Window:
    state = sample(TREES / "graviton3")
    return passed(state, state, core=1, **{"busy_s": 9.0, **changes})


def test_calm_board_gives_a_valid_measurement(pi) -> None:
    assert breaches(pi(), PI, emulated=False) == []


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        (PI_THROTTLED, "50004", "throttled"),
        (PI_THROTTLED, "50001", "throttled"),
        (PI_THROTTLED, "d0000", "throttled"),
        ("sys/class/thermal/thermal_zone0/temp", "81000", "hot"),
        (PI_CLOCK, "600000", "clock-low"),
        (PI_CLOCK.replace("scaling_cur_freq", "scaling_governor"), "ondemand", "governor"),
    ],
)
def test_breach_on_a_board_has_its_reason(pi, file: str, content: str, reason: str) -> None:
    assert breaches(pi(**{file: content}), PI, emulated=False) == [reason]


def test_what_happened_before_the_measurement_does_not_count(pi) -> None:
    window = pi()
    assert window.before.throttles[0].occurred == ("under-voltage", "throttled")
    assert window.throttled_by == ()


def test_throttling_seen_only_in_between_counts(pi) -> None:
    window = pi()
    hot = replace(window.after, throttles=(Throttle("raspberry-pi-firmware", ("throttled",)),), temperature_c=84.0)
    assert breaches(replace(window, during=(hot,)), PI, emulated=False) == ["throttled", "hot"]


def test_counter_that_rises_counts() -> None:
    state = sample(TREES / "x86-avx2")
    after = replace(state, throttles=(Throttle("thermal-throttle-counters", count=2),))
    window = passed(state, after, core=1, busy_s=9.0)
    assert window.throttled_by == ("thermal-throttle-counters: counted",)


def test_clock_is_held_against_the_guaranteed_one_where_there_is_boost() -> None:
    assert sample(TREES / "x86-avx2").clocks[0] == pytest.approx(3.5 / 3.0)
    assert sample(TREES / "raspberry-pi-4").clocks[0] == 1.0


def test_little_cores_clock_is_held_against_its_own() -> None:
    assert sample(TREES / "rockchip-rk3588").clocks[0] == 1.0
    assert sample(TREES / "rockchip-rk3588").clocks_khz[0] < sample(TREES / "rockchip-rk3588").clocks_khz[7]


def test_virtual_machine_without_clocks_and_sensors_can_measure() -> None:
    window = cloud()
    assert (window.clock_ratio, window.temperature_c, window.governors) == (None, None, ())
    assert breaches(window, VM, emulated=False) == []


def test_other_work_on_the_pinned_core_is_load() -> None:
    window = cloud(busy_s=10.0 - 0.5)
    assert window.load_ratio == pytest.approx(0.048)
    assert breaches(window, VM, emulated=False) == []
    assert breaches(replace(window, own_cpu_s=6.0), VM, emulated=False) == ["loaded"]


def test_own_work_is_not_load() -> None:
    assert cloud(busy_s=9.0).load_ratio == 0.0


def test_time_given_to_other_guests_is_steal() -> None:
    assert breaches(cloud(steal_s=0.1), VM, emulated=False) == []
    assert breaches(cloud(steal_s=0.5), VM, emulated=False) == ["steal"]


def test_waiting_for_memory_is_pressure() -> None:
    window = cloud()
    stalled = replace(window.after, memory_stall_s=(window.before.memory_stall_s or 0) + 1.0)
    assert breaches(replace(window, after=stalled), VM, emulated=False) == ["memory-pressure"]


def test_emulated_and_unknown_are_both_invalid() -> None:
    assert breaches(cloud(), VM, emulated=True) == ["emulated"]
    assert breaches(cloud(), VM, emulated=None) == ["unknown-state"]


def test_load_that_can_not_be_told_is_unknown_state() -> None:
    window = replace(cloud(), own_cpu_s=None)
    assert unknowns(window, VM, emulated=False) == ["load"]
    assert breaches(window, VM, emulated=False) == ["unknown-state"]


def test_board_whose_sensors_fail_is_unknown_state(pi) -> None:
    window = pi(
        **{"sys/class/thermal/thermal_zone0/temp": "", "sys/class/hwmon/hwmon0/temp1_input": "", PI_THROTTLED: ""}
    )
    blind = replace(window, before=replace(window.before, temperature_c=None))
    assert unknowns(blind, PI, emulated=False) == ["temperature", "throttle"]
    assert breaches(blind, PI, emulated=False) == ["unknown-state"]


def test_core_that_vanished_is_unknown_state() -> None:
    assert breaches(replace(cloud(), cores=(1, 7)), VM, emulated=False) == ["unknown-state"]


def test_any_governor_is_accepted_where_the_policy_names_none(pi) -> None:
    file = PI_CLOCK.replace("scaling_cur_freq", "scaling_governor")
    window = pi(**{file: "schedutil"})
    assert breaches(window, PI.model_copy(update={"governor": None}), emulated=False) == []


def test_envelope_tells_every_reading_and_the_union_of_reasons(pi) -> None:
    window = pi(**{"sys/class/thermal/thermal_zone0/temp": "81000"})
    facts = probe(TREES / "raspberry-pi-4")
    told = envelope(window, facts=facts, host="pi-a", profile=PROFILES["raspberry-pi-4"], reasons=["unstable"])
    assert (told["valid"], told["reasons"]) == (False, ["hot", "unstable"])
    assert (told["temperature_start_c"], told["temperature_end_c"]) == (48.199, 81.0)
    assert (told["governor"], told["cpu"], told["emulated"]) == ("performance", "Cortex-A72", False)
    assert told["clock_min_khz"] == 1_500_000
    json.dumps(told, allow_nan=False)


def test_reasons_are_the_reports_own() -> None:
    schema = json.loads(SCHEMA.read_text())
    known = schema["$defs"]["result"]["properties"]["conditions"]["properties"]["reasons"]["items"]["enum"]
    strict = MeasurementPolicy(load_max=0.001, steal_max=0.001, memory_stall_max=0.001)
    window = cloud(steal_s=1.0)
    window = replace(window, own_cpu_s=1.0, cores=(1,))
    assert set(breaches(window, strict, emulated=None)) == {"loaded", "steal", "unknown-state"}
    assert set(breaches(window, strict, emulated=None)) <= set(known)


def test_watch_on_this_machine_tells_own_work_from_the_rest() -> None:
    working = threading.Event()
    with Watch((0,), interval_s=0.05) as watch:
        working.wait(0.3)
    window = watch.window(own_cpu_s=0.0)
    assert window.duration_s == pytest.approx(0.3, abs=0.25)
    assert len(window.during) >= 2
    assert window.load_ratio is not None
    assert window.steal_ratio is not None
    assert window.samples[0].taken_s < window.samples[-1].taken_s <= time.monotonic()


def table(tmp_path: Path, **processes: str) -> Path:
    """Lay down /proc with one stat line per process: "pid ppid seconds start"."""
    for name, line in processes.items():
        pid, parent, seconds, start = line.split()
        folder = tmp_path / "proc" / pid
        folder.mkdir(parents=True, exist_ok=True)
        middle = f"S {parent} 0 0 0 -1 0 0 0 0 0 {int(float(seconds) * 100)} 0 0 0 20 0 1 0 {start} 0"
        (folder / "stat").write_text(f"{pid} ({name.replace('_', ' ')}) {middle}\n")
    return tmp_path


def test_processes_that_compete_are_named_and_our_own_are_not(tmp_path: Path) -> None:
    before = processes(table(tmp_path / "a", worker="10 1 5 1", make="20 1 1 2", idle="30 1 9 3", gone="40 1 2 4"))
    later = {"worker": "10 1 9 1", "bench": "11 10 8 9", "make": "20 1 2 2", "cc1_(plus)": "21 20 7 8"}
    after = processes(table(tmp_path / "b", idle="30 1 9 3", **later))

    told = competitors(before, after, duration_s=10.0, own=10)

    assert told == (Competitor("cc1 (plus)", 0.7), Competitor("make", 0.1))


def test_a_pid_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    before = processes(table(tmp_path / "a", sh="20 1 8 2"))
    after = processes(table(tmp_path / "b", sh="20 1 1 77"))

    assert competitors(before, after, duration_s=1.0, own=0) == (Competitor("sh", 1.0),)


def test_a_worker_on_this_machine_finds_itself_in_the_table() -> None:
    assert any(pid == own_pid(Path("/")) for pid, _ in processes())


def test_hot_big_cores_of_a_big_little_board_are_hot_whatever_the_little_ones_say(tmp_path: Path) -> None:
    root = tmp_path / "rk3588"
    shutil.copytree(TREES / "rockchip-rk3588", root)
    before = sample(root)
    zones = [
        zone for zone in (root / "sys/class/thermal").glob("thermal_zone*") if "big" in (zone / "type").read_text()
    ]
    zones[0].joinpath("temp").write_text("96000")
    (root / "sys/devices/system/cpu/cpu6/cpufreq/scaling_cur_freq").write_text("1200000")
    window = passed(before, sample(root), core=6, busy_s=9.0)

    assert breaches(window, PROFILES["rockchip-rk3588"].measurement, emulated=False) == ["hot", "clock-low"]
    assert breaches(replace(window, cores=(0,)), PROFILES["rockchip-rk3588"].measurement, emulated=False)[0] == "hot"


def test_throttling_shorter_than_a_sample_is_seen_though_it_was_throttled_before(tmp_path: Path) -> None:
    root = tmp_path / "pi"
    shutil.copytree(TREES / "raspberry-pi-4", root)
    (root / PI_THROTTLED).write_text("50000")
    with Watch((3,), root, interval_s=2.0) as watch:
        (root / PI_THROTTLED).write_text("50005")
        time.sleep(0.5)
        (root / PI_THROTTLED).write_text("50000")

    window = watch.window(0.0)
    assert window.during == ()
    assert "throttled" in breaches(window, PI, emulated=False)
    assert replace(window, glimpses=()).throttled_by == ()


def measured_on(tree: Path, profile: str, during: dict[str, str]) -> dict[str, Any]:
    """Have the bench measure by stand-ins for processes on a tree, whose files change while the second one runs."""
    model = {"times_us": [1000.0] * 60, "first_load_us": 9e3, "warm_load_us": 5e3, "first_inference_us": 2e3}
    started: list[str] = []

    def run(files: object, changes: Any, cores: tuple[int, ...]) -> Made:
        started.append(str(changes.get("mode", "latency")))
        if len(started) == 2:
            for name, content in during.items():
                (tree / name).write_text(content)
        if changes.get("mode") == "profile":
            raise ArtifactBroken("The stand-in has no operators.")
        return Made(facts={**model, "peak_memory_bytes": 30_000_000, "threads": 1, "pss_bytes": 1}, cpu_s=0.0)

    bench = Bench("pi-a", PROFILES[profile], StabilityRule(processes_max=3), root=tree)
    made = bench.measure(run, runtime="onnxruntime", options={"threads": 1})
    assert started == ["latency"] * 6 + ["memory", "profile"]
    return dict(made.facts)


def test_a_short_measurement_takes_the_times_of_one_process_and_nothing_else() -> None:
    started: list[str] = []

    def run(files: object, changes: Any, cores: tuple[int, ...]) -> Made:
        started.append(str(changes.get("mode", "latency")))
        times = {"times_us": [1000.0] * 20, "first_load_us": 9e3, "warm_load_us": 5e3, "first_inference_us": 2e3}
        return Made(facts={**times, "peak_memory_bytes": None, "threads": 1}, cpu_s=0.0)

    bench = Bench("pi-a", PROFILES["raspberry-pi-4"], root=TREES / "raspberry-pi-4")
    facts = bench.measure(run, runtime="onnxruntime", options={"threads": 1, "short": True}).facts

    assert started == ["latency", "latency"], "the reference model, and the file"
    assert facts["execution_summary"]["p50"] == 1000.0
    assert facts["conditions"]["valid"] is False


@pytest.mark.parametrize(
    ("during", "reason"),
    [
        ({PI_THROTTLED: "50005"}, "throttled"),
        ({"sys/class/thermal/thermal_zone0/temp": "84000"}, "hot"),
    ],
)
def test_a_measurement_on_a_board_that_is_throttled_or_hot_is_never_valid(
    tmp_path: Path, during: dict[str, str], reason: str
) -> None:
    root = tmp_path / "pi"
    shutil.copytree(TREES / "raspberry-pi-4", root)
    facts = measured_on(root, "raspberry-pi-4", during)

    assert facts["conditions"]["valid"] is False
    assert reason in facts["conditions"]["reasons"]
    assert facts["conditions"]["cool_down_s"] == PI.cool_down_s
    assert Retaking(1).pause_after("measure", facts, 0) == PI.cool_down_s
    assert facts["execution_detail"] is None
    assert "could not be timed: The stand-in has no operators" in facts["execution_detail_note"]
    assert "energy" not in facts["execution_summary"]


def test_a_measurement_on_a_big_little_board_runs_on_a_big_core(tmp_path: Path) -> None:
    root = tmp_path / "rk3588"
    shutil.copytree(TREES / "rockchip-rk3588", root)
    conditions = measured_on(root, "rockchip-rk3588", {})["conditions"]

    assert set(conditions["cores"]) <= {4, 5, 6, 7}
    assert conditions["clock_min_khz"] > 2_000_000
    assert conditions["clock_mean_khz"] >= conditions["clock_min_khz"]
