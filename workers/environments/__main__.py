"""Install environments: `python -m workers.environments install [NAME…]`, or show them: `… list`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

from workers import environments
from workers.environments import MARKER, installed_digest, lock_digest, lock_path, names


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m workers.environments", description=__doc__)
    parser.add_argument("--into", type=Path, default=Path(os.environ.get("FARM_ENVIRONMENTS_DIR", ".envs")))
    commands = parser.add_subparsers(required=True)
    listing = commands.add_parser("list", help="say which environments are installed here, and from which lock")
    listing.set_defaults(act=lambda given: show(given.into))
    installing = commands.add_parser("install", help="install environments that are missing or of another lock")
    installing.add_argument("name", nargs="*", choices=[*names(), []], help="all of them when omitted")
    installing.set_defaults(act=lambda given: [install(given.into, name) for name in given.name or names()])
    given = parser.parse_args()
    given.act(given)
    return 0


def show(into: Path) -> None:
    for name in names():
        found = installed_digest(into, name)
        state = "missing" if found is None else "ready" if found == lock_digest(name) else "of another lock"
        print(f"{name:14} {state:16} {len(environments.pins(name)):4} packages  {into / name}")


def install(into: Path, name: str) -> None:
    """Make one environment exactly what its lock says; one that is already so is left alone."""
    folder = into / name
    if installed_digest(into, name) == lock_digest(name):
        print(f"{name}: ready")
        return
    started = time.monotonic()
    (folder / MARKER).unlink(missing_ok=True)
    venv.create(folder, with_pip=False, clear=folder.exists(), symlinks=True)
    subprocess.run(_command(folder, name), check=True, env=_environment())
    (folder / MARKER).write_text(lock_digest(name) + "\n")
    print(f"{name}: installed {len(environments.pins(name))} packages in {time.monotonic() - started:.0f} s")


def _command(folder: Path, name: str) -> list[str]:
    """Install by uv, without dependency resolution: the lock is complete."""
    return [
        sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps",
        "--python", str(folder / "bin" / "python"), "-r", str(lock_path(name)),
    ]  # fmt: skip


def _environment() -> dict[str, str]:
    """Let uv look where pip is told to look for wheels (a CPU build of torch, say)."""
    given = dict(os.environ)
    if links := given.get("PIP_FIND_LINKS"):
        given.setdefault("UV_FIND_LINKS", links)
    return given


if __name__ == "__main__":
    sys.exit(main())
