"""docs/profiles.md: every profile as a reader asks for it, written from the profiles themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from hardware_profiles.features import TRAITS
from hardware_profiles.schema import Profile

HEAD = """# Hardware profiles

Written by `farm profiles docs > docs/profiles.md` from `hardware_profiles/*.yaml`; don't edit it. A profile is *backed*
when a tree of such a machine is among the tests (`tests/trees`, each reconstructed from public dumps, none copied from
a machine in one piece); the others are *unverified*. No profile has been checked on a real board yet.

Check files with `farm profiles lint [FILE…]`. For completion in editors: `farm profiles schema > profile.schema.json`,
and `# yaml-language-server: $schema=profile.schema.json` as a file's first line.
"""


def page(profiles: Mapping[str, Profile]) -> str:
    """Write the whole page."""
    return "\n".join([HEAD, *_overview(profiles), "", *(line for p in _sorted(profiles) for line in _section(p))])


def _sorted(profiles: Mapping[str, Profile]) -> list[Profile]:
    return [profiles[name] for name in sorted(profiles)]


def _overview(profiles: Mapping[str, Profile]) -> Iterator[str]:
    yield "| profile | what | architecture | runtimes | numeric traits | state |"
    yield "|---|---|---|---|---|---|"
    for p in _sorted(profiles):
        state = "backed" if p.verified else "unverified"
        traits = ", ".join(_traits(p)) or "–"
        yield (
            f"| [{p.name}](#{p.name}) | {p.title} | {', '.join(p.architecture)} | {', '.join(sorted(p.runtimes))} "
            f"| {traits} | {state} |"
        )


def _section(p: Profile) -> Iterator[str]:
    yield f"## {p.name}"
    yield ""
    yield f"{p.title}." + (f" Extends {p.extends}." if p.extends else "")
    yield ""
    for what, value in _facts(p):
        yield f"- **{what}**: {value}"
    yield ""


def _facts(p: Profile) -> Iterator[tuple[str, str]]:
    yield from _machine(p)
    yield "proven by", "; ".join(_evidence(p))
    yield from _measuring(p)
    for latency in p.reference_latencies:
        threads = f", {latency.threads} threads" if latency.threads else ""
        figure = f"{latency.latency_ms:g} ms under {latency.runtime}{threads} ({latency.source})"
        yield f"published latency of {latency.model}", figure
    yield "sources", "; ".join(p.sources)


def _machine(p: Profile) -> Iterator[tuple[str, str]]:
    wanted = (
        ("CPU parts", p.cpu.parts),
        ("CPU models", p.cpu.model_names),
        ("features required", p.cpu.features_required),
        ("features forbidden", p.cpu.features_forbidden),
    )
    yield from ((what, _code(values)) for what, values in wanted if values)
    if p.memory_min_bytes:
        yield "memory", f"{p.memory_min_bytes / 1e6:,.0f} MB at least"
    for device in p.accelerators:
        places = [*(f"USB {i}" for i in device.usb_ids), *(f"PCI {i}" for i in device.pci_ids), *device.device_nodes]
        versions = " or ".join(map(str, device.runtime_versions))
        runtime = f"; its library is of runtime {versions}" if versions else ""
        yield f"accelerator {device.name}", f"at {', '.join(places)}{runtime}"
    if p.limits.max_model_bytes:
        yield "largest model", f"{p.limits.max_model_bytes / 1e6:,.0f} MB"
    if p.limits.max_process_bytes:
        yield "memory of a step", f"{p.limits.max_process_bytes / 1e6:,.0f} MB at most"


def _evidence(p: Profile) -> Iterator[str]:
    kinds = (
        ("device tree", p.identity.device_tree_compatible),
        ("device tree model", p.identity.device_tree_models),
        ("DMI", p.identity.dmi_names),
        ("CPU part", p.identity.parts),
        ("CPU model", p.identity.model_names),
        ("features", p.identity.features),
        ("no", p.identity.features_absent),
    )
    yield from (f"{what} {_code(values)}" for what, values in kinds if values)
    if p.identity.accelerators:
        yield "its accelerator"
    if p.identity.emulated:
        yield "the emulator's traces"


def _measuring(p: Profile) -> Iterator[tuple[str, str]]:
    m = p.measurement
    told = [
        f"threads {', '.join(map(str, m.threads))}",
        f"governor {m.governor or 'any'}",
        f"at most {m.temperature_ceiling_c:g} °C",
        f"{m.cool_down_s:g} s of cool-down",
        f"cores {', '.join(map(str, m.cores)) if m.cores else 'the quietest, big ones first'}",
        f"clock at least {m.clock_min_ratio:.0%}",
    ]
    if m.must_read:
        told.append(f"must be readable: {', '.join(m.must_read)}")
    yield "measured with", "; ".join(told)


def _traits(p: Profile) -> list[str]:
    return [trait for trait in TRAITS if getattr(p.numeric, trait)]


def _code(values: Sequence[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)
