"""The nodes by which a process reaches an accelerator of this machine.

Source: Linux, Documentation/ABI/stable/sysfs-bus-usb (busnum, devnum); Coral documentation (ids of the Edge TPU).
"""

from __future__ import annotations

from pathlib import Path

from farm.domain.errors import HostError
from workers.host.devices import KNOWN_ACCELERATORS
from workers.host.readings import matches, number, text

UNINITIALISED = ("1a6e:089a",)
"""A device under this id gets its firmware from whoever opens it first, and with it another id and another node."""
DRIVER_NODES = {"edgetpu": ("dev/apex_*",), "hailo-8": ("dev/hailo*",)}


def nodes_of(accelerator: str, root: Path = Path("/")) -> tuple[Path, ...]:
    """List what must be reachable to use an accelerator, and nothing else.

    A USB device that still waits for its firmware is given with its whole bus, since its node changes meanwhile.

    Raises:
        HostError: none is attached.
    """
    found = [root / name for pattern in DRIVER_NODES.get(accelerator, ()) for name in matches(root, pattern)]
    found += [node for name in matches(root, "sys/bus/usb/devices/*") if (node := _usb_node(root, name, accelerator))]
    if not found:
        raise HostError(
            f"No {accelerator} is attached to this host: there is no node of it in /dev.",
            remedy="Plug it in and load its driver (docs/edge-tpu.md), then restart the worker.",
        )
    return tuple(dict.fromkeys(found))


def _usb_node(root: Path, device: str, accelerator: str) -> Path | None:
    id_ = f"{text(root, f'{device}/idVendor')}:{text(root, f'{device}/idProduct')}"
    bus, place = number(root, f"{device}/busnum"), number(root, f"{device}/devnum")
    if KNOWN_ACCELERATORS.get(("usb", id_)) != accelerator or bus is None or place is None:
        return None
    folder = root / "dev" / "bus" / "usb" / f"{bus:03}"
    node = folder if id_ in UNINITIALISED else folder / f"{place:03}"
    return node if node.exists() else None
