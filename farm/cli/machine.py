"""Describe a machine, as `farm probe` shows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm.cli.output import stdout
from farm.report.text import plain, size
from hardware_profiles.loader import load_profiles
from workers.host.attest import Identity, identify, mismatches
from workers.host.facts import HostFacts
from workers.host.probe import probe


@dataclass(frozen=True, slots=True)
class Machine:
    """What was probed, which profile it is, and per profile what keeps the machine from it."""

    facts: HostFacts
    identity: Identity
    mismatches: dict[str, list[str]]

    def as_json(self) -> dict[str, Any]:
        return {
            "facts": self.facts.as_json(),
            "profile": self.identity.profile,
            "candidates": list(self.identity.candidates),
            "reason": self.identity.reason,
            "satisfies": [name for name, found in self.mismatches.items() if not found],
            "mismatches": {name: found for name, found in self.mismatches.items() if found},
        }


def describe(root: Path) -> Machine:
    profiles = load_profiles()
    facts = probe(root)
    against = {name: mismatches(facts, profile) for name, profile in sorted(profiles.items())}
    return Machine(facts, identify(facts, profiles), against)


def print_machine(machine: Machine) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in _lines(machine):
        table.add_row(Text(name, style="bold"), Text(plain(value, keep="\n")))
    stdout().print(table)


def _lines(machine: Machine) -> list[tuple[str, str]]:
    facts = machine.facts
    emulated = {True: "emulated", False: "no", None: "unknown"}[facts.emulated]
    unmet = [f"{name}: {' '.join(found)}" for name, found in machine.mismatches.items() if len(found) == 1]
    rest = sum(len(found) > 1 for found in machine.mismatches.values())
    return [
        ("profile", f"{machine.identity.profile or 'none'}: {machine.identity.reason}"),
        ("satisfies", ", ".join(name for name, found in machine.mismatches.items() if not found) or "no profile"),
        ("architecture", facts.architecture),
        ("cpu", f"{facts.cpu.model or 'unknown'}, {len(facts.allowed_cores)} cores for us"),
        ("memory", "unknown" if facts.memory_bytes is None else size(facts.memory_bytes)),
        ("emulated", f"{emulated} ({'; '.join(facts.emulation.evidence) or 'no evidence'})"),
        ("machine", facts.virtualization or "no hypervisor seen"),
        ("not", "\n".join([*unmet, f"{rest} others for several reasons each; --json lists them"])),
    ]
