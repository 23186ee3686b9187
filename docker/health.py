"""Ask one part of the farm whether it does its work; exit code 0 when it does, 1 with the reason when not.

    python health.py api|control|flower|worker

No check changes anything: a check that sent a heartbeat would keep a dead worker alive.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from farm.settings import Settings

LATELY = timedelta(seconds=30)
ESTABLISHED = "01"
"""State of a connection in /proc/net/tcp."""


class Unwell(Exception):
    """A part does not do its work; the message says what was asked."""


def api(config: Settings) -> None:
    """Ask the API, which asks ledger, queue and store."""
    port = config.listen.rpartition(":")[2]
    if (status := _status(f"http://127.0.0.1:{port}/v1/health")) != 200:
        raise Unwell(f"GET /v1/health answers {status}")


def control(config: Settings) -> None:
    """Ask the ledger when a control loop last asked it something; of several loops, one that lives is enough."""
    from farm.local.part import NotReady
    from farm.local.postgres import last_activity

    try:
        asked = last_activity(config.database_url.get_secret_value(), "farm-control")
    except NotReady as exc:
        raise Unwell(str(exc)) from exc
    if asked is None or asked < datetime.now(UTC) - LATELY:
        raise Unwell(f"control's last question to the ledger was {asked or 'never'}")


def flower(_config: Settings) -> None:
    """Ask Flower for a page: it answers, if only that it wants a password."""
    if (status := _status("http://127.0.0.1:5555/")) not in (200, 401):
        raise Unwell(f"GET / of Flower answers {status}")


def worker(config: Settings) -> None:
    """Ask whether the API answers, and whether this container holds a connection to the broker."""
    if (status := _status(f"{config.url.rstrip('/')}/v1/health")) >= 500 and status != 503:
        raise Unwell(f"the API answers {status}")
    broker = urlsplit(config.redis_url.get_secret_value())
    asked = (broker.hostname or "127.0.0.1", broker.port or 6379)
    addresses = {str(found[4][0]) for found in socket.getaddrinfo(*asked, family=socket.AF_INET)}
    if not any((address, asked[1]) in set(connections(Path("/proc/net/tcp"))) for address in addresses):
        raise Unwell(f"nothing here is connected to the broker at {asked[0]}:{asked[1]}")


def connections(table: Path) -> Iterator[tuple[str, int]]:
    """List the remote ends of established IPv4 connections, from a table in the format of /proc/net/tcp."""
    for line in table.read_text().splitlines()[1:]:
        _, _, remote, state = line.split()[:4]
        address, _, port = remote.partition(":")
        if state == ESTABLISHED:
            yield socket.inet_ntoa(struct.pack("=I", int(address, 16))), int(port, 16)


def _status(url: str) -> int:
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=5) as answer:
            return int(answer.status)
    except HTTPError as exc:
        return exc.code
    except (URLError, OSError) as exc:
        raise Unwell(f"GET {url} fails: {exc}") from exc


CHECKS: dict[str, Callable[[Settings], None]] = {"api": api, "control": control, "flower": flower, "worker": worker}


def main() -> int:
    part = sys.argv[1] if len(sys.argv) == 2 else ""
    if part not in CHECKS:
        print(f"usage: health.py {'|'.join(CHECKS)}", file=sys.stderr)
        return 2
    try:
        CHECKS[part](Settings())
    except (Unwell, OSError) as exc:
        print(f"{part}: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
