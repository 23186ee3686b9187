"""Which nodes of a machine a step of an accelerator's runtime may reach."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from farm.domain.errors import ConfigurationError, HostError
from tests.unit.test_sandbox_filter import ALLOW, MACHINES, verdict
from workers.host.nodes import nodes_of
from workers.launcher.messages import Wish
from workers.launcher.server import check_devices
from workers.runtimes import load_runtimes
from workers.sandbox import Call, Limits, syscalls
from workers.sandbox.seccomp import Policy, program
from workers.stage_runs import devices_of
from workers.stages import load_specs

AF_NETLINK, AF_INET = 16, 2


def usb(root: Path, name: str, id_: str, bus: int, place: int) -> Path:
    folder, node = root / "sys/bus/usb/devices" / name, root / f"dev/bus/usb/{bus:03}/{place:03}"
    folder.mkdir(parents=True)
    vendor, product = id_.split(":")
    for file, value in (("idVendor", vendor), ("idProduct", product), ("busnum", bus), ("devnum", place)):
        (folder / file).write_text(f"{value}\n")
    node.parent.mkdir(parents=True, exist_ok=True)
    node.touch()
    return node


def test_only_the_devices_own_node_is_given(tmp_path: Path) -> None:
    node = usb(tmp_path, "4-1", "18d1:9302", 4, 7)
    usb(tmp_path, "4-2", "046d:c31c", 4, 8)
    (tmp_path / "dev/apex_0").touch()
    (tmp_path / "dev/sda").touch()

    assert set(nodes_of("edgetpu", tmp_path)) == {node, tmp_path / "dev/apex_0"}


def test_a_device_without_its_firmware_is_given_with_its_bus(tmp_path: Path) -> None:
    """Given an id that changes at the first use, and the node with it; then the bus is given, and no other bus."""
    node = usb(tmp_path, "2-1", "1a6e:089a", 2, 3)
    usb(tmp_path, "1-1", "046d:c31c", 1, 2)

    assert nodes_of("edgetpu", tmp_path) == (node.parent,)


def test_no_device_is_the_hosts_to_mend(tmp_path: Path) -> None:
    usb(tmp_path, "1-1", "046d:c31c", 1, 2)
    with pytest.raises(HostError, match="No edgetpu is attached") as told:
        nodes_of("edgetpu", tmp_path)
    assert "Plug it in" in (told.value.remedy or "")


def test_a_step_of_another_runtime_reaches_no_device() -> None:
    plain = [spec for spec in load_specs().values() if not _has_device(spec.runtime)]
    assert plain
    assert {devices_of(spec) for spec in plain} == {()}


def test_a_launcher_passes_on_nodes_of_accelerators_only(tmp_path: Path) -> None:
    known = {tmp_path / "apex_0"}
    given = Call(Path("/env"), "m:f", tmp_path, (), Limits(1, 1, 1, 1), devices=(tmp_path / "apex_0", Path("/dev/sda")))

    asked = Wish.of(given).devices

    check_devices(asked[:1], known)
    with pytest.raises(ConfigurationError, match="/dev/sda is no node of an accelerator"):
        check_devices(asked, known)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_step_with_a_device_may_ask_the_kernel_and_nobody_else(machine: str) -> None:
    rules = program(Policy(spawns=False, signals_only=None, sessions=True, netlink=True), machine)
    number = syscalls.numbers(syscalls.ALL, machine)

    assert verdict(rules, machine, number["socket"], AF_NETLINK) == ALLOW
    assert verdict(rules, machine, number["socket"], AF_INET) == errno.EPERM
    assert verdict(rules, machine, number["connect"], 3) == errno.EPERM


def _has_device(name: str | None) -> bool:
    runtime = load_runtimes().get(name or "")
    return runtime is not None and runtime.device is not None
