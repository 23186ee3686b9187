"""What a probe found out about a machine. None, or an empty tuple, means that nothing could be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from farm.domain.codec import encode


@dataclass(frozen=True, slots=True)
class Core:
    """One logical core that is online.

    Attributes:
        part: MIDR implementer/part ("0x41/0xd08"), on ARM.
        capacity: relative speed, 1024 for the fastest; of big.LITTLE machines.
        siblings: logical cores of the same physical one, itself included.
    """

    index: int
    part: str | None = None
    capacity: int | None = None
    siblings: tuple[int, ...] = ()
    governor: str | None = None
    clock_min_khz: int | None = None
    clock_max_khz: int | None = None
    clock_khz: int | None = None


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor: `features` as Linux names them, common to all cores."""

    vendor: str | None
    model: str | None
    parts: tuple[str, ...]
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """How firmware names the machine."""

    device_tree_model: str | None = None
    device_tree_compatible: tuple[str, ...] = ()
    dmi_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sensor:
    """A temperature, in degrees Celsius."""

    name: str
    celsius: float
    of_processor: bool


@dataclass(frozen=True, slots=True)
class Throttle:
    """A source of throttle flags: what holds now, what has happened since boot, and how often."""

    source: str
    active: tuple[str, ...] = ()
    occurred: tuple[str, ...] = ()
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A known accelerator on a bus."""

    name: str
    bus: str
    id: str


@dataclass(frozen=True, slots=True)
class Devices:
    """Every id on the buses, and device nodes of accelerators' drivers."""

    usb_ids: tuple[str, ...] = ()
    pci_ids: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    accelerators: tuple[Accelerator, ...] = ()


@dataclass(frozen=True, slots=True)
class Emulation:
    """Whether instructions are emulated; None is unknown. `evidence` says what it was concluded from."""

    emulated: bool | None
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HostFacts:
    """A machine as probed.

    Attributes:
        architecture: the machine name as uname prints it.
        cores: online cores, those this process may not use included.
        allowed_cores: cores this process may use (affinity and cpuset).
        memory_limit_bytes: the control group's limit, where one is set.
    """

    architecture: str
    kernel: str | None
    cpu: Cpu
    cores: tuple[Core, ...]
    allowed_cores: tuple[int, ...]
    memory_bytes: int | None
    memory_limit_bytes: int | None
    board: Board
    devices: Devices
    sensors: tuple[Sensor, ...]
    throttles: tuple[Throttle, ...]
    emulation: Emulation
    virtualization: str | None
    container: str | None

    @property
    def logical_cores(self) -> int:
        return len(self.cores)

    @property
    def physical_cores(self) -> int | None:
        """Count cores without their hardware threads; None where topology is hidden."""
        groups = {core.siblings for core in self.cores}
        return len(groups) if self.cores and () not in groups else None

    @property
    def governor(self) -> str | None:
        """Name the governor of all cores; several are joined by a comma."""
        return ", ".join(sorted({core.governor for core in self.cores if core.governor})) or None

    @property
    def emulated(self) -> bool | None:
        return self.emulation.emulated

    def as_json(self) -> dict[str, Any]:
        """Give all facts, the derived ones too, as JSON values."""
        derived = {name: getattr(self, name) for name in ("logical_cores", "physical_cores", "governor", "emulated")}
        return {**encode(self), **derived}
