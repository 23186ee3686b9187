"""Memory that a library freed and the C library kept: it counts in a step's limit until it is given back."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Return freed memory to the kernel, where the C library can (glibc: malloc_trim(3))."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
