"""Where the time of one inference goes: its operators, what each ran on, and how long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class ComputeUnit(StrEnum):
    """What an operator ran on; an Edge TPU is an NPU."""

    CPU = "CPU"
    GPU = "GPU"
    NPU = "NPU"


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """One operator of the loaded model, after the runtime's own optimization; microseconds, None where not told."""

    name: str
    type: str
    compute_unit: ComputeUnit
    time_us: float | None


@dataclass(frozen=True, slots=True)
class OperatorProfile:
    """The operators in the order they run; `note` says what the profile can't tell, and why."""

    operators: tuple[OperatorTime, ...]
    note: str | None = None


def execution_detail(profile: OperatorProfile) -> dict[str, Any]:
    """Tell a profile in the report's words."""
    told: dict[str, Any] = {
        "execution_detail": [
            {"name": one.name, "type": one.type, "compute_unit": one.compute_unit.value, "execution_time": one.time_us}
            for one in profile.operators
        ]
        or None
    }
    return told | ({"execution_detail_note": profile.note} if profile.note else {})


def left_on_cpu(detail: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the operators on the CPU of a model of which an accelerator runs a part; none when it runs no part."""
    units = {one["compute_unit"] for one in detail}
    if units <= {ComputeUnit.CPU.value}:
        return []
    return [f"{one['name']} ({one['type']})" for one in detail if one["compute_unit"] == ComputeUnit.CPU.value]
