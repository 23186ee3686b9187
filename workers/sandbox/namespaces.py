"""Namespaces and the new root: the child sees nothing but what it was given."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
from pathlib import Path

from workers.sandbox import kernel, paths
from workers.sandbox.job import Job
from workers.sandbox.plain import open_plain

_ROOT = paths.TEMPORARY
_ROOT_OPTIONS = "size=8m,mode=755"
_PRIVATE = {
    paths.SHARED_MEMORY: "size=256m,nr_inodes=4096,mode=1777",
    paths.TEMPORARY: "size=64m,nr_inodes=4096,mode=1777",
}
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1


def leave_host(*, as_root: bool) -> None:
    """Give the next child its own pid, network, IPC and name; an ordinary user maps itself first.

    Raises:
        OSError: the kernel or the container forbids it.
    """
    kinds = kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS | kernel.CLONE_NEWPID
    if as_root:
        kernel.unshare(kinds)
        return
    user, group = os.geteuid(), os.getegid()
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
    kernel.unshare(kinds | kernel.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)


def enter_new_root(job: Job) -> None:
    """Move into a fresh tmpfs root that holds read-only binds, devices, /proc and the writable work folder.

    Raises:
        OSError: a path does not exist, or a mount is refused.
    """
    os.umask(0o022)
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWCGROUP)
    _loopback_up()
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    sources = _open_sources(job)
    cpuinfo = None if job.foreign is None else os.open(job.foreign.cpuinfo, os.O_PATH | os.O_CLOEXEC)
    kernel.mount("tmpfs", _ROOT, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, _ROOT_OPTIONS)
    for path, options in _PRIVATE.items():
        Path(_ROOT + path).mkdir(parents=True, exist_ok=True)
        kernel.mount("tmpfs", _ROOT + path, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC, options)
    for path, opened in sources.items():
        writable = path == job.work or path in (*paths.DEVICES, *job.devices)
        _place(path, opened, link=job.locate(path), writable=writable)
    Path(_ROOT, "proc").mkdir(exist_ok=True)
    kernel.mount("proc", _ROOT + "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    if cpuinfo is not None:
        _bind(cpuinfo, _ROOT + "/proc/cpuinfo", writable=False)
    kernel.pivot_into(_ROOT)


def _open_sources(job: Job) -> dict[str, int]:
    """Open everything that will be visible before the new root hides it; the work folder comes last."""
    visible = (*paths.readable(job, job.locate), *paths.existing(paths.DEVICES), *job.devices, job.work)
    named = () if job.foreign is None else (*job.readable, job.work)
    return {path: _open_source(job.locate(path), plainly=path in named) for path in visible}


def _open_source(path: str, *, plainly: bool) -> int:
    """Open a source; what another process named, which may swap a link in, through no link."""
    return open_plain(path) if plainly else os.open(path, os.O_PATH | os.O_CLOEXEC)


def _place(path: str, opened: int, *, link: str, writable: bool) -> None:
    """Show a file or folder at `path`; a folder of the system that is a link (at `link`, here) becomes one."""
    target = Path(_ROOT + path)
    if path in paths.SYSTEM and Path(link).is_symlink():
        target.symlink_to(Path(link).readlink())
        os.close(opened)
        return
    _mount_point(target, folder=stat.S_ISDIR(os.fstat(opened).st_mode))
    _bind(opened, str(target), writable=writable)


def _bind(opened: int, target: str, *, writable: bool) -> None:
    kernel.mount(f"/proc/self/fd/{opened}", target, None, kernel.MS_BIND | kernel.MS_REC)
    if not writable:
        kernel.make_read_only(target)
    os.close(opened)


def _mount_point(target: Path, *, folder: bool) -> None:
    if target.exists():
        return
    if folder:
        target.mkdir(parents=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
