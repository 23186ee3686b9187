"""What a worker and its launcher say to each other: one connection and one JSON message each way for every run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workers.sandbox.values import Call, Ending, Limits

MESSAGE_BYTES = 128 << 10
CANCEL = b"cancel"
HELLO = "hello"
VARIABLE = "FARM_LAUNCHER"


@dataclass(frozen=True, slots=True)
class Wish:
    """A call as the worker asks for it; paths are as the worker sees them. Without an entry it is only a hello."""

    entry: str = HELLO
    environment: str = ""
    work: str = ""
    readable: tuple[str, ...] = ()
    limits: Limits | None = None
    spawns: bool = False
    cores: tuple[int, ...] | None = None
    devices: tuple[str, ...] = ()

    @staticmethod
    def of(call: Call) -> Wish:
        return Wish(
            entry=call.entry,
            environment=str(call.environment),
            work=str(call.work),
            readable=tuple(map(str, call.readable)),
            limits=call.limits,
            spawns=call.spawns,
            cores=call.cores,
            devices=tuple(map(str, call.devices)),
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """What the launcher answers.

    Attributes:
        version: the launcher's farm.
        environments: of the root that steps run in, by the digest of their locks.
        ending: of the run; None to a hello.
    """

    version: str
    environments: Mapping[str, str]
    ending: Ending | None = None
