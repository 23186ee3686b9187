"""Calls of toolchains: their failures with evidence, and commands that repeat them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from farm.domain.errors import ConversionFailed, FarmBug, HostError
from farm.domain.facts import TensorSpec
from workers.stages.foreign import translate
from workers.stages.wording import plain

FOREIGN: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What toolchains raise for a model they cannot convert; OSError and MemoryError tell of the host instead."""


@contextmanager
def tool_call(tool: str, *extra: type[BaseException]) -> Iterator[None]:
    """Turn what a toolchain raises into a typed failure with tool, version, operator and log tail.

    What the knowledge base knows keeps its class, remedy and operator, and another route is tried whoever must act:
    tool and version in the evidence say that a tool complained. Anything else is ConversionFailed, and so is what a
    tool says of a host: it only reads the model.

    Args:
        tool: the package's name.
        extra: the toolchain's exceptions that derive from Exception or BaseException directly.
    """
    try:
        yield
    except (*FOREIGN, *extra) as exc:
        text, known = plain(f"{type(exc).__name__}: {exc}", limit=4000), translate(exc, during=tool)
        kind = ConversionFailed if isinstance(known, (FarmBug, HostError)) else type(known)
        said = {name: value for name, value in known.evidence.items() if name != "traceback"}
        evidence = {**said, "tool": tool, "version": tool_version(tool), "log_tail": text}
        message = f"{tool} {evidence['version']} did not convert the model: {text[:500]}"
        raise kind(message, remedy=known.remedy, **evidence) from exc


def tool_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def python_command(*lines: str) -> str:
    """Return a shell command that runs these lines of Python."""
    return shlex.join(["python", "-c", "\n".join(lines)])


def python_specs(specs: tuple[TensorSpec, ...]) -> str:
    """Write specs as Python that makes them again."""
    made = ", ".join(f"TensorSpec({spec.name!r}, {spec.dtype!r}, {spec.shape!r})" for spec in specs)
    return f"({made},)"
