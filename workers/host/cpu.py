"""Read the processor and its cores.

Source: Linux, Documentation/ABI/testing/sysfs-devices-system-cpu; part numbers from Arm's Technical Reference Manuals.
"""

from __future__ import annotations

from pathlib import Path

from workers.host.facts import Core, Cpu
from workers.host.readings import core_list, matches, number, status_field, text

IMPLEMENTERS = {"0x41": "ARM", "0x4e": "NVIDIA", "0x51": "Qualcomm", "0xc0": "Ampere"}
PARTS = {
    "0x41/0xd03": "Cortex-A53",
    "0x41/0xd04": "Cortex-A35",
    "0x41/0xd05": "Cortex-A55",
    "0x41/0xd07": "Cortex-A57",
    "0x41/0xd08": "Cortex-A72",
    "0x41/0xd0b": "Cortex-A76",
    "0x41/0xd0c": "Neoverse-N1",
    "0x41/0xd40": "Neoverse-V1",
    "0x41/0xd42": "Cortex-A78AE",
    "0x41/0xd49": "Neoverse-N2",
    "0x41/0xd4f": "Neoverse-V2",
}
FREQUENCIES = {
    "clock_min_khz": "cpuinfo_min_freq",
    "clock_max_khz": "cpuinfo_max_freq",
    "clock_khz": "scaling_cur_freq",
}

Block = dict[str, str]


def read_cpu(root: Path) -> Cpu:
    blocks = processors(root)
    parts = tuple(dict.fromkeys(part for block in blocks.values() if (part := _part(block))))
    first = next(iter(blocks.values()), {})
    named = [PARTS.get(part, part) for part in parts]
    return Cpu(
        vendor=first.get("vendor_id")
        or IMPLEMENTERS.get(first.get("CPU implementer", ""), first.get("CPU implementer")),
        model=first.get("model name") if not named else " + ".join(named),
        parts=parts,
        features=_common_features(list(blocks.values())),
    )


def read_cores(root: Path) -> tuple[Core, ...]:
    blocks = processors(root)
    online = core_list(text(root, "sys/devices/system/cpu/online")) or tuple(blocks)
    return tuple(_core(root, index, blocks.get(index, {})) for index in online)


def allowed_cores(root: Path) -> tuple[int, ...]:
    """List the cores this process may use, as its affinity and cpuset say."""
    return core_list(status_field(root, "proc/self/status", "Cpus_allowed_list"))


def processors(root: Path) -> dict[int, Block]:
    """Read the blocks of /proc/cpuinfo that describe a processor, by its number."""
    blocks: dict[int, Block] = {}
    current: Block = {}
    for line in (text(root, "proc/cpuinfo") or "").splitlines():
        label, _, value = (part.strip() for part in line.partition(":"))
        if label == "processor" and value.isdigit():
            current = blocks.setdefault(int(value), {})
        elif label:
            current[label] = value
    return blocks


def _core(root: Path, index: int, block: Block) -> Core:
    folder = f"sys/devices/system/cpu/cpu{index}"
    return Core(
        index=index,
        part=_part(block),
        capacity=number(root, f"{folder}/cpu_capacity"),
        siblings=core_list(text(root, f"{folder}/topology/thread_siblings_list")),
        governor=text(root, f"{folder}/cpufreq/scaling_governor"),
        **{name: number(root, f"{folder}/cpufreq/{file}") for name, file in FREQUENCIES.items()},
    )


def _part(block: Block) -> str | None:
    if "CPU implementer" not in block or "CPU part" not in block:
        return None
    return f"{block['CPU implementer'].lower()}/{block['CPU part'].lower()}"


def _common_features(blocks: list[Block]) -> tuple[str, ...]:
    sets = [
        frozenset(features.split()) for block in blocks if (features := block.get("flags") or block.get("Features"))
    ]
    return tuple(sorted(frozenset.intersection(*sets))) if sets else ()


def throttle_counts(root: Path) -> dict[str, int]:
    """Read how often each x86 core or package was throttled since boot, by file."""
    found = matches(root, "sys/devices/system/cpu/cpu*/thermal_throttle/*_throttle_count")
    return {name: count for name in found if (count := number(root, name)) is not None}
