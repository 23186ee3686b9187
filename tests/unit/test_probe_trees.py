"""Machines are read from trees of procfs, sysfs and the device tree; what is missing is unknown."""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from farm.domain.codec import decode, encode
from workers.host.facts import Accelerator, HostFacts
from workers.host.probe import probe
from workers.host.readings import core_list, core_times

TREES = Path(__file__).parents[1] / "trees"


@pytest.fixture
def tree(tmp_path: Path):
    """Give a copy of a tree with files replaced; None removes one."""

    def make(name: str, **changes: str | None) -> Path:
        root = tmp_path / name
        shutil.copytree(TREES / name, root)
        for file, content in changes.items():
            if content is None:
                (root / file).unlink()
            else:
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                (root / file).write_text(content)
        return root

    return make


def facts(name: str) -> HostFacts:
    return probe(TREES / name)


def test_raspberry_pi_4_is_read() -> None:
    pi = facts("raspberry-pi-4")
    assert (pi.architecture, pi.cpu.vendor, pi.cpu.model) == ("aarch64", "ARM", "Cortex-A72")
    assert pi.cpu.parts == ("0x41/0xd08",)
    assert (pi.logical_cores, pi.physical_cores, pi.governor) == (4, 4, "performance")
    assert pi.board.device_tree_compatible == ("raspberrypi,4-model-b", "brcm,bcm2711")
    assert pi.memory_bytes == 3884364 * 1024
    assert [core.clock_khz for core in pi.cores] == [1_500_000] * 4
    assert pi.emulated is False


def test_raspberry_pi_throttle_bits_split_into_now_and_since_boot(tree) -> None:
    (throttle,) = facts("raspberry-pi-4").throttles
    assert throttle.active == ()
    assert throttle.occurred == ("under-voltage", "throttled")
    file = "sys/devices/platform/soc/soc:firmware/get_throttled"
    (throttle,) = probe(tree("raspberry-pi-4", **{file: "80006"})).throttles
    assert throttle.active == ("frequency-capped", "throttled")
    assert throttle.occurred == ("soft-temperature-limit",)


def test_one_temperature_is_not_told_twice() -> None:
    assert [(sensor.name, sensor.celsius) for sensor in facts("raspberry-pi-4").sensors] == [("cpu-thermal", 48.199)]


def test_sensors_of_other_parts_are_not_the_processors() -> None:
    own = {sensor.name for sensor in facts("x86-avx2").sensors if sensor.of_processor}
    assert own == {"x86_pkg_temp"}
    assert {sensor.name for sensor in facts("x86-avx2").sensors} == {"x86_pkg_temp", "acpitz", "nvme"}


def test_big_little_cores_are_told_apart() -> None:
    cores = facts("rockchip-rk3588").cores
    assert [core.part for core in cores] == ["0x41/0xd05"] * 4 + ["0x41/0xd0b"] * 4
    assert [core.capacity for core in cores] == [414] * 4 + [1024] * 4
    assert facts("rockchip-rk3588").cpu.model == "Cortex-A55 + Cortex-A76"


def test_hardware_threads_are_not_physical_cores() -> None:
    box = facts("x86-avx2")
    assert (box.logical_cores, box.physical_cores) == (4, 2)
    assert box.cores[0].siblings == (0, 2)


def test_edge_tpu_is_found_on_pci_and_as_a_device_node() -> None:
    devices = facts("coral-dev-board").devices
    assert devices.accelerators == (Accelerator("edgetpu", "pci", "1ac1:089a"),)
    assert devices.nodes == ("apex_0",)


def test_edge_tpu_is_found_on_usb(tree) -> None:
    folder = "sys/bus/usb/devices/2-1"
    root = tree("x86-avx2", **{f"{folder}/idVendor": "18d1\n", f"{folder}/idProduct": "9302\n"})
    assert probe(root).devices.accelerators == (Accelerator("edgetpu", "usb", "18d1:9302"),)


def test_cloud_machine_is_virtual_and_shows_no_clocks() -> None:
    cloud = facts("graviton3")
    assert cloud.virtualization == "amazon-ec2"
    assert (cloud.governor, cloud.sensors, cloud.throttles) == (None, (), ())


@pytest.mark.parametrize(
    ("mark", "content", "kind"),
    [
        (".dockerenv", "", "docker"),
        ("run/.containerenv", "", "podman"),
        ("run/systemd/container", "systemd-nspawn\n", "systemd-nspawn"),
        ("proc/1/cgroup", "0::/kubepods/besteffort/pod1\n", "kubernetes"),
    ],
)
def test_container_is_hinted(tree, mark: str, content: str, kind: str) -> None:
    assert facts("x86-avx2").container is None
    assert probe(tree("x86-avx2", **{mark: content})).container == kind


def test_memory_limit_is_the_control_groups(tree) -> None:
    group = {"proc/self/cgroup": "0::/farm\n", "sys/fs/cgroup/farm/memory.max": "536870912\n"}
    assert probe(tree("x86-avx2", **group)).memory_limit_bytes == 512 << 20


def test_no_memory_limit_is_none(tree) -> None:
    groups = "4:memory:/farm\n0::/farm\n"
    files = {
        "sys/fs/cgroup/memory/farm/memory.limit_in_bytes": "9223372036854771712",
        "sys/fs/cgroup/farm/memory.max": "max",
    }
    assert probe(tree("x86-avx2", **{"proc/self/cgroup": groups, **files})).memory_limit_bytes is None


def test_allowed_cores_are_those_of_the_process(tree) -> None:
    root = tree("rockchip-rk3588", **{"proc/self/status": "Cpus_allowed_list:\t4-5,7\n"})
    assert probe(root).allowed_cores == (4, 5, 7)


def test_facts_survive_the_wire() -> None:
    pi = facts("raspberry-pi-4")
    assert decode(HostFacts, json.loads(json.dumps(encode(pi)))) == pi


def test_empty_tree_is_all_unknown(tmp_path: Path) -> None:
    nothing = probe(tmp_path)
    assert nothing.architecture == "unknown"
    assert nothing.emulated is None
    assert (nothing.memory_bytes, nothing.governor, nothing.physical_cores, nothing.cores) == (None, None, None, ())


def test_garbled_files_are_unknown(tree) -> None:
    zone = "sys/class/thermal/thermal_zone0/temp"
    root = tree("raspberry-pi-4", **{zone: "not a number", "sys/class/hwmon/hwmon0/temp1_input": "", "proc/stat": ""})
    assert probe(root).sensors == ()
    assert core_times(root) == {}


class TestEmulation:
    """Signals one by one; the best is told first."""

    def test_qemu_user_is_proven_by_three_signals(self) -> None:
        emulation = probe(TREES / "emulated-aarch64").emulation
        assert emulation.emulated is True
        assert len(emulation.evidence) == 3
        assert "kernel runs on x86_64" in emulation.evidence[0]

    @pytest.mark.parametrize(
        "left", ["proc/sys/kernel/arch", "sys/devices/system/cpu/modalias", "proc/self/task/4242/maps"]
    )
    def test_any_one_of_the_signals_suffices(self, tree, left: str) -> None:
        signals = ["proc/sys/kernel/arch", "sys/devices/system/cpu/modalias", "proc/self/task/4242/maps"]
        root = tree("emulated-aarch64", **{file: None for file in signals if file != left})
        assert probe(root, machine="aarch64").emulated is True

    def test_x86_cpuinfo_seen_by_arm_programs_is_proof(self, tree) -> None:
        cpuinfo = (TREES / "x86-avx2/proc/cpuinfo").read_text()
        root = tree("raspberry-pi-4", **{"proc/cpuinfo": cpuinfo})
        assert "vendor_id" in " ".join(probe(root, machine="aarch64").emulation.evidence)

    def test_32_bit_programs_on_a_64_bit_kernel_are_real(self) -> None:
        assert probe(TREES / "raspberry-pi-4", machine="armv8l").emulated is False

    def test_launchers_variable_is_believed(self) -> None:
        emulation = probe(TREES / "raspberry-pi-4", environment={"FARM_EMULATED": "1"}).emulation
        assert emulation.emulated is True
        assert "FARM_EMULATED" in emulation.evidence[0]

    def test_without_proc_it_is_unknown_not_real(self, tree) -> None:
        root = tree("raspberry-pi-4")
        shutil.rmtree(root / "proc")
        assert probe(root, machine="aarch64").emulated is None

    def test_with_cpuinfo_alone_it_is_unknown(self, tree) -> None:
        root = tree("coral-dev-board", **{"sys/devices/system/cpu/modalias": None})
        assert probe(root).emulated is None

    def test_arm_guest_of_qemu_is_unknown(self, tree) -> None:
        root = tree("raspberry-pi-4", **{"proc/device-tree/compatible": "linux,dummy-virt\0"})
        assert probe(root).emulated is None

    def test_x86_guest_of_qemu_is_emulated_unless_kvm_shows(self, tree) -> None:
        root = tree("x86-avx2", **{"sys/class/dmi/id/sys_vendor": "QEMU"})
        assert probe(root).emulated is True
        clock = root / "sys/devices/system/clocksource/clocksource0/available_clocksource"
        clock.parent.mkdir(parents=True)
        clock.write_text("kvm-clock tsc acpi_pm\n")
        assert probe(root).emulated is False


def test_this_machine_is_read() -> None:
    here = probe()
    assert here.architecture == platform.machine()
    assert set(here.allowed_cores) == os.sched_getaffinity(0)
    assert here.memory_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert here.emulation.evidence


def test_command_prints_the_facts_as_json() -> None:
    command = [sys.executable, "-m", "workers.host.probe", "--root", str(TREES / "raspberry-pi-5")]
    printed = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert printed["board"]["device_tree_model"] == "Raspberry Pi 5 Model B Rev 1.0"
    assert printed["emulated"] is False
    assert printed["physical_cores"] == 4


@pytest.mark.parametrize(("written", "cores"), [("0-3", (0, 1, 2, 3)), ("0,2-3", (0, 2, 3)), ("", ()), (None, ())])
def test_core_lists(written: str | None, cores: tuple[int, ...]) -> None:
    assert core_list(written) == cores
