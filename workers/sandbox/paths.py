"""Which paths a child sees: its interpreter, our code, the system's libraries, what the call names."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from workers.sandbox.job import Job

TEMPORARY = str(Path("/", "tmp"))
SHARED_MEMORY = str(Path("/", "dev", "shm"))
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
SYSTEM = (
    "/usr",
    "/bin",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/ssl/openssl.cnf",
    "/etc/alternatives",
    "/sys/devices/system/cpu",
)
OF_ACCELERATORS = ("/sys/devices", "/sys/bus/usb", "/sys/class/apex")
"""How drivers in user space find their device; shown to a child that has one, and to no other."""
OWN_PROC = ("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm/overcommit_memory")


def interpreter(job: Job) -> tuple[str, ...]:
    """Return the folders of the interpreter: its environment and the installation below it, links resolved too."""
    if job.foreign is not None:
        return (job.foreign.environment,)
    folders = (sys.prefix, sys.base_prefix, sys.base_exec_prefix)
    home = str(Path(sys.executable).resolve().parent.parent)
    return tuple(dict.fromkeys((*folders, *(os.path.realpath(folder) for folder in folders), home)))


def existing(candidates: Iterable[str], locate: Callable[[str], str] = str) -> tuple[str, ...]:
    """Leave out what this machine, or the root that `locate` leads into, does not have."""
    return tuple(path for path in candidates if Path(locate(path)).exists())


def readable(job: Job, locate: Callable[[str], str] = str) -> tuple[str, ...]:
    """Return every path the child may read, parents before children; what the job names has to exist."""
    system = existing((*SYSTEM, *(OF_ACCELERATORS if job.devices else ())), locate)
    wanted = dict.fromkeys((*system, *interpreter(job), job.import_root, *job.code, *job.readable))
    return tuple(sorted(wanted, key=lambda path: path.count("/")))
