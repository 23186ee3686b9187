"""Find out what a machine is, from procfs, sysfs and the device tree; nothing is executed or changed.

`python -m workers.host.probe [--root DIR]` prints the facts as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

from workers.host.cpu import allowed_cores, processors, read_cores, read_cpu
from workers.host.devices import read_board, read_devices, read_sensors, read_throttles
from workers.host.emulation import CLOCK_SOURCES, read_emulation
from workers.host.facts import Board, Cpu, HostFacts
from workers.host.readings import kibibytes, number, text

ROOT = Path("/")
HYPERVISORS = {
    "amazon ec2": "amazon-ec2",
    "google": "google-compute-engine",
    "vmware": "vmware",
    "innotek": "virtualbox",
    "xen": "xen",
    "qemu": "qemu",
    "kvm": "kvm",
    "virtual machine": "hyper-v",
}
CONTAINER_MARKS = {".dockerenv": "docker", "run/.containerenv": "podman"}
CONTAINER_WORDS = {"docker": "docker", "kubepods": "kubernetes", "lxc": "lxc", "containerd": "containerd"}
NO_LIMIT_BYTES = 1 << 60
"""Version 1 of control groups writes "no limit" as a number near 2**63."""


def probe(root: Path = ROOT, machine: str | None = None, environment: Mapping[str, str] | None = None) -> HostFacts:
    """Read all facts below `root`.

    Args:
        root: "/" or a tree copied from another machine.
        machine: the name uname prints; asked of this machine, or concluded from the tree.
        environment: this process's, and none for a tree.
    """
    here = root == ROOT
    machine = machine or (platform.machine() if here else _machine_of(root))
    environment = environment if environment is not None else (os.environ if here else {})
    board, cpu = read_board(root), read_cpu(root)
    return HostFacts(
        architecture=machine,
        kernel=text(root, "proc/sys/kernel/osrelease"),
        cpu=cpu,
        cores=(cores := read_cores(root)),
        allowed_cores=allowed_cores(root) or tuple(core.index for core in cores),
        memory_bytes=kibibytes(root, "proc/meminfo", "MemTotal"),
        memory_limit_bytes=_memory_limit(root),
        board=board,
        devices=read_devices(root),
        sensors=read_sensors(root),
        throttles=read_throttles(root),
        emulation=read_emulation(root, machine, board, environment),
        virtualization=_virtualization(root, cpu, board),
        container=_container(root),
    )


def _machine_of(root: Path) -> str:
    """Conclude what programs see from the form of a tree's cpuinfo; the kernel's word may be its emulator's host's."""
    first = next(iter(processors(root).values()), {})
    if "flags" in first:
        return "x86_64"
    if "CPU architecture" in first:
        return "aarch64" if "asimd" in first.get("Features", "").split() else "armv7l"
    return text(root, "proc/sys/kernel/arch") or "unknown"


def _memory_limit(root: Path) -> int | None:
    groups = [line.split(":", 2) for line in (text(root, "proc/self/cgroup") or "").splitlines()]
    names = []
    for _, controllers, path in (group for group in groups if len(group) == 3):
        if not controllers:
            names += [f"sys/fs/cgroup/{path.strip('/')}/memory.max", "sys/fs/cgroup/memory.max"]
        elif "memory" in controllers.split(","):
            names += [f"sys/fs/cgroup/memory/{path.strip('/')}/memory.limit_in_bytes"]
    limits = [limit for name in names if (limit := number(root, name)) is not None and limit < NO_LIMIT_BYTES]
    return min(limits, default=None)


def _virtualization(root: Path, cpu: Cpu, board: Board) -> str | None:
    if kind := text(root, "sys/hypervisor/type"):
        return kind
    names = [*board.dmi_names, *board.device_tree_compatible]
    for word, kind in HYPERVISORS.items():
        if any(word in name.lower() for name in names):
            return kind
    if "linux,dummy-virt" in names:
        return "qemu"
    if "kvm-clock" in (text(root, CLOCK_SOURCES) or ""):
        return "kvm"
    return "unknown-hypervisor" if "hypervisor" in cpu.features else None


def _container(root: Path) -> str | None:
    if named := text(root, "run/systemd/container"):
        return named
    for mark, kind in CONTAINER_MARKS.items():
        if (root / mark).exists():
            return kind
    groups = text(root, "proc/1/cgroup") or ""
    return next((kind for word, kind in CONTAINER_WORDS.items() if word in groups), None)


def main() -> None:
    parser = argparse.ArgumentParser(description="Print what this machine is, as JSON.")
    parser.add_argument("--root", type=Path, default=ROOT, help="a tree copied from another machine")
    facts = probe(parser.parse_args().root.resolve())
    print(json.dumps(facts.as_json(), indent=2))


if __name__ == "__main__":
    main()
