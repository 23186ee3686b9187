"""Install the locked environments that stages run in, say which are here, prove that they import.

Exit codes: 0 ok, 1 a package does not import, 2 usage, 3 something is missing on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from farm.domain.codec import encode
from farm.domain.errors import FarmError
from workers import environments
from workers.environments import installed_digest, lock_digest, names
from workers.environments.installation import Installed, install_all, install_own
from workers.environments.locking import compile_lock
from workers.environments.root import ARCHITECTURES, make_root
from workers.environments.verification import Verified, verify


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    act: Callable[[argparse.Namespace], int] = given.act
    try:
        return act(given)
    except FarmError as error:
        print(f"{error.message}\n{error.remedy or ''}".strip(), file=sys.stderr)
        return 3


def _list(given: argparse.Namespace) -> int:
    rows = [_row(given.into, name) for name in names()]
    lines = [f"{r['name']:14} {r['state']:16} {r['packages']:4} packages  {r['path']}" for r in rows]
    return _print(given, rows, lines)


def _install(given: argparse.Namespace) -> int:
    for name in given.name:
        if installed_digest(given.into, name) != lock_digest(name):
            print(f"{name}: installing {len(environments.pins(name))} packages …", file=sys.stderr, flush=True)
    done = install_all(given.into, given.name)
    return _print(given, done, [_installed(one) for one in done])


def _own(given: argparse.Namespace) -> int:
    done = install_own(given.lock)
    return _print(given, done, [_installed(done)])


def _root(given: argparse.Namespace) -> int:
    done = make_root(given.folder.absolute(), given.architecture)
    return _print(given, done, [f"{done.path}: {f'made in {done.seconds:.0f} s' if done.seconds else 'ready'}"])


def _verify(given: argparse.Namespace) -> int:
    found = [one for name in given.name for one in verify(given.into, name)]
    _print(given, found, [_verified(one) for one in found])
    return 1 if any(one.problem for one in found) else 0


def _lock(given: argparse.Namespace) -> int:
    changed = {name: compile_lock(name) for name in given.name}
    return _print(given, changed, [f"{name}: {'changed' if new else 'as it was'}" for name, new in changed.items()])


def _row(into: Path, name: str) -> dict[str, Any]:
    found = installed_digest(into, name)
    state = "missing" if found is None else "ready" if found == lock_digest(name) else "of another lock"
    packages = len(environments.pins(name))
    return {"name": name, "state": state, "packages": packages, "path": str(into / name), "lock": lock_digest(name)}


def _installed(one: Installed) -> str:
    done = f"installed {one.packages} packages in {one.seconds:.0f} s" if one.seconds else "ready"
    return f"{one.name}: {done}"


def _verified(one: Verified) -> str:
    seconds = "" if one.seconds is None else f"imports in {one.seconds:.1f} s"
    return f"{one.environment:12} {one.package:24} {one.version or '-':12} {one.problem or seconds}"


def _print(given: argparse.Namespace, value: Any, lines: Sequence[str]) -> int:
    print(json.dumps(encode(value), indent=2) if given.json else "\n".join(lines), flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workers.environments", description=__doc__)
    into = Path(os.environ.get("FARM_ENVIRONMENTS_DIR", ".envs"))
    parser.add_argument("--into", type=Path, default=into, help="folder of the environments (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for act, name, told in (
        (_list, "list", "say which environments are installed here, and from which lock"),
        (_install, "install", "install environments that are missing or of another lock"),
        (_verify, "verify", "import what installed environments declare"),
        (_lock, "lock", "make locks anew from the .in files"),
        (_root, "root", "make a Debian root of another architecture, with a worker's environments in it"),
        (_own, "own", "install the farm itself, editable, beside this interpreter"),
    ):
        command = commands.add_parser(name, help=told, description=told)
        command.set_defaults(act=act)
        if act in (_install, _verify, _lock):
            usual = [*names(), *environments.MAIN] if act is _lock else names()
            known = [*usual, *environments.BENCHES]
            told = f"{', '.join(known)}; when omitted, all but {', '.join(environments.BENCHES)}"
            command.add_argument("name", nargs="*", metavar="NAME", help=told, type=_one_of(known), default=usual)
        if act is _root:
            command.add_argument("folder", type=Path, metavar="DIR")
            command.add_argument(
                "--architecture", choices=ARCHITECTURES, default="aarch64", help="(default: %(default)s)"
            )
        if act is _own:
            command.add_argument("--lock", choices=environments.MAIN, default="dev", help="(default: %(default)s)")
        command.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
    return parser


def _one_of(known: Sequence[str]) -> Callable[[str], str]:
    def environment(name: str) -> str:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return name

    return environment


if __name__ == "__main__":
    sys.exit(main())
