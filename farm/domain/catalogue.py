"""What the planner knows of the world: stages, runtimes, targets and the hosts alive now."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from farm.domain.facts import Format
from farm.domain.stage import ON_TARGET, Kind, StageSpec

OWN_QUEUE = "host."
"""What a queue of one host begins with, for jobs that are pinned to it and for its self-tests."""


@dataclass(frozen=True, slots=True)
class Target:
    """A profile as the planner needs it.

    Attributes:
        architectures: machine names as uname prints them.
        runtimes: runtime -> environment.
        fields: the whole profile, as JSON values.
        threads: the thread count to measure with.
    """

    name: str
    architectures: tuple[str, ...]
    runtimes: Mapping[str, str]
    fields: Mapping[str, Any]
    threads: int = 1

    def read(self, path: str) -> Any:
        """Look a dotted field up; None when the profile does not say."""
        value: Any = self.fields
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value


@dataclass(frozen=True, slots=True)
class LiveHost:
    """A host whose heartbeat is young: what it serves and which locks its environments were made from."""

    name: str
    profile: str
    architecture: str
    can_measure: bool
    serves: tuple[str, ...]
    environments: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Stages by name, formats a runtime accepts, and per environment the pins and the digest of its lock."""

    specs: Mapping[str, StageSpec]
    accepts: Mapping[str, tuple[Format, ...]]
    pins: Mapping[str, Mapping[str, str]]
    locks: Mapping[str, str]

    def of_kind(self, kind: Kind, *, runtime: str | None = None, source: Format | None = None) -> StageSpec | None:
        """Find the one stage of a kind for a runtime or a source format."""
        for spec in self.specs.values():
            if (
                spec.kind is kind
                and (runtime is None or spec.runtime == runtime)
                and (source is None or spec.source == source)
            ):
                return spec
        return None

    def openers(self, fmt: Format) -> list[str]:
        """Name the deployable runtimes that open a format, those first for which it is the usual one."""
        able = [name for name, formats in self.accepts.items() if fmt in formats]
        return sorted(able, key=lambda name: (self.accepts[name].index(fmt), name))

    def queue_for(
        self, spec: StageSpec, target: Target | None, hosts: Collection[LiveHost], pinned: str | None = None
    ) -> str | None:
        """Name the queue of a live host that has the stage's environment at this version; None when nobody has.

        What compares, scores or measures runs on the target's host, or on the one it is pinned to; without a target, on
        a build host.
        """
        able = [h for h in hosts if h.environments.get(spec.environment) == self.locks.get(spec.environment, "")]
        if spec.kind in ON_TARGET and target is not None:
            queue = f"{OWN_QUEUE}{pinned}" if pinned else f"target.{target.name}"
            return queue if any(queue in host.serves for host in able) else None
        queues = sorted(
            {q for host in able for q in host.serves if q.startswith("build.")}, key=lambda q: (q != "build.x86_64", q)
        )
        return queues[0] if queues else None


def near_misses(name: str, known: Collection[str]) -> str:
    """Finish a sentence about an unknown name: the closest known ones, or all of them."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(sorted(known)) or 'none'}."
