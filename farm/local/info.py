"""How to reach a running stack: DIR/stack.json."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from farm.domain.codec import decode, encode
from farm.local.folder import Folder, read_json, write_private


@dataclass(frozen=True, slots=True)
class FlowerAccess:
    url: str
    user: str
    password: str


@dataclass(frozen=True, slots=True)
class S3Access:
    endpoint: str
    bucket: str
    access_key: str
    secret_key: str


@dataclass(frozen=True, slots=True)
class StackInfo:
    """Where a stack answers, and its secrets. `database` and `redis` are URLs with passwords."""

    api: str
    web: str
    token: str
    flower: FlowerAccess
    s3: S3Access
    redis: str
    redis_worker: str
    database: str
    host_token: str
    pids: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(encode(self), indent=1)


def write_info(folder: Folder, info: StackInfo) -> None:
    write_private(folder.stack_file, info.to_json() + "\n")


def read_info(folder: Folder) -> StackInfo | None:
    found = read_json(folder.stack_file)
    return None if found is None else decode(StackInfo, found)
