"""Run a stage in a child that holds no credentials, no network and one writable folder.

    with Sandbox(folder=…, accept={Level.FULL}, code_root=…) as sandbox:
        ending = sandbox.run(Call(environment, "package.module:function", work, readable, limits))

Chain of processes: worker -> zygote (imports only) -> supervisor (limits, verdict) -> init (new root) -> child
(untrusted).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.sandbox.values import Call, Ending, Level, Limits

if TYPE_CHECKING:
    from workers.sandbox.sandbox import Sandbox

__all__ = ["Call", "Ending", "Level", "Limits", "Sandbox"]


def __getattr__(name: str) -> Any:
    """Load the worker's side on first use: zygotes and children need only the values."""
    if name == "Sandbox":
        from workers.sandbox.sandbox import Sandbox

        return Sandbox
    raise AttributeError(f"module 'workers.sandbox' has no attribute {name!r}")
