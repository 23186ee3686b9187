"""The edge model farm: models go in, verified files and honest numbers for each hardware target come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from farm.client import Client, Job

__version__ = "0.1.0"
__all__ = ["Client", "Job", "__version__"]


def __getattr__(name: str) -> Any:
    """Load the client on first use, so that `import farm` stays instant."""
    if name in ("Client", "Job"):
        from farm import client

        return getattr(client, name)
    raise AttributeError(f"module 'farm' has no attribute {name!r}")
