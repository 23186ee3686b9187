"""Run compiled models on an Edge TPU: LiteRT's interpreter with libedgetpu as its delegate.

Tested with ai-edge-litert 2.3.0 and stand-ins for libedgetpu's answers; not yet run on a device. Source: Coral
documentation, "Run inference on the Edge TPU with Python"; google-coral/libedgetpu.
A folder holds the segments of a model that was compiled for several devices or for less memory: each gets the tensors
that the one before it gives, by name. A model that was not compiled runs on the host's processor all the same, which
the pinned reference model makes use of.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm import knowledge
from farm.domain.errors import ConfigurationError, EnvironmentMissing, HostError
from farm.domain.facts import Format, TensorSpec
from farm.domain.operators import OperatorProfile, OperatorTime
from workers.edgetpu.compiled import read_compiled
from workers.edgetpu.library import LIBRARY, Library, open_library
from workers.runtimes import Profiling, Runtime
from workers.runtimes.files import entry_file
from workers.runtimes.litert import SUFFIXES, LiteRtSession

if TYPE_CHECKING:
    from numpy.typing import NDArray


NO_TIMES = "The Edge TPU tells no times of operators: they are listed with what runs them."


class EdgeTpuSession:
    """One model on one device, which is asked for before the delegate is loaded."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        """Load every segment.

        Raises:
            HostError: no device is attached, or it can't be opened.
            EnvironmentMissing: there is no libedgetpu, or one for an older runtime than the model's or another LiteRT.
        """
        self._library: Library = open_library()
        self._library.need_device()
        files = segments(path)
        oldest = max(read_compiled(file.read_bytes()).min_runtime_version for file in files)
        self.doubt = self._library.need_runtime(oldest)
        self._parts = [_part(file, threads=threads) for file in files]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._parts[0].inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._parts[-1].outputs

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Infer once.

        Raises:
            HostError: the device is gone.
        """
        given = dict(feeds)
        for part in self._parts:
            try:
                given |= part.run({spec.name: given[spec.name] for spec in part.inputs})
            except RuntimeError as exc:
                if self._library.devices():
                    raise
                raise HostError(f"The Edge TPU was unplugged, or reset, while it ran: {exc}") from exc
        return {spec.name: given[spec.name] for spec in self.outputs}

    def operators(self) -> tuple[OperatorTime, ...]:
        """List the operators of all segments; what the compiler mapped is one node of the Edge TPU's."""
        return tuple(one for part in self._parts for one in part.operators())


def _part(file: Path, *, threads: int) -> LiteRtSession:
    """Load one segment; whose failure it is, its message tells: LiteRT raises the same types for every reason."""
    try:
        return LiteRtSession(file, threads=threads, delegate=LIBRARY)
    except (ValueError, RuntimeError) as exc:
        known = knowledge.diagnose(str(exc), "edgetpu")
        if known is None or known.error not in (HostError.code, ConfigurationError.code):
            raise
        raised = HostError if known.error == HostError.code else EnvironmentMissing
        raise raised(f"{LIBRARY} can't be used: {exc} ({known.cause})", remedy=known.remedy) from exc


def profile(path: Path, asked: Profiling) -> OperatorProfile:
    """List what the Edge TPU runs and what is left on the CPU; nothing in the wheel times them."""
    session = EdgeTpuSession(path, threads=asked.threads)
    return OperatorProfile(session.operators(), " ".join(filter(None, (NO_TIMES, session.doubt))))


def segments(path: Path) -> list[Path]:
    """Return the files of a model in the order in which they run."""
    if not path.is_dir():
        return [entry_file(path, SUFFIXES)]
    return sorted(path.glob("*.tflite"), key=lambda part: [int(n) for n in re.findall(r"\d+", part.stem)[-2:]])


RUNTIME = Runtime(
    name="edgetpu",
    accepts=(Format.EDGETPU_TFLITE,),
    environment="litert",
    tools=("ai-edge-litert",),
    preload=("numpy", "ai_edge_litert.interpreter"),
    deployable=True,
    load=EdgeTpuSession,
    profile=profile,
    device="edgetpu",
)
