"""Compare a machine with profiles: which ones it satisfies, and which one it is.

Satisfying is the absence of mismatches and allows building. Identity needs positive evidence and allows measuring.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch

from hardware_profiles.schema import Accelerator, IdentityEvidence, Profile
from workers.host.facts import HostFacts

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Identity:
    """Which profile a machine is.

    Attributes:
        profile: the most specific one that evidence supports; None when none or several are.
        candidates: what was left to choose from, sorted.
        reason: one sentence: the evidence, or why there is no identity.
    """

    profile: str | None
    candidates: tuple[str, ...]
    reason: str


def mismatches(facts: HostFacts, profile: Profile) -> list[str]:
    """List everything that keeps the machine from satisfying the profile, one full sentence each."""
    return [
        *_architecture(facts, profile),
        *_emulation(facts, profile),
        *_cpu(facts, profile),
        *_memory(facts, profile),
        *_accelerators(facts, profile),
    ]


def satisfying(facts: HostFacts, profiles: Mapping[str, Profile]) -> list[str]:
    """Name the profiles the machine satisfies, sorted."""
    return sorted(name for name, profile in profiles.items() if not mismatches(facts, profile))


def identify(facts: HostFacts, profiles: Mapping[str, Profile]) -> Identity:
    """Find the most specific profile that the machine satisfies and positive evidence supports.

    A profile gives way to those that extend it. Among the rest, evidence of an accelerator counts before that of a
    board, a CPU part or model, and CPU features, in this order. Equal evidence is a tie, and ties are refused.
    """
    proven = {name: evidence(facts, profiles[name]) for name in satisfying(facts, profiles)}
    proven = {name: found for name, found in proven.items() if found}
    outdone = {ancestor for name in proven for ancestor in ancestors(profiles[name], profiles)}
    left = {name: found for name, found in proven.items() if name not in outdone}
    if not left:
        return Identity(None, (), "No profile is supported by positive evidence on this machine.")
    strength = {name: tuple(kind in found for kind in EVIDENCE_KINDS) for name, found in left.items()}
    best = sorted(name for name in left if strength[name] == max(strength.values()))
    if len(best) > 1:
        return Identity(
            None, tuple(best), f"The same evidence supports {' and '.join(best)}, so neither is the identity."
        )
    words = "; ".join(left[best[0]].values())
    return Identity(best[0], tuple(best), f"{best[0]} is supported by {words}.")


def ancestors(profile: Profile, profiles: Mapping[str, Profile]) -> Iterator[str]:
    while profile.extends and profile.extends in profiles:
        yield profile.extends
        profile = profiles[profile.extends]


EVIDENCE_KINDS = ("accelerator", "emulator", "device-tree", "dmi", "cpu-part", "cpu-model", "cpu-features")
"""Strongest first."""


def evidence(facts: HostFacts, profile: Profile) -> dict[str, str]:
    """Give the evidence for a profile by kind, in words; none when any stated kind doesn't hold."""
    found: dict[str, str] = {}
    for kind, words in _evidence(facts, profile):
        if words is None:
            return {}
        found[kind] = words
    return found


def _evidence(facts: HostFacts, profile: Profile) -> Iterator[tuple[str, str | None]]:
    stated, board = profile.identity, facts.board
    if stated.accelerators:
        yield "accelerator", ", ".join(item.name for item in profile.accelerators if _is_attached(facts, item)) or None
    if stated.emulated:
        yield "emulator", facts.emulation.evidence[0] if facts.emulated else None
    if stated.device_tree_compatible:
        yield "device-tree", _shared("device tree", stated.device_tree_compatible, board.device_tree_compatible)
    if stated.device_tree_models:
        yield "device-tree", _starting(stated.device_tree_models, board.device_tree_model)
    if stated.dmi_names:
        yield "dmi", _containing("DMI name", stated.dmi_names, board.dmi_names)
    if stated.parts:
        yield "cpu-part", _shared("CPU part", stated.parts, facts.cpu.parts)
    if stated.model_names:
        yield "cpu-model", _containing("CPU model", stated.model_names, (facts.cpu.model or "",))
    if stated.features or stated.features_absent:
        yield "cpu-features", _feature_set(stated, facts.cpu.features)


def _shared(label: str, wanted: tuple[str, ...], present: tuple[str, ...]) -> str | None:
    both = [name for name in wanted if name in present]
    return f"{label} {', '.join(both)}" if both else None


def _starting(wanted: tuple[str, ...], model: str | None) -> str | None:
    return f"device tree model {model}" if model and model.startswith(wanted) else None


def _containing(label: str, wanted: tuple[str, ...], present: tuple[str, ...]) -> str | None:
    return next((f"{label} {name}" for name in present for word in wanted if word in name), None)


def _feature_set(stated: IdentityEvidence, features: tuple[str, ...]) -> str | None:
    if not set(stated.features).issubset(features) or set(stated.features_absent).intersection(features):
        return None
    return f"CPU features {', '.join(stated.features)} without {', '.join(stated.features_absent) or 'others'}"


def _architecture(facts: HostFacts, profile: Profile) -> Iterator[str]:
    if facts.architecture not in profile.architecture:
        wanted = " or ".join(profile.architecture)
        yield f"The architecture is {facts.architecture}; {profile.name} requires {wanted}."


def _emulation(facts: HostFacts, profile: Profile) -> Iterator[str]:
    because = "; ".join(facts.emulation.evidence)
    if facts.emulated and not profile.emulated:
        yield f"The CPU is emulated ({because}); {profile.name} requires a real one."
    if profile.emulated and not facts.emulated:
        state = "unknown" if facts.emulated is None else "no"
        yield f"The CPU is emulated: {state} ({because}); {profile.name} requires an emulated one."


def _cpu(facts: HostFacts, profile: Profile) -> Iterator[str]:
    wanted, cpu = profile.cpu, facts.cpu
    if wanted.parts and not set(wanted.parts).intersection(cpu.parts):
        found = ", ".join(cpu.parts) or "unknown"
        yield f"The CPU part is {found}; {profile.name} requires {' or '.join(wanted.parts)}."
    if wanted.model_names and not _containing("", wanted.model_names, (cpu.model or "",)):
        yield f"The CPU model is {cpu.model or 'unknown'}; {profile.name} requires {' or '.join(wanted.model_names)}."
    if wanted.features_required and not cpu.features:
        yield f"The CPU features are unknown; {profile.name} requires {', '.join(wanted.features_required)}."
    elif missing := [name for name in wanted.features_required if name not in cpu.features]:
        yield f"The CPU lacks {', '.join(missing)}; {profile.name} requires {'it' if len(missing) == 1 else 'them'}."
    if surplus := [name for name in wanted.features_forbidden if name in cpu.features]:
        yield f"The CPU has {', '.join(surplus)}; {profile.name} excludes {'it' if len(surplus) == 1 else 'them'}."


def _memory(facts: HostFacts, profile: Profile) -> Iterator[str]:
    if not profile.memory_min_bytes:
        return
    required = f"{profile.name} requires {profile.memory_min_bytes / MIB:.0f} MiB"
    if facts.memory_bytes is None:
        yield f"The memory's size is unknown; {required}."
    elif facts.memory_bytes < profile.memory_min_bytes:
        yield f"The memory is {facts.memory_bytes / MIB:.0f} MiB; {required}."


def _accelerators(facts: HostFacts, profile: Profile) -> Iterator[str]:
    for item in profile.accelerators:
        if not _is_attached(facts, item):
            places = [f"{bus} {id_}" for bus, ids in (("USB", item.usb_ids), ("PCI", item.pci_ids)) for id_ in ids]
            places += [f"/dev/{node}" for node in item.device_nodes]
            yield f"No {item.name} is attached; {profile.name} requires one at {' or '.join(places)}."


def _is_attached(facts: HostFacts, item: Accelerator) -> bool:
    devices = facts.devices
    return bool(
        set(item.usb_ids).intersection(devices.usb_ids)
        or set(item.pci_ids).intersection(devices.pci_ids)
        or any(fnmatch(node, pattern) for node in devices.nodes for pattern in item.device_nodes)
    )
