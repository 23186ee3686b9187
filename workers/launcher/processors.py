"""Processors an emulator can show, and the /proc/cpuinfo that goes with them.

An emulated program that reads this machine's own cpuinfo meets an x86 processor: onnxruntime 1.32 crashes on that, and
takes instructions that the emulated one lacks for given. Source: QEMU, target/arm/cpu64.c; Linux, arm64 cpuinfo.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from farm.domain.errors import ConfigurationError

_ARMV8 = "fp asimd aes pmull sha1 sha2 crc32 cpuid"
_ARMV8_2 = f"{_ARMV8} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"


@dataclass(frozen=True, slots=True)
class Processor:
    """A model: its MIDR part, the features Linux would list, and the version of its architecture."""

    part: str
    features: str
    architecture: int = 8


_ARMV7 = "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae"

PROCESSORS = {
    "cortex-a7": Processor("0xc07", _ARMV7, 7),
    "cortex-a53": Processor("0xd03", _ARMV8),
    "cortex-a72": Processor("0xd08", _ARMV8),
    "cortex-a76": Processor("0xd0b", _ARMV8_2),
    "neoverse-n1": Processor("0xd0c", _ARMV8_2),
    "max": Processor("0xd0b", _ARMV8_2),
}
"""`max` has what QEMU can do, SVE and SME included; version 7.2 computes some of that wrongly."""


def cpuinfo(cpu: str, count: int) -> str:
    """Write /proc/cpuinfo for `count` processors.

    Raises:
        ConfigurationError: the model is not known here.
    """
    if cpu not in PROCESSORS:
        raise ConfigurationError(
            f"There is no processor {cpu!r} to emulate.", remedy=f"Known: {', '.join(PROCESSORS)}."
        )
    shown = PROCESSORS[cpu]
    return "".join(
        f"processor\t: {index}\nBogoMIPS\t: 108.00\nFeatures\t: {shown.features}\nCPU implementer\t: 0x41\n"
        f"CPU architecture: {shown.architecture}\nCPU variant\t: 0x0\nCPU part\t: {shown.part}\nCPU revision\t: 3\n\n"
        for index in range(count)
    )
