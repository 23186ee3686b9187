"""Import what an environment declares, in a process of that environment: an installation proves nothing."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm.domain.errors import EnvironmentMissing
from workers import environments

PROBE = """
import importlib, importlib.metadata, json, sys, time
modules = {}
for module, packages in importlib.metadata.packages_distributions().items():
    for package in packages:
        modules.setdefault(package.lower().replace("_", "-").replace(".", "-"), []).append(module)
package = sys.argv[1]
owned = [m for m in modules.get(package, []) if m.isidentifier() and not m.startswith("_")]
named = [m for m in owned if m.lower().replace("_", "-") == package] or owned or [package.replace("-", "_")]
started = time.monotonic()
importlib.import_module(sorted(named)[0])
version = importlib.metadata.version(package)
print("\\n" + json.dumps({"module": sorted(named)[0], "version": version, "seconds": time.monotonic() - started}))
"""
QUIET = {
    "ORT_DISABLE_TELEMETRY": "1",
    "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CI": "true",
}


@dataclass(frozen=True, slots=True)
class Verified:
    """One declared package: what was imported, or why it could not be."""

    environment: str
    package: str
    version: str | None
    seconds: float | None
    problem: str | None = None


def verify(into: Path, name: str) -> list[Verified]:
    """Import every package that NAME.in asks for.

    Raises:
        EnvironmentMissing: the environment is not, or not completely, installed from its lock.
    """
    if environments.installed_digest(into, name) != environments.lock_digest(name):
        raise EnvironmentMissing(
            f"Environment {name} is not installed in {into} from this farm's lock.",
            remedy=f"Run `python -m workers.environments install {name}`.",
        )
    return [_verify(into / name, name, package) for package in environments.declared(name)]


def _verify(folder: Path, name: str, package: str) -> Verified:
    ran = subprocess.run(
        [folder / "bin" / "python", "-I", "-c", PROBE, package],
        env={**os.environ, **QUIET},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode != 0:
        said = ran.stderr.strip().splitlines() or [f"exit {ran.returncode}"]
        return Verified(name, package, None, None, said[-1])
    found: dict[str, Any] = json.loads(ran.stdout.strip().splitlines()[-1])
    pinned = environments.pins(name)[package]
    problem = None if found["version"].partition("+")[0] == pinned else f"is {found['version']}, pinned is {pinned}"
    return Verified(name, package, found["version"], found["seconds"], problem)
