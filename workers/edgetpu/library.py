"""Ask libedgetpu, through ctypes, which devices it sees and which runtime it is: before a delegate hangs or crashes.

Source: google-coral/libedgetpu, tflite/public/edgetpu_c.h (Apache-2.0).
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from enum import IntEnum

from farm.domain.errors import EnvironmentMissing, HostError

LIBRARY = "libedgetpu.so.1"
_RUNTIME = re.compile(r"RuntimeVersion\((\d+)\)")


class Bus(IntEnum):
    """How a device is attached."""

    PCI = 0
    USB = 1


@dataclass(frozen=True, slots=True)
class Device:
    """One Edge TPU, by the path the library gives it."""

    bus: Bus
    path: str


class _Entry(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("path", ctypes.c_char_p))


@dataclass(frozen=True, slots=True)
class Library:
    """A loaded libedgetpu."""

    handle: ctypes.CDLL
    name: str

    @property
    def runtime_version(self) -> int | None:
        """Read the runtime's version; None where the library does not tell it."""
        self.handle.edgetpu_version.restype = ctypes.c_char_p
        told = self.handle.edgetpu_version() or b""
        found = _RUNTIME.search(told.decode(errors="replace"))
        return int(found[1]) if found else None

    def devices(self) -> tuple[Device, ...]:
        """List the devices that are attached now."""
        count = ctypes.c_size_t()
        self.handle.edgetpu_list_devices.restype = ctypes.POINTER(_Entry)
        entries = self.handle.edgetpu_list_devices(ctypes.byref(count))
        if not entries:
            return ()
        try:
            found = (entries[index] for index in range(count.value))
            return tuple(Device(Bus(entry.type), (entry.path or b"").decode(errors="replace")) for entry in found)
        finally:
            self.handle.edgetpu_free_devices.argtypes = (ctypes.POINTER(_Entry),)
            self.handle.edgetpu_free_devices(entries)

    def need_device(self) -> Device:
        """Return the first device.

        Raises:
            HostError: none is attached.
        """
        found = self.devices()
        if not found:
            raise HostError(
                f"{self.name} sees no Edge TPU on this host.",
                remedy="Plug it in, and let the worker's user use it (for USB: the plugdev group and its udev rule).",
            )
        return found[0]

    def need_runtime(self, version: int) -> str | None:
        """See that models compiled for a runtime version run here.

        Returns: what is not known of it, where the library does not tell its version; None where it does.

        Raises:
            EnvironmentMissing: the library is older.
        """
        here = self.runtime_version
        if here is None:
            return f"{self.name} does not tell its runtime version; the model asks for {version} or newer, unchecked."
        if here < version:
            raise EnvironmentMissing(
                f"The model is compiled for Edge TPU runtime {version}; {self.name} on this host is runtime {here}.",
                remedy=f"Install a newer libedgetpu1, or compile with min_runtime_version={here}.",
            )
        return None


def open_library(name: str = LIBRARY) -> Library:
    """Load the library.

    Raises:
        EnvironmentMissing: it is not installed, or not for this architecture.
    """
    try:
        return Library(ctypes.CDLL(name), name)
    except OSError as exc:
        raise EnvironmentMissing(
            f"This host can't load {name}, the Edge TPU's runtime: {exc}.",
            remedy="Install libedgetpu1-std from Coral's package repository.",
        ) from exc
