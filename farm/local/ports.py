"""Ports of a stack: chosen once, free then, kept in DIR/ports.json."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Sequence
from pathlib import Path

from farm.domain.errors import ConfigurationError
from farm.local.folder import read_json, write_private
from farm.local.part import NotReady

FIRST, LAST = 12_000, 22_000
"""With the gRPC ports above them, below Linux's outgoing ports (32768): no connection takes one during a restart."""

GRPC_OFFSET = 10_000
"""SeaweedFS's parts look for each other's gRPC ports this much higher, whatever the flags say."""


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Say whether nothing listens there (a port in TIME_WAIT counts as free)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def require_listening(host: str, port: int) -> None:
    """Look for a listener, at the cost of one connection.

    Raises:
        NotReady: there is none.
    """
    try:
        socket.create_connection((host, port), timeout=2.0).close()
    except OSError as exc:
        raise NotReady(f"nothing listens at {host}:{port} ({exc.strerror or exc})") from exc


def choose_block(count: int) -> list[int]:
    """Pick `count` neighbouring ports, free like their gRPC ports; two stacks that start at once hardly ever meet."""
    for _ in range(200):
        first = random.SystemRandom().randrange(FIRST, LAST - count, count)
        block = list(range(first, first + count))
        if all(is_free(port) and is_free(port + GRPC_OFFSET) for port in block):
            return block
    raise ConfigurationError(
        f"No {count} neighbouring ports between {FIRST} and {LAST} are free.",
        remedy="Stop other services of this machine.",
    )


def kept_ports(path: Path, names: Sequence[str]) -> dict[str, int]:
    """Read the ports of `names`, choosing those that are missing."""
    known: dict[str, int] = read_json(path) or {}
    missing = [name for name in names if name not in known]
    if missing:
        known |= dict(zip(missing, choose_block(len(missing)), strict=True))
        write_private(path, json.dumps(known, indent=1))
    return known


def require_free(part: str, port: int, *, host: str, kept_in: Path) -> None:
    """Refuse to start a part whose port somebody else holds.

    Raises:
        ConfigurationError: naming part and port.
    """
    if not is_free(port, host):
        raise ConfigurationError(
            f"{host}:{port}, where {part} listens, is taken by another process or is no address of this machine.",
            remedy=f"Stop that process, or change the port in {kept_in}.",
        )
