"""Leave a forked process at the end of a block, whatever happens in it: it must never return into its parent's code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Self

from workers.sandbox.values import OUT_OF_MEMORY_EXIT

SETUP_EXIT = 98


class EndOfProcess:
    """Exit with 0 after the block, or with what `on_error` makes of the exception that left it."""

    def __init__(self, on_error: Callable[[BaseException], int]) -> None:
        self._on_error = on_error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        code = SETUP_EXIT
        try:
            code = 0 if error is None else self._on_error(error)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def exit_code_of(error: BaseException) -> int:
    """Print what an entry raised and return the exit code for it."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    traceback.print_exception(error)
    return OUT_OF_MEMORY_EXIT if isinstance(error, MemoryError) else 1


def report_to(pipe: int) -> Callable[[BaseException], int]:
    """Return a handler that writes a setup error to the pipe the supervisor reads."""

    def report(error: BaseException) -> int:
        os.write(pipe, b"!" + f"{type(error).__name__}: {error}".encode()[:4000])
        return SETUP_EXIT

    return report
