"""What a profile says about a class of hardware. A key that is not here is refused."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hardware_profiles.features import KNOWN, TRAITS

Name = Annotated[str, Field(pattern=r"^[a-z0-9_][a-z0-9-]{0,62}$")]
CpuPart = Annotated[str, Field(pattern=r"^0x[0-9a-f]{2}/0x[0-9a-f]{3}$", description="MIDR implementer/part")]
BusId = Annotated[str, Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$", description="vendor:device")]
Ratio = Annotated[float, Field(gt=0, le=1)]
Reading = Literal["governor", "clock", "temperature", "throttle", "memory-pressure"]


class Section(BaseModel):
    """A frozen mapping that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Cpu(Section):
    """What the processor must be.

    Attributes:
        parts: MIDR implementer/part; the machine has at least one of them.
        model_names: texts, one of which the CPU's model name contains.
        features_required: added to the parent's, never taken away.
    """

    parts: tuple[CpuPart, ...] = ()
    model_names: tuple[str, ...] = ()
    features_required: tuple[str, ...] = ()
    features_forbidden: tuple[str, ...] = ()


class IdentityEvidence(Section):
    """What proves that a machine is this one: every kind stated here must hold, by any of its entries.

    `features` all hold and `features_absent` all fail to: together an exact CPUID set.
    """

    device_tree_compatible: tuple[str, ...] = ()
    device_tree_models: tuple[str, ...] = Field(default=(), description="texts the model starts with")
    dmi_names: tuple[str, ...] = Field(default=(), description="texts found in a DMI vendor, product or board name")
    parts: tuple[CpuPart, ...] = ()
    model_names: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    features_absent: tuple[str, ...] = ()
    accelerators: bool = Field(default=False, description="the profile's accelerators are evidence")
    emulated: bool = Field(default=False, description="the proof of emulation is evidence")

    @property
    def is_stated(self) -> bool:
        return any(getattr(self, name) for name in type(self).model_fields)


class Accelerator(Section):
    """A device the host must have, by any of its ids.

    A worker whose library for it is of a runtime version that is not listed does not start; of none listed, any does.
    """

    name: Name
    usb_ids: tuple[BusId, ...] = ()
    pci_ids: tuple[BusId, ...] = ()
    device_nodes: tuple[str, ...] = Field(default=(), description="file names under /dev, globs allowed")
    memory_bytes: int | None = Field(default=None, gt=0, description="on-chip memory for parameters")
    runtime_versions: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(), description="as the device's library tells its own (libedgetpu: RuntimeVersion)"
    )

    @model_validator(mode="after")
    def _can_be_found(self) -> Accelerator:
        if not (self.usb_ids or self.pci_ids or self.device_nodes):
            raise ValueError(f"accelerator {self.name} has no usb_ids, pci_ids or device_nodes to find it by")
        return self


class RuntimeUse(Section):
    """A runtime of this target: its environment, and versions allowed (empty: the environment's pin).

    A worker whose environment pins another version does not start.
    """

    environment: Name
    versions: tuple[str, ...] = ()


class NumericTraits(Section):
    """Instructions that change speed or results of quantized and half-precision kernels."""

    dot_product: bool = False
    int8_matmul: bool = False
    float16: bool = False
    bfloat16: bool = False
    sve: bool = False


class MeasurementPolicy(Section):
    """When a measurement is valid here. Ratios are of wall time, spreads of the median.

    Attributes:
        threads: thread counts to measure, the first is the default.
        cores: cores to pin to; None chooses the quietest, big ones first.
        governor: the only governor accepted where one is readable; None accepts any.
        must_read: readings that make a measurement invalid when they can't be taken.
    """

    threads: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field(default=(1,), min_length=1)
    cores: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    governor: str | None = "performance"
    temperature_ceiling_c: float = Field(default=90.0, gt=0, le=125)
    cool_down_s: float = Field(default=10.0, ge=0)
    clock_min_ratio: Ratio = 0.9
    load_max: Ratio = 0.1
    steal_max: Ratio = 0.02
    memory_stall_max: Ratio = 0.02
    spread_max: Ratio = 0.1
    drift_max: Ratio = 0.1
    must_read: tuple[Reading, ...] = ()


class Limits(Section):
    """Bounds of this hardware.

    Attributes:
        max_model_bytes: of weights; a larger model is refused before anything is converted.
        max_process_bytes: memory of one step on the target; the sandbox ends what takes more.
    """

    max_model_bytes: int | None = Field(default=None, gt=0)
    max_process_bytes: int | None = Field(default=None, gt=0)


class ReferenceLatency(Section):
    """A published figure to check a host against; never a prediction."""

    model: str
    runtime: str
    latency_ms: float = Field(gt=0)
    threads: int | None = Field(default=None, ge=1)
    source: str


class Profile(Section):
    """A class of hardware.

    Attributes:
        architecture: machine names as uname prints them; the first is the queue's.
        verified: a probe of such a machine, real or reconstructed from public dumps, is among the tests.
        abstract: exists to be extended only.
        emulated: the machine is qemu-user, and says so.
    """

    name: Name
    title: str
    extends: Name | None = None
    abstract: bool = False
    emulated: bool = False
    verified: bool = False
    architecture: tuple[Literal["x86_64", "aarch64", "armv7l", "armv8l"], ...] = Field(min_length=1)
    cpu: Cpu = Cpu()
    identity: IdentityEvidence = IdentityEvidence()
    memory_min_bytes: int = Field(default=0, ge=0)
    accelerators: tuple[Accelerator, ...] = ()
    runtimes: dict[Name, RuntimeUse] = Field(default_factory=dict)
    numeric: NumericTraits = NumericTraits()
    measurement: MeasurementPolicy = MeasurementPolicy()
    limits: Limits = Limits()
    reference_latencies: tuple[ReferenceLatency, ...] = ()
    sources: tuple[str, ...] = Field(min_length=1, description="where these facts come from")

    def field(self, dotted: str) -> Any:
        """Read one field as a JSON value: `field("cpu.features_required")`.

        Raises:
            KeyError: no such field, near misses named.
        """
        value: Any = self.model_dump(mode="json")
        for part in dotted.split("."):
            if not isinstance(value, dict) or part not in value:
                known = list(value) if isinstance(value, dict) else []
                raise KeyError(f"profile {self.name} has no field {dotted!r}{_hint(part, known)}")
            value = value[part]
        return value

    @model_validator(mode="after")
    def _features_exist(self) -> Profile:
        possible = frozenset().union(*(KNOWN[machine] for machine in self.architecture))
        for where, names in self._named_features():
            for name in names:
                if name not in possible:
                    raise ValueError(
                        f"{where}: {'/'.join(self.architecture)} has no feature {name!r}{_hint(name, possible)}"
                    )
        return self

    @model_validator(mode="after")
    def _features_agree(self) -> Profile:
        present = {*self.cpu.features_required, *self.identity.features}
        absent = {*self.cpu.features_forbidden, *self.identity.features_absent}
        if both := sorted(present & absent):
            raise ValueError(f"cpu.features_forbidden: {', '.join(both)} is both required and forbidden")
        return self

    @model_validator(mode="after")
    def _traits_have_features(self) -> Profile:
        required = {*self.cpu.features_required}
        for trait, givers in TRAITS.items():
            said = getattr(self.numeric, trait)
            if said != bool(required.intersection(givers)):
                raise ValueError(
                    f"numeric.{trait}: is {str(said).lower()}, which cpu.features_required contradicts "
                    f"({' or '.join(givers)} gives it)"
                )
        return self

    @model_validator(mode="after")
    def _evidence_exists(self) -> Profile:
        if not self.abstract and not self.identity.is_stated:
            raise ValueError("identity: nothing would prove that a machine is this one")
        if self.identity.accelerators and not self.accelerators:
            raise ValueError("identity.accelerators: the profile lists no accelerators")
        return self

    def _named_features(self) -> Iterable[tuple[str, tuple[str, ...]]]:
        yield "cpu.features_required", self.cpu.features_required
        yield "cpu.features_forbidden", self.cpu.features_forbidden
        yield "identity.features", self.identity.features
        yield "identity.features_absent", self.identity.features_absent


def near_misses(name: str, names: Iterable[str]) -> list[str]:
    """Find up to three names that `name` may have meant, best first."""
    return difflib.get_close_matches(name.lower(), sorted(names), n=3, cutoff=0.5)


def _hint(name: str, names: Iterable[str]) -> str:
    close = near_misses(name, names)
    return f"; did you mean {' or '.join(close)}?" if close else ""
