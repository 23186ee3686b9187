"""`python -m workers.launcher DIR --socket PATH --shared DIR`: a launcher alone, beside a worker in a container."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from farm.domain.errors import FarmError
from workers.launcher.launch import launcher, serving


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        with (
            launcher(given.root, given.cpu, given.shared) as running,
            serving(running, given.socket, uid=given.user),
        ):
            print(f"Steps of {running.root} run at level outside; listening at {given.socket}.", flush=True)
            stop.wait()
    except FarmError as error:
        print(f"{error.message}\n{error.remedy or ''}".strip(), file=sys.stderr)
        return 3
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workers.launcher", description=__doc__)
    parser.add_argument("root", type=Path, metavar="DIR", help="the unpacked image, or a root made for it")
    parser.add_argument("--socket", type=Path, required=True, help="where to listen; bind it into the container")
    parser.add_argument(
        "--shared",
        type=Path,
        action="append",
        required=True,
        help="a folder that the worker has at the same path: its work and its cache folder; may be repeated",
    )
    parser.add_argument("--cpu", help="processor to emulate (default: the root's)")
    parser.add_argument("--user", type=int, default=0, help="user id of the worker (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
