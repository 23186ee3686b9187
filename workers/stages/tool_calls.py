"""Calls of toolchains: their failures with evidence, and commands that repeat them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from farm.domain.errors import ConversionFailed, FarmBug
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

_OPERATOR = re.compile(
    r"Lowering not found: ([\w.]+)"
    r"|operator '?(\w+::\w+)'? to ONNX"
    r"|(\w+) OP is not yet implemented"
    r"|operation_type='(\w+)'"
    r"|'(tf\.\w+)' op is neither"
    r"|Unsupported ONNX op(?:erator)?:? (\w+)"
)


@contextmanager
def tool_call(tool: str, *extra: type[BaseException]) -> Iterator[None]:
    """Turn what a toolchain raises into a typed failure with tool, version, operator and log tail.

    What workers.stages.foreign knows keeps its class and remedy; anything else is ConversionFailed.

    Args:
        tool: the package's name.
        extra: the toolchain's exceptions that derive from Exception or BaseException directly.
    """
    try:
        yield
    except (*FOREIGN, *extra) as exc:
        text, known = plain(f"{type(exc).__name__}: {exc}", limit=4000), translate(exc)
        kind = ConversionFailed if isinstance(known, FarmBug) else type(known)
        evidence = {"tool": tool, "version": tool_version(tool), "log_tail": text}
        if operator := operator_in(text):
            evidence["operator"] = operator
        message = f"{tool} {evidence['version']} did not convert the model: {text[:500]}"
        raise kind(message, remedy=known.remedy, **evidence) from exc


def operator_in(text: str) -> str | None:
    """Name the operator that a toolchain's message complains about, where it says so."""
    found = _OPERATOR.search(text)
    return next(filter(None, found.groups())) if found else None


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
