"""Read board names, devices on the buses, temperatures and throttle flags.

Source: Linux, Documentation/ABI/testing (sysfs-class-thermal, sysfs-bus-usb, sysfs-bus-pci, sysfs-class-hwmon);
Raspberry Pi documentation, vcgencmd get_throttled (the bits); Coral documentation (USB and PCI ids of the Edge TPU).
"""

from __future__ import annotations

from pathlib import Path

from workers.host.cpu import throttle_counts
from workers.host.facts import Accelerator, Board, Devices, Sensor, Throttle
from workers.host.readings import matches, number, text

DEVICE_TREE = ("proc/device-tree", "sys/firmware/devicetree/base")
DMI_FILES = ("sys_vendor", "product_name", "product_version", "board_vendor", "board_name", "bios_vendor")
KNOWN_ACCELERATORS = {
    ("usb", "1a6e:089a"): "edgetpu",
    ("usb", "18d1:9302"): "edgetpu",
    ("pci", "1ac1:089a"): "edgetpu",
    ("pci", "1e60:2864"): "hailo-8",
}
NODE_PATTERNS = ("dev/apex_*", "dev/galcore", "dev/rknpu*", "dev/hailo*", "dev/accel/accel*", "dev/nvhost-gpu")
OTHER_SENSORS = (
    "nvme",
    "drivetemp",
    "iwlwifi",
    "acpitz",
    "bat",
    "phy",
    "pch",
    "gpu",
    "ddr",
    "pmic",
    "eth",
    "edgetpu",
    "apex",
)

PI_THROTTLED = ("sys/devices/platform/*/*firmware*/get_throttled", "sys/devices/platform/*firmware*/get_throttled")
PI_FLAGS = {0: "under-voltage", 1: "frequency-capped", 2: "throttled", 3: "soft-temperature-limit"}
PI_OCCURRED_SHIFT = 16


def read_board(root: Path) -> Board:
    model = next((model for folder in DEVICE_TREE if (model := text(root, f"{folder}/model"))), None)
    compatible = next((names for folder in DEVICE_TREE if (names := text(root, f"{folder}/compatible"))), "")
    dmi = [text(root, f"sys/class/dmi/id/{name}") for name in DMI_FILES]
    return Board(model, tuple(filter(None, compatible.split("\0"))), tuple(dict.fromkeys(name for name in dmi if name)))


def read_devices(root: Path) -> Devices:
    usb = _ids(root, "sys/bus/usb/devices/*", "idVendor", "idProduct")
    pci = _ids(root, "sys/bus/pci/devices/*", "vendor", "device")
    known = [
        Accelerator(name, bus, id_)
        for bus, ids in (("usb", usb), ("pci", pci))
        for id_ in ids
        if (name := KNOWN_ACCELERATORS.get((bus, id_)))
    ]
    nodes = tuple(name.removeprefix("dev/") for pattern in NODE_PATTERNS for name in matches(root, pattern))
    return Devices(usb, pci, nodes, tuple(known))


def read_sensors(root: Path) -> tuple[Sensor, ...]:
    """Read thermal zones, and hardware monitors that no zone stands for."""
    zones = [
        _sensor(text(root, f"{zone}/type"), number(root, f"{zone}/temp"))
        for zone in matches(root, "sys/class/thermal/thermal_zone*")
    ]
    monitors = [
        _sensor(text(root, f"{name.rpartition('/')[0]}/name"), number(root, name))
        for name in matches(root, "sys/class/hwmon/hwmon*/temp*_input")
    ]
    named = {zone.name.replace("-", "_") for zone in zones if zone}
    return tuple(
        sensor for sensor in [*zones, *(m for m in monitors if m and m.name.replace("-", "_") not in named)] if sensor
    )


def read_throttles(root: Path) -> tuple[Throttle, ...]:
    return (*_pi_throttles(root), *_cooling(root), *_counters(root))


def _ids(root: Path, pattern: str, vendor_file: str, device_file: str) -> tuple[str, ...]:
    pairs = [
        (text(root, f"{name}/{vendor_file}"), text(root, f"{name}/{device_file}")) for name in matches(root, pattern)
    ]
    return tuple(f"{_hex(vendor)}:{_hex(device)}" for vendor, device in pairs if vendor and device)


def _hex(value: str) -> str:
    return value.removeprefix("0x").lower()


def _sensor(name: str | None, millidegrees: int | None) -> Sensor | None:
    if name is None or millidegrees is None:
        return None
    return Sensor(name, millidegrees / 1000, not name.lower().startswith(OTHER_SENSORS))


def _pi_throttles(root: Path) -> tuple[Throttle, ...]:
    found = [bits for p in PI_THROTTLED for name in matches(root, p) if (bits := number(root, name, 16)) is not None]
    return tuple(Throttle("raspberry-pi-firmware", _flags(bits), _flags(bits >> PI_OCCURRED_SHIFT)) for bits in found)


def _flags(bits: int) -> tuple[str, ...]:
    return tuple(flag for bit, flag in PI_FLAGS.items() if bits >> bit & 1)


def _cooling(root: Path) -> tuple[Throttle, ...]:
    """Read cooling devices that lower a CPU's clock; any state above 0 is throttling."""
    found = []
    for name in matches(root, "sys/class/thermal/cooling_device*"):
        kind, state = text(root, f"{name}/type") or "", number(root, f"{name}/cur_state")
        if "cpufreq" in kind and state is not None:
            found.append(Throttle(kind, ("frequency-capped",) if state else ()))
    return tuple(found)


def _counters(root: Path) -> tuple[Throttle, ...]:
    counts = throttle_counts(root)
    return (Throttle("thermal-throttle-counters", count=sum(counts.values())),) if counts else ()
