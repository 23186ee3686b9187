"""What executes a model: one file per runtime, all alike to the stages that compare, evaluate and measure.

A runtime's file ends with `RUNTIME = Runtime(…)`; its toolchain is imported inside `load`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from farm.domain.facts import Format, TensorSpec
from farm.domain.operators import OperatorProfile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]


class Session(Protocol):
    """A loaded model.

    `inputs` and `outputs` are in the file's order and named as the runtime names them.
    """

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """Infer once: arrays by input name, of the described dtype and shape, to arrays by output name."""
        ...


class Load(Protocol):
    def __call__(self, path: Path, *, threads: int = 1) -> Session: ...


@dataclass(frozen=True, slots=True)
class Profiling:
    """How operators are to be timed: inputs, a folder for files of the profiler, threads, and calls to make."""

    feeds: Arrays
    work: Path
    threads: int
    calls: int


def plain_refusals() -> tuple[type[Exception], ...]:
    return RuntimeError, ValueError


@dataclass(frozen=True, slots=True)
class Runtime:
    """One way to execute models.

    Attributes:
        accepts: formats it loads.
        environment: where it is installed.
        tools: packages whose pins are part of a step's key.
        preload: modules a zygote imports before any fork.
        deployable: it runs on targets; others only give a source's float reference on a builder.
        load: open a file or folder, with so many threads; raises what its library raises.
        refusals: the exceptions by which its library refuses a file or an input.
        builds_in: the environment of a builder in which it executes sources.
        profile: time the operators of a file, in a session of its own; None where the library can't.
        device: the accelerator it runs on; what it accepts is then made for it, never submitted.
    """

    name: str
    accepts: tuple[Format, ...]
    environment: str
    tools: tuple[str, ...]
    preload: tuple[str, ...]
    deployable: bool
    load: Load
    refusals: Callable[[], tuple[type[Exception], ...]] = plain_refusals
    builds_in: str = "builder"
    profile: Callable[[Path, Profiling], OperatorProfile] | None = None
    device: str | None = None

    def describe(self, path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """Return the inputs and outputs as the runtime itself sees them, in the file's order."""
        session = self.load(path)
        return session.inputs, session.outputs


@cache
def load_runtimes() -> dict[str, Runtime]:
    """Find every runtime in this package, by name.

    Raises:
        TypeError: two runtimes share a name.
    """
    found: dict[str, Runtime] = {}
    for module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
        runtime = getattr(importlib.import_module(module.name), "RUNTIME", None)
        if runtime is None:
            continue
        if runtime.name in found:
            raise TypeError(f"runtime {runtime.name!r} is declared twice")
        found[runtime.name] = runtime
    return found


def deployable_runtimes() -> tuple[Runtime, ...]:
    return tuple(runtime for runtime in load_runtimes().values() if runtime.deployable)


def runtime_of(source: Format) -> Runtime:
    """Return the runtime that executes models of a source format.

    Raises:
        LookupError: none does.
    """
    for runtime in load_runtimes().values():
        if source in runtime.accepts and runtime.device is None:
            return runtime
    raise LookupError(f"no runtime executes {source}")
