"""Run a submitter's Python file that builds a torch module: only ever inside the sandboxed child.

What the file does is the submitter's: whatever it raises, an exit, an endless loop and a flood of output all end as a
failure that names the file and the line. These guards tell clearly; what protects the host is the sandbox.
Tested with torch 2.13.0. Source: the convention is ours, see CONVENTION.
"""

from __future__ import annotations

import io
import linecache
import os
import posix
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from farm.domain.errors import BadRequest, FarmError

if TYPE_CHECKING:
    import torch

CONVENTION = (
    "The file needs a function build() or build_model() that returns the torch.nn.Module, or a module-level `model`, "
    "or one torch.nn.Module class that takes no arguments."
)
BUILD_LIMIT_S = 120.0
PRINTED_LIMIT = 64 << 10
"""Characters of the file's output that are kept in the log."""
_MODULE = "farm_builder_file"
_FUNCTIONS = ("build", "build_model")
_TOLD_LINES = 20


@dataclass(frozen=True, slots=True)
class Builder:
    """A builder file that was run: its names, and how its module is made."""

    file: str
    entry: str
    make: Callable[[], Any]
    names: Mapping[str, Any]


class _Left(BaseException):
    """The file asked to end the process."""


class _Late(BaseException):
    """The file used up its time."""


class UserCode:
    """Run the submitter's code in the body, and blame whatever it raises on it: the body raises no FarmError of ours.

    Args:
        path: the builder file, for the line that is named.
        doing: what was running, for example "build()".
        limit_s: seconds of wall time; 0 for no limit. Only code that returns to Python can be stopped.

    Raises:
        BadRequest: it raised, asked to exit, or ran over its time.
        MemoryError: it took more than the sandbox gives.
    """

    def __init__(self, path: Path, doing: str, *, limit_s: float = BUILD_LIMIT_S) -> None:
        self._path, self._doing, self._limit_s = path, doing, limit_s
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        printed = _Printed(sys.stdout)
        self._stack.enter_context(redirect_stdout(printed))
        self._stack.enter_context(redirect_stderr(printed))
        for module in (os, posix):
            for name in ("_exit", "abort"):
                self._stack.callback(setattr, module, name, getattr(module, name))
                setattr(module, name, _leave)
        if self._limit_s:
            before = signal.signal(signal.SIGALRM, _too_late)
            self._stack.callback(signal.signal, signal.SIGALRM, before)
            self._stack.callback(signal.setitimer, signal.ITIMER_REAL, 0)
            signal.setitimer(signal.ITIMER_REAL, self._limit_s, 0.2)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if error is None or isinstance(error, MemoryError):
            return
        raise self._failure(error) from error

    def _failure(self, error: BaseException) -> FarmError:
        file, tail = self._path.name, _told(error, self._path)
        where = _line(error, self._path)
        if isinstance(error, _Late):
            return BadRequest(
                f"{file}: {self._doing} did not end within {self._limit_s:g} s and was stopped{where}.",
                remedy=f"Make {file} build the module only: no training, no downloads, no endless loop.",
                log_tail=tail,
            )
        if isinstance(error, (_Left, SystemExit)):
            return BadRequest(
                f"{file}: {self._doing} asked to end the process{where}.",
                remedy=f"Remove sys.exit and os._exit from {file}; keep what is no model behind "
                "if __name__ == '__main__'.",
                log_tail=tail,
            )
        return BadRequest(
            f"{file}: {self._doing} raised {type(error).__name__}: {str(error)[:600]}{where}",
            remedy=f"Run python {file} where only torch is installed, without files or network, and repair it.",
            log_tail=tail,
        )


class _Printed(io.TextIOBase):
    """Pass on so much of what is printed, then say that the rest is left out."""

    def __init__(self, to: Any) -> None:
        self._to, self._left = to, PRINTED_LIMIT

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self._left > 0:
            self._to.write(text[: self._left])
            if len(text) >= self._left:
                self._to.write(f"\n[The file printed more than {PRINTED_LIMIT} characters; the rest is left out.]\n")
        self._left -= len(text)
        return len(text)

    def flush(self) -> None:
        self._to.flush()


def _leave(*_: object) -> NoReturn:
    raise _Left


def _too_late(signum: int, frame: FrameType | None) -> NoReturn:
    raise _Late


def _told(error: BaseException, path: Path) -> str:
    """Give the last lines of the traceback, with the file by its own name."""
    lines = "".join(traceback.format_exception(error)).replace(str(path), path.name).splitlines()
    return "\n".join(lines[-_TOLD_LINES:])


def _line(error: BaseException, path: Path) -> str:
    """Name the innermost line of the file that led there."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f" (line {error.lineno})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if not frames:
        return ""
    last = frames[-1]
    return f" (line {last.lineno}, in {last.name}: {linecache.getline(str(path), last.lineno or 0).strip()[:200]})"


def run_builder(path: Path, *, limit_s: float = BUILD_LIMIT_S) -> Builder:
    """Run the file and find how it makes its module.

    Raises:
        BadRequest: it raises, exits, does not end, or holds nothing that makes a module; names what was found.
    """
    module = ModuleType(_MODULE)
    module.__file__ = str(path)
    sys.modules[_MODULE] = module
    with UserCode(path, "its own lines", limit_s=limit_s):
        exec(compile(path.read_bytes(), str(path), "exec"), vars(module))  # noqa: S102
    return _entry(path, vars(module))


def build_module(path: Path, builder: Builder, *, limit_s: float = BUILD_LIMIT_S) -> torch.nn.Module:
    """Make the module.

    Raises:
        BadRequest: the file raises, exits, does not end, or returns something else.
    """
    import torch

    with UserCode(path, builder.entry, limit_s=limit_s):
        made = builder.make()
    if not isinstance(made, torch.nn.Module):
        raise BadRequest(
            f"{builder.file}: {builder.entry} gave a {type(made).__name__}, not a torch.nn.Module.", remedy=CONVENTION
        )
    return made


def _entry(path: Path, names: Mapping[str, Any]) -> Builder:
    import torch

    for name in _FUNCTIONS:
        if callable(names.get(name)):
            return Builder(path.name, f"{name}()", names[name], names)
    if isinstance(names.get("model"), torch.nn.Module):
        return Builder(path.name, "model", lambda: names["model"], names)
    own = [one for one in names.values() if isinstance(one, type) and one.__module__ == _MODULE]
    plain = [kind for kind in own if issubclass(kind, torch.nn.Module) and _takes_nothing(kind)]
    if len(plain) == 1:
        return Builder(path.name, f"{plain[0].__name__}()", plain[0], names)
    raise BadRequest(f"{path.name} does not say what to build; it has {_found(names, own)}.", remedy=CONVENTION)


def _takes_nothing(kind: type) -> bool:
    import inspect

    try:
        parameters = list(inspect.signature(kind).parameters.values())
    except (TypeError, ValueError):
        return False
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return all(one.default is not one.empty or one.kind in optional for one in parameters)


def _found(names: Mapping[str, Any], own: list[type]) -> str:
    functions = [
        f"{name}()" for name, one in names.items() if callable(one) and getattr(one, "__module__", "") == _MODULE
    ]
    classes = {kind.__name__ for kind in own}
    functions = [name for name in functions if name.removesuffix("()") not in classes]
    listed = [f"class {name}" for name in sorted(classes)] + functions
    return ", ".join(listed[:12]) or "neither functions nor classes of its own"
