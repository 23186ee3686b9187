"""One embedded stack in one data folder."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from farm.domain.errors import Conflict
from farm.local import programs, running
from farm.local.folder import Folder
from farm.local.info import FlowerAccess, S3Access, StackInfo, read_info, write_info
from farm.local.part import Part
from farm.local.ports import kept_ports
from farm.local.postgres import database_url, postgres_part
from farm.local.programs import FLOWER_USER, Wiring
from farm.local.redis import redis_part, redis_url
from farm.local.s3 import BUCKET, PORT_NAMES, s3_endpoint, s3_part

SERVICES = ("postgres", "redis", "s3")
ALL = (*SERVICES, "api", "control", "worker", "flower")


class Stack:
    """Start, find and stop the parts of one data folder.

    Args:
        data: created when missing; everything of the stack lies there.
        listen: HOST:PORT of the API; kept in the folder.
        settings_overrides: FARM_… variables for every part.
        durable: False trades safety against power loss for speed (tests).
    """

    def __init__(
        self,
        data: Path,
        *,
        listen: str | None = None,
        settings_overrides: Mapping[str, str] | None = None,
        durable: bool = True,
    ) -> None:
        self.folder = Folder(data.absolute())
        self._listen = listen
        self._overrides = dict(settings_overrides or {})
        self._durable = durable

    def define(self, names: Sequence[str] = ALL) -> list[Part]:
        """Describe parts, with this folder's ports and secrets."""
        folder, ports, secrets = self.folder, self._ports(), self.folder.secrets()
        base = {**programs.inherited(os.environ), **programs.NO_SURPRISES, **self._overrides}
        wiring = self._wiring()
        postgres = postgres_part(folder, port=ports["postgres"], password=secrets["postgres"], durable=self._durable)
        sockets = folder.socket_folder(postgres.account.uid if postgres.account else os.geteuid())
        every = [
            postgres,
            redis_part(folder, port=ports["redis"], secrets=secrets, durable=self._durable),
            s3_part(folder, sockets=sockets, ports=ports, secrets=secrets, durable=self._durable),
            programs.api_part(folder, wiring, base),
            programs.control_part(folder, wiring, base),
            programs.worker_part(folder, wiring, base),
            programs.flower_part(folder, wiring, base),
        ]
        return [part for part in every if part.name in names]

    def _ports(self) -> dict[str, int]:
        return kept_ports(self.folder.root / "ports.json", ("postgres", "redis", "api", "flower", *PORT_NAMES))

    def _wiring(self) -> Wiring:
        ports, secrets = self._ports(), self.folder.secrets()
        listen = self._listen or f"127.0.0.1:{ports['api']}"
        return Wiring(
            api=f"http://{listen}",
            listen=listen,
            database=database_url(ports["postgres"], secrets["postgres"]),
            redis=redis_url(ports["redis"], secrets["redis"]),
            redis_worker=redis_url(ports["redis"], secrets["redis_worker"], user="worker"),
            s3={
                "endpoint": s3_endpoint(ports),
                "bucket": BUCKET,
                "access_key": secrets["s3_access_key"],
                "secret_key": secrets["s3_secret_key"],
            },
            user_token=secrets["user_token"],
            host_token=secrets["host_token"],
            flower_password=secrets["flower"],
            flower_port=ports["flower"],
        )

    def describe(self) -> StackInfo:
        """Put together what stack.json holds now."""
        wiring = self._wiring()
        pids = {record.part: record.identity.pid for record in running.records(self.folder)}
        return StackInfo(
            api=wiring.api,
            web=f"{wiring.api}/",
            token=wiring.user_token,
            flower=FlowerAccess(f"http://127.0.0.1:{wiring.flower_port}", FLOWER_USER, wiring.flower_password),
            s3=S3Access(**wiring.s3),
            redis=wiring.redis,
            redis_worker=wiring.redis_worker,
            database=wiring.database,
            host_token=wiring.host_token,
            pids=pids,
        )

    def start_parts(self, names: Sequence[str], on_progress: running.Progress) -> StackInfo:
        """Adopt or start parts level by level, each level once the one below answers."""
        self.folder.open()
        running.stop_strays(self.folder)
        parts = self.define(names)
        for level in sorted({part.level for part in parts}):
            begun = [
                (part, running.adopt_or_start(self.folder, part, on_progress)) for part in parts if part.level == level
            ]
            for part, record in begun:
                running.await_ready(self.folder, part, record)
                on_progress(f"{part.name}: ready")
        return self.publish()

    def publish(self) -> StackInfo:
        info = self.describe()
        write_info(self.folder, info)
        return info

    def stop_parts(self) -> None:
        """Stop what runs, faces first, and remove sockets."""
        for record in running.records(self.folder):
            running.stop(self.folder, record.part)
        running.stop_strays(self.folder)
        for part in self.define():
            part.clean()
        self.folder.remove_sockets()
        self.folder.stack_file.unlink(missing_ok=True)

    def info(self) -> StackInfo | None:
        """Read how to reach the stack; None when it does not run."""
        return read_info(self.folder)

    def pid(self, part: str) -> int:
        """Return a running part's pid; KeyError when it does not run."""
        record = running.running(self.folder, part)
        if record is None:
            raise KeyError(f"{part} does not run")
        return record.identity.pid

    def kill(self, part: str, number: signal.Signals = signal.SIGKILL) -> None:
        os.kill(self.pid(part), number)


@contextmanager
def supervisor_lock(folder: Folder) -> Iterator[None]:
    """Hold the folder: one supervisor at a time.

    Raises:
        Conflict: another one holds it.
    """
    fd = os.open(folder.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise Conflict(f"A stack already runs in {folder.root}.", remedy="Stop it with `farm down`.") from exc
        yield
    finally:
        os.close(fd)
