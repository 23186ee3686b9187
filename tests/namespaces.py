"""Machines that are network namespaces of this one: each with an address, joined by a bridge, reaching nothing else.

Nothing here is ever reached from the root namespace: what talks to a machine runs inside one, by `Machine.command`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

SUBNET = "192.0.2"
"""Reserved for documentation (RFC 5737): no real host is ever meant."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A namespace with an address."""

    namespace: str
    address: str

    def command(self, *argv: str) -> list[str]:
        return ["ip", "netns", "exec", self.namespace, *argv]

    def route_to(self, address: str) -> str | None:
        """Name the link that packets to an address would leave by; nothing is sent."""
        asked = subprocess.run(
            ["ip", "-n", self.namespace, "route", "get", address], capture_output=True, text=True, timeout=30
        )
        words = asked.stdout.split()
        return words[words.index("dev") + 1] if asked.returncode == 0 else None


@contextmanager
def machines(*names: str) -> Iterator[Sequence[Machine]]:
    """Make machines, the first at .1, and a namespace with the bridge between them; all are gone afterwards."""
    run = f"t{os.getpid()}"
    made = [Machine(f"{run}-{name}", f"{SUBNET}.{number}") for number, name in enumerate(names, 1)]
    switch = f"{run}-switch"
    with ExitStack() as held:
        held.enter_context(_namespace(switch))
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for number, machine in enumerate(made):
            held.enter_context(_namespace(machine.namespace))
            port = ("name", f"port{number}", "netns", switch)
            _ip("link", "add", "cable", "netns", machine.namespace, "type", "veth", "peer", *port)
            _ip("-n", switch, "link", "set", f"port{number}", "master", "bridge", "up")
            _ip("-n", machine.namespace, "addr", "add", f"{machine.address}/24", "dev", "cable")
            _ip("-n", machine.namespace, "link", "set", "cable", "up")
        yield made


@contextmanager
def _namespace(name: str) -> Iterator[None]:
    _ip("netns", "add", name)
    try:
        _ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        _ip("netns", "delete", name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=30)
