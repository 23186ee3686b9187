"""The command that runs a worker's image on a host that was enrolled."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from hardware_profiles.loader import load_profiles

if TYPE_CHECKING:
    from farm.wire.hosts import Enrolment
    from hardware_profiles.schema import Profile

IMAGES = {
    "x86_64": "farm-worker-x86",
    "aarch64": "farm-worker-arm64",
    "armv7l": "farm-worker-armhf",
    "armv8l": "farm-worker-armhf",
}
EDGE_TPU, EDGE_TPU_IMAGE = "edgetpu", "farm-worker-edgetpu"
"""The runtime of an Edge TPU, and the image for it, which is built on either architecture under one name."""
LIBRARY = "libedgetpu.so.1"
RESTARTS = 5
"""A worker that was turned away, or whose machine is not its profile, ends so each time; it is not started for ever."""
USB_MAJOR = 189
"""Of the nodes below /dev/bus/usb (Linux, admin-guide/devices.txt)."""


def container_commands(enrolment: Enrolment, url: str) -> dict[str, str]:
    """Write the command for each image that the host may need, by what tells them apart: the image's name.

    The token goes by the shell's environment, since a command's arguments are anybody's to read. /run/lock is the
    machine's own, so that one measurement runs at a time whatever the number of containers.
    """
    profile = load_profiles().get(enrolment.profile)
    return {image: _command(enrolment, url, image, profile) for image in _images(profile)}


def _images(profile: Profile | None) -> list[str]:
    if profile is not None and EDGE_TPU in profile.runtimes:
        return [EDGE_TPU_IMAGE]
    architectures = profile.architecture if profile else ("x86_64", "aarch64")
    return list(dict.fromkeys(IMAGES[architecture] for architecture in architectures))


def _command(enrolment: Enrolment, url: str, image: str, profile: Profile | None) -> str:
    name = f"farm-worker-{enrolment.name}"
    given = {"FARM_URL": url, "FARM_HOST_NAME": enrolment.name}
    words = [
        f"docker run -d --restart=on-failure:{RESTARTS} --name {shlex.quote(name)} --network=host -e FARM_TOKEN",
        *(f"-e {key}={shlex.quote(value)}" for key, value in given.items()),
        f"-v {shlex.quote(name)}:/var/lib/farm -v /run/lock:/run/lock",
        *(_of_edge_tpu(profile) if profile and image == EDGE_TPU_IMAGE else ()),
        f"{image} farm worker --profile {enrolment.profile}",
    ]
    return f"export FARM_TOKEN={shlex.quote(enrolment.token)}; {' '.join(words)}"


def _of_edge_tpu(profile: Profile) -> list[str]:
    """Give the container the device, its group and the operator's library.

    An accelerator on USB gets another node once its firmware is loaded: so the folder is shown, and the kind allowed.
    """
    library = f"-v /usr/lib/$(uname -m)-linux-gnu/{LIBRARY}:/usr/lib/{LIBRARY}:ro"
    if any(device.usb_ids for device in profile.accelerators):
        group = "$(getent group plugdev | cut -d: -f3)"
        return [f"-v /dev/bus/usb:/dev/bus/usb --device-cgroup-rule='c {USB_MAJOR}:* rwm' --group-add {group}", library]
    return ["--device /dev/apex_0 --group-add $(stat -c %g /dev/apex_0)", library]
