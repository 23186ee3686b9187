"""Tell whether the machine's instructions are emulated, by signals that qemu-user does not hide.

Best first: the kernel's own architecture; the type in the CPU's modalias; qemu mapped into a thread of ours (it
rewrites /proc/self/maps, not /proc/self/task/TID/maps); an x86 `vendor_id` in an ARM cpuinfo; names firmware gives; a
launcher's variable. A signal that agrees with the machine proves it real only beside a readable /proc.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from workers.host.facts import Board, Emulation
from workers.host.readings import matches, text

FAMILIES = {
    "x86_64": "x86",
    "i686": "x86",
    "i386": "x86",
    "aarch64": "arm",
    "armv7l": "arm",
    "armv8l": "arm",
    "arm": "arm",
}
VARIABLE = "FARM_EMULATED"
CLOCK_SOURCES = "sys/devices/system/clocksource/clocksource0/available_clocksource"

Signal = tuple[bool | None, str]
"""True: emulated. False: real. None: this signal says nothing."""


def read_emulation(root: Path, machine: str, board: Board, environment: Mapping[str, str]) -> Emulation:
    signals = [signal(root, machine) for signal in _SIGNALS] + [_board(root, machine, board), _variable(environment)]
    if proofs := tuple(words for says, words in signals if says):
        return Emulation(True, proofs)
    if text(root, "proc/cpuinfo") is None:
        return Emulation(None, ("/proc/cpuinfo can't be read",))
    if doubts := tuple(words for says, words in signals if says is None and words):
        return Emulation(None, doubts)
    agreeing = tuple(words for says, words in signals if says is False)
    return Emulation(False, agreeing) if agreeing else Emulation(None, ("no signal could be read",))


def family(machine: str) -> str:
    return FAMILIES.get(machine, machine)


def _kernel(root: Path, machine: str) -> Signal:
    kernel = text(root, "proc/sys/kernel/arch")
    if kernel is None:
        return None, ""
    return family(kernel) != family(machine), f"the kernel runs on {kernel}, programs on {machine}"


def _modalias(root: Path, machine: str) -> Signal:
    alias = text(root, "sys/devices/system/cpu/modalias") or ""
    if not alias.startswith("cpu:type:"):
        return None, ""
    kind = alias.removeprefix("cpu:type:").split(",")[0].split(":")[0]
    return family(kind) != family(machine), f"the CPU's modalias is of type {kind}, programs run on {machine}"


def _mapped(root: Path, machine: str) -> Signal:
    texts = [maps for name in matches(root, "proc/self/task/*/maps") if (maps := text(root, name))]
    if not texts:
        return None, ""
    found = any("qemu" in line.rpartition("/")[2] for maps in texts for line in maps.splitlines())
    return found, "qemu is mapped into this process" if found else "no emulator is mapped into this process"


def _vendor(root: Path, machine: str) -> Signal:
    cpuinfo = text(root, "proc/cpuinfo") or ""
    if family(machine) == "arm" and "vendor_id" in cpuinfo:
        return True, "an ARM machine shows vendor_id in /proc/cpuinfo"
    return None, ""


def _board(root: Path, machine: str, board: Board) -> Signal:
    """Judge the names of qemu's machines: with kvm-clock they run natively; an ARM guest has no such sign."""
    names = [board.device_tree_model or "", *board.device_tree_compatible, *board.dmi_names]
    telling = next((name for name in names if "qemu" in name.lower() or name == "linux,dummy-virt"), None)
    if telling is None or "kvm-clock" in (text(root, CLOCK_SOURCES) or ""):
        return None, ""
    words = f"firmware names the machine {telling!r} and shows no sign of hardware virtualization"
    return (True if family(machine) == "x86" else None), words


def _variable(environment: Mapping[str, str]) -> Signal:
    if environment.get(VARIABLE, "0") in ("", "0"):
        return None, ""
    return True, f"the launcher set {VARIABLE}"


_SIGNALS: tuple[Callable[[Path, str], Signal], ...] = (_kernel, _modalias, _mapped, _vendor)
