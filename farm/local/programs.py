"""The farm's own parts, started by their command lines only."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from farm.local.folder import Folder
from farm.local.info import FlowerAccess, S3Access
from farm.local.part import BASE_NAMES, NotReady, Part
from farm.local.postgres import last_activity
from farm.local.redis import WORKER_USER, waits_for_messages

if TYPE_CHECKING:
    from httpx import Response

FLOWER_USER = "farm"
FARM_COMMAND = (sys.executable, "-m", "farm.cli.main")
SECRET_NAMES = (
    *("FARM_DATABASE_URL", "FARM_REDIS_URL", "FARM_WORKER_REDIS_URL", "FARM_TOKEN"),
    *("FARM_S3_ENDPOINT", "FARM_S3_PUBLIC_ENDPOINT", "FARM_S3_BUCKET", "FARM_S3_ACCESS_KEY", "FARM_S3_SECRET_KEY"),
    *("FARM_BOOTSTRAP_USER_TOKEN", "FARM_BOOTSTRAP_HOST_TOKEN"),
)
"""What no part inherits from the environment of `farm up`: each gets what is its own."""

LATELY = timedelta(seconds=15)

NO_SURPRISES = {"ORT_DISABLE_TELEMETRY": "1", "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "PYTHONUNBUFFERED": "1"}


@dataclass(frozen=True, slots=True)
class Wiring:
    """Addresses and secrets that the parts are wired with."""

    api: str
    listen: str
    database: str
    redis: str
    redis_worker: str
    s3: S3Access
    user_token: str
    host_token: str
    flower: FlowerAccess
    flower_port: int


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """Keep what parts may inherit: the basics, and settings (FARM_…) that are not ours to set."""
    return {
        name: value
        for name, value in environment.items()
        if name in BASE_NAMES or (name.startswith("FARM_") and name not in SECRET_NAMES)
    }


def api_part(folder: Folder, wiring: Wiring, base: Mapping[str, str]) -> Part:
    return Part(
        name="api",
        level=1,
        argv=(*FARM_COMMAND, "api"),
        environment={
            **base,
            **_control_plane(wiring, "api"),
            "FARM_LISTEN": wiring.listen,
            "FARM_WORKER_REDIS_URL": wiring.redis_worker,
            "FARM_BOOTSTRAP_USER_TOKEN": wiring.user_token,
            "FARM_BOOTSTRAP_HOST_TOKEN": wiring.host_token,
        },
        probe=lambda _started: _require_api(wiring),
        cwd=folder.root,
        ports={"api": _address(wiring.listen)},
    )


def control_part(folder: Folder, wiring: Wiring, base: Mapping[str, str]) -> Part:
    return Part(
        name="control",
        level=2,
        argv=(*FARM_COMMAND, "control"),
        environment={**base, **_control_plane(wiring, "control")},
        probe=lambda started: _require_control(wiring, started),
        cwd=folder.root,
    )


def worker_part(folder: Folder, wiring: Wiring, base: Mapping[str, str]) -> Part:
    """Describe the local worker: broker by its own role, a host token, neither ledger nor bucket keys."""
    return Part(
        name="worker",
        level=2,
        argv=(*FARM_COMMAND, "worker", "--profile", "auto"),
        environment={
            **base,
            "FARM_URL": wiring.api,
            "FARM_TOKEN": wiring.host_token,
            "FARM_REDIS_URL": wiring.redis_worker,
            "FARM_WORK_DIR": str(folder.root / "work"),
            "FARM_CACHE_DIR": str(folder.root / "cache"),
        },
        probe=lambda started: _require_live_host(wiring, started),
        cwd=folder.root,
        ready_within_s=180.0,
        stop_within_s=15.0,
    )


def flower_part(folder: Folder, wiring: Wiring, base: Mapping[str, str]) -> Part:
    return Part(
        name="flower",
        level=2,
        argv=(
            *(sys.executable, "-m", "celery", "-A", "farm.queue", "flower"),
            *("--address=127.0.0.1", f"--port={wiring.flower_port}"),
        ),
        environment={
            **base,
            "FARM_REDIS_URL": wiring.redis,
            "FLOWER_BASIC_AUTH": f"{wiring.flower.user}:{wiring.flower.password}",
        },
        probe=lambda _started: _require_flower(wiring),
        cwd=folder.root,
        stop_within_s=5.0,
        ports={"flower": ("127.0.0.1", wiring.flower_port)},
    )


def _control_plane(wiring: Wiring, part: str) -> dict[str, str]:
    return {
        "PGAPPNAME": f"farm-{part}",
        "FARM_URL": wiring.api,
        "FARM_DATABASE_URL": wiring.database,
        "FARM_REDIS_URL": wiring.redis,
        "FARM_S3_ENDPOINT": wiring.s3.endpoint,
        "FARM_S3_BUCKET": wiring.s3.bucket,
        "FARM_S3_ACCESS_KEY": wiring.s3.access_key,
        "FARM_S3_SECRET_KEY": wiring.s3.secret_key,
    }


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def _get(url: str, *, token: str | None = None, auth: tuple[str, str] | None = None) -> Response:
    import httpx

    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with httpx.Client(timeout=5.0, trust_env=False) as client:
            answer = client.get(url, headers=headers, auth=auth)
    except httpx.HTTPError as exc:
        raise NotReady(f"GET {url} fails: {exc}") from exc
    if answer.status_code != httpx.codes.OK:
        raise NotReady(f"GET {url} answers {answer.status_code}")
    return answer


def _require_api(wiring: Wiring) -> None:
    _get(f"{wiring.api}/v1/health", token=wiring.user_token)


def _require_control(wiring: Wiring, started: datetime) -> None:
    """Look for control in the ledger: a connection of its own that asked something since it started, and lately."""
    asked = last_activity(wiring.database, "farm-control")
    if asked is None or asked < max(started, datetime.now(UTC) - LATELY):
        raise NotReady(f"control's last question to the ledger was {asked or 'never'}")


def _require_live_host(wiring: Wiring, started: datetime) -> None:
    found = _get(f"{wiring.api}/v1/hosts", token=wiring.user_token).json()
    hosts = found if isinstance(found, list) else found.get("hosts", [])
    fresh = [host for host in hosts if host["live"] and datetime.fromisoformat(host["last_heartbeat"]) >= started]
    if not fresh:
        raise NotReady("no host has attested and sent a heartbeat since the worker started")
    if not waits_for_messages(wiring.redis, WORKER_USER):
        raise NotReady("the worker does not wait for messages yet")


def _require_flower(wiring: Wiring) -> None:
    _get(f"{wiring.flower.url}/", auth=(wiring.flower.user, wiring.flower.password))
