"""Calls of toolchains: their failures with evidence, and commands that repeat them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from farm.domain.errors import ConversionFailed
from farm.domain.facts import TensorSpec

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
    """Turn what a toolchain raises into ConversionFailed with tool, version and log tail.

    Args:
        tool: the package's name.
        extra: the toolchain's exceptions that derive from Exception or BaseException directly.
    """
    try:
        yield
    except (*FOREIGN, *extra) as exc:
        text = f"{type(exc).__name__}: {exc}"
        raise ConversionFailed(
            f"{tool} {tool_version(tool)} did not convert the model: {text[:500]}",
            tool=tool,
            version=tool_version(tool),
            log_tail=text[-4000:],
        ) from exc


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
