"""What a stack is made of: its folder's ports and secrets, and the parts wired with them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import farm
from farm.domain.errors import BadRequest, Conflict
from farm.local import programs, running
from farm.local.accounts import unprivileged_account
from farm.local.folder import Folder, read_json, write_private
from farm.local.info import FlowerAccess, S3Access, StackInfo, write_info
from farm.local.part import Part
from farm.local.ports import kept_ports
from farm.local.postgres import database_url, postgres_part
from farm.local.programs import FLOWER_USER, Wiring
from farm.local.redis import WORKER_USER, redis_part, redis_url
from farm.local.s3 import BUCKET, PORT_NAMES, remove_sockets, s3_endpoint, s3_part

SERVICES = ("postgres", "redis", "s3")
ALL = (*SERVICES, "api", "control", "worker", "flower")
LOOPBACK = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104


@dataclass(frozen=True, slots=True)
class Blueprint:
    """Describe the stack of one folder.

    Attributes:
        overrides: FARM_… variables for every part.
        durable: False trades safety against power loss for speed (tests).
    """

    folder: Folder
    listen: str | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    durable: bool = True

    def open(self) -> None:
        """Prepare the folder: choose ports and secrets, remember where the API listens.

        Raises:
            FarmError: the folder cannot be used, or `listen` is no HOST:PORT.
            Conflict: the API runs and listens elsewhere.
        """
        unprivileged_account(self.folder.postgres)
        self.folder.open()
        with self.folder.setting_up():
            ports = self._ports()
            self.folder.secrets()
            if self.listen is not None:
                self._keep_listen(*parse_listen(self.listen, default_port=ports["api"]))

    def _keep_listen(self, host: str, port: int) -> None:
        kept = self._wiring().listen
        if kept != f"{host}:{port}" and running.running(self.folder, "api"):
            raise Conflict(
                f"The API of {self.folder.root} runs and listens at {kept}.", remedy="Run `farm down` first."
            )
        write_private(self._listen_file, json.dumps({"host": host, "port": port}))

    @property
    def _listen_file(self) -> Path:
        return self.folder.root / "listen.json"

    def _ports(self) -> dict[str, int]:
        return kept_ports(self.folder.root / "ports.json", ("postgres", "redis", "api", "flower", *PORT_NAMES))

    def define(self, names: Sequence[str] = ALL) -> list[Part]:
        """Describe parts.

        Raises:
            FarmError: a program is missing, or nobody may run it here.
        """
        services = self._services() if set(names) & set(SERVICES) else []
        base = {**programs.inherited(os.environ), **programs.NO_SURPRISES, **_environments(), **self.overrides}
        wiring = self._wiring()
        own = [
            make(self.folder, wiring, base)
            for make in (programs.api_part, programs.control_part, programs.worker_part, programs.flower_part)
        ]
        return [part for part in (*services, *own) if part.name in names]

    def _services(self) -> list[Part]:
        folder, ports, secrets = self.folder, self._ports(), self.folder.secrets()
        postgres = postgres_part(folder, port=ports["postgres"], password=secrets["postgres"], durable=self.durable)
        sockets = folder.socket_folder(postgres.account.uid if postgres.account else os.geteuid())
        return [
            postgres,
            redis_part(folder, port=ports["redis"], secrets=secrets, durable=self.durable),
            s3_part(folder, sockets=sockets, ports=ports, secrets=secrets, durable=self.durable),
        ]

    def _wiring(self) -> Wiring:
        ports, secrets = self._ports(), self.folder.secrets()
        listen = read_json(self._listen_file) or {"host": "127.0.0.1", "port": ports["api"]}
        return Wiring(
            api=f"http://{LOOPBACK.get(listen['host'], listen['host'])}:{listen['port']}",
            listen=f"{listen['host']}:{listen['port']}",
            database=database_url(ports["postgres"], secrets["postgres"]),
            redis=redis_url(ports["redis"], secrets["redis"]),
            redis_worker=redis_url(ports["redis"], secrets["redis_worker"], user=WORKER_USER),
            s3=S3Access(s3_endpoint(ports), BUCKET, secrets["s3_access_key"], secrets["s3_secret_key"]),
            user_token=secrets["user_token"],
            host_token=secrets["host_token"],
            flower=FlowerAccess(f"http://127.0.0.1:{ports['flower']}", FLOWER_USER, secrets["flower"]),
            flower_port=ports["flower"],
        )

    def publish(self) -> StackInfo:
        """Write stack.json as things stand now."""
        wiring = self._wiring()
        info = StackInfo(
            api=wiring.api,
            web=f"{wiring.api}/",
            token=wiring.user_token,
            flower=wiring.flower,
            s3=wiring.s3,
            redis=wiring.redis,
            redis_worker=wiring.redis_worker,
            database=wiring.database,
            host_token=wiring.host_token,
            pids={record.part: record.identity.pid for record in running.records(self.folder)},
        )
        write_info(self.folder, info)
        return info

    def withdraw(self) -> None:
        """Remove what only a running stack has: stack.json and sockets."""
        self.folder.stack_file.unlink(missing_ok=True)
        self.folder.remove_sockets()
        if ports := read_json(self.folder.root / "ports.json"):
            remove_sockets(ports)


def parse_listen(text: str, *, default_port: int) -> tuple[str, int]:
    """Read HOST:PORT, HOST or :PORT; an IPv6 host stands in brackets.

    Raises:
        BadRequest: it is none of these.
    """
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host, port = text, str(default_port)
    if not port.isdigit() or not 0 < int(port) < 65536 or (":" in host and not host.startswith("[")):
        raise BadRequest(
            f"{text!r} is no address to listen on.", remedy="Give HOST:PORT, HOST or :PORT, for example 0.0.0.0:8765."
        )
    return host or "0.0.0.0", int(port)  # noqa: S104


def _environments() -> dict[str, str]:
    """Say where stage environments are: as set, else .envs here, else beside the source."""
    told = os.environ.get("FARM_ENVIRONMENTS_DIR")
    if told is None and not Path(".envs").is_dir():
        told = str(Path(farm.__file__).parents[1] / ".envs")
    return {"FARM_ENVIRONMENTS_DIR": str(Path(told or ".envs").absolute())}
