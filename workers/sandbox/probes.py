"""Attempts a hostile model would make, run in the child.

Each returns when it succeeded and raises OSError when it was denied.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import importlib
import json
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.sandbox import kernel, syscalls

RESULTS = "probes.json"
TARGETS = "targets.json"

_PTRACE_SEIZE = 0x4206
_F_SETOWN = 8
_SI_QUEUE = -1
_IPC_CREATE = 0o1600


@dataclass(frozen=True, slots=True)
class Targets:
    """What the host side set up to be attacked.

    Attributes:
        pid, group: a process outside, and its process group.
        tcp_port, udp_port: listening on 127.0.0.1.
        abstract_name: a datagram socket without a path (its leading NUL left out).
        folder: a folder outside that holds `secret.txt` and the datagram socket `socket`.
        marker: a file name for attempts in shared folders.
    """

    pid: int
    group: int
    tcp_port: int
    udp_port: int
    abstract_name: str
    folder: str
    marker: str


_OF_32_BIT_ARM = {
    **{"execve": 11, "ptrace": 26, "rt_sigqueueinfo": 178, "tkill": 238, "shmget": 307, "shmctl": 308},
    **{"process_vm_readv": 376, "keyctl": 311, "bpf": 386, "io_uring_setup": 425},
}
"""What an emulated 32-bit child calls; the filter is around its emulator. Source: Linux, arch/arm/tools/syscall.tbl."""


def call(name: str, *arguments: Any) -> int:
    is_32_bit = kernel.MACHINE in ("armv7l", "armv8l")
    number = _OF_32_BIT_ARM[name] if is_32_bit else syscalls.numbers(syscalls.ALL, kernel.MACHINE)[name]
    return kernel.syscall(number, *arguments, what=name)


def connect_tcp(at: Targets) -> None:
    socket.create_connection(("127.0.0.1", at.tcp_port), timeout=2).close()


def send_udp(at: Targets) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        plain.connect(("127.0.0.1", at.udp_port))
        plain.send(b"probe")


def open_netlink(at: Targets) -> None:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()


def reach_abstract_socket(at: Targets) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as plain:
        plain.sendto(b"probe", "\0" + at.abstract_name)


def reach_path_socket(at: Targets) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as plain:
        plain.sendto(b"probe", f"{at.folder}/socket")


def reach_out_of_socket_pair(at: Targets) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right:
        left.sendto(b"probe", "\0" + at.abstract_name)


def read_passwd(at: Targets) -> None:
    Path("/etc/passwd").read_text()


def read_secret(at: Targets) -> None:
    Path(at.folder, "secret.txt").read_text()


def read_secret_by_symlink(at: Targets) -> None:
    link = Path("link.txt")
    link.symlink_to(f"{at.folder}/secret.txt")
    try:
        link.read_text()
    finally:
        link.unlink()


def hardlink_secret(at: Targets) -> None:
    os.link(f"{at.folder}/secret.txt", "hardlink.txt")


def list_home(at: Targets) -> None:
    next(Path(at.folder).iterdir())


def list_processes(at: Targets) -> None:
    others = {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()} - {1, os.getpid()}
    if not others:
        raise ProcessLookupError("no other processes")


def read_process(at: Targets) -> None:
    Path(f"/proc/{at.pid}/cmdline").read_bytes()


def read_init_environment(at: Targets) -> None:
    Path("/proc/1/environ").read_bytes()


def write_process_memory(at: Targets) -> None:
    os.close(os.open(f"/proc/{at.pid}/mem", os.O_RDWR))


def read_process_memory(at: Targets) -> None:
    buffer = ctypes.create_string_buffer(8)
    vector = struct.pack("QQ", ctypes.addressof(buffer), 8)
    call("process_vm_readv", at.pid, vector, 1, vector, 1, 0)


def signal_process(at: Targets) -> None:
    os.kill(at.pid, 0)


def signal_group(at: Targets) -> None:
    os.kill(-at.group, 0)


def queue_signal(at: Targets) -> None:
    call("rt_sigqueueinfo", at.pid, 0, struct.pack("iii116x", 0, 0, _SI_QUEUE))


def signal_by_owner(at: Targets) -> None:
    """Make a pipe send signals to another process."""
    heard, told = os.pipe()
    try:
        fcntl.fcntl(heard, _F_SETOWN, at.pid)
    finally:
        os.close(heard)
        os.close(told)


def signal_thread(at: Targets) -> None:
    call("tkill", at.pid, 0)


def trace_process(at: Targets) -> None:
    call("ptrace", _PTRACE_SEIZE, at.pid, 0, 0)


def run_program(at: Targets) -> None:
    """Exec a file that does not exist: where exec is allowed, that is what the kernel complains about."""
    try:
        call("execve", b"./nonexistent", None, None)
    except FileNotFoundError:
        return


def fork_process(at: Targets) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def new_user_namespace(at: Targets) -> None:
    kernel.unshare(kernel.CLONE_NEWUSER)


def mount_something(at: Targets) -> None:
    kernel.mount("tmpfs", str(Path.cwd()), "tmpfs", 0)


def write_outside(at: Targets) -> None:
    Path(at.folder, at.marker).write_text("probe")


def write_code(at: Targets) -> None:
    Path(__file__).with_name(at.marker).write_text("probe")


def write_environment(at: Targets) -> None:
    Path(sys.prefix, at.marker).write_text("probe")


def share_system_v_memory(at: Targets) -> None:
    segment = call("shmget", 0, 4096, _IPC_CREATE)
    call("shmctl", segment, 0, 0)


def open_io_uring(at: Targets) -> None:
    _reaches_kernel("io_uring_setup", 0, 0)


def load_bpf(at: Targets) -> None:
    _reaches_kernel("bpf", -1, 0, 0)


def open_keyring(at: Targets) -> None:
    _reaches_kernel("keyctl", 0, -3, 0, 0, 0)


def _reaches_kernel(name: str, *arguments: int) -> None:
    """Call with senseless arguments: any complaint but a refusal means the kernel looked at them."""
    try:
        call(name, *arguments)
    except OSError as exc:
        if exc.errno in (errno.EPERM, errno.EACCES, errno.ENOSYS):
            raise


def become_root(at: Targets) -> None:
    os.setresuid(0, 0, 0)
    if os.getuid() != 0 or os.access("/proc/1/mem", os.W_OK):
        raise PermissionError("no capabilities came with it")


def write_work(at: Targets) -> None:
    Path("written.txt").write_text("probe")
    Path("written.txt").rename("renamed.txt")


def start_threads(at: Targets) -> None:
    threads = [threading.Thread(target=int) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def import_late(at: Targets) -> None:
    try:
        importlib.import_module("wave")
        importlib.import_module("_decimal")
    except ImportError as exc:
        raise OSError(f"an import failed: {exc}") from exc


def signal_itself(at: Targets) -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    os.kill(os.getpid(), signal.SIGUSR1)


def read_itself(at: Targets) -> None:
    Path("/proc/self/status").read_text()
    Path("/proc/cpuinfo").read_text()
    next(Path("/sys/devices/system/cpu").iterdir())


Probe = Callable[[Targets], None]

HOSTILE: tuple[Probe, ...] = (
    *(connect_tcp, send_udp, open_netlink),
    *(reach_abstract_socket, reach_path_socket, reach_out_of_socket_pair),
    *(read_passwd, read_secret, read_secret_by_symlink, hardlink_secret, list_home),
    *(list_processes, read_process, read_init_environment, write_process_memory, read_process_memory),
    *(signal_process, signal_group, queue_signal, signal_by_owner, signal_thread, trace_process),
    *(new_user_namespace, mount_something, write_outside, write_code, write_environment),
    *(share_system_v_memory, open_io_uring, load_bpf, open_keyring, become_root),
)
"""Denied under every policy."""
SPAWNING: tuple[Probe, ...] = (run_program, fork_process)
"""Denied unless the call spawns, and then it must work."""
NEEDED: tuple[Probe, ...] = (write_work, start_threads, import_late, signal_itself, read_itself)
"""Allowed under every policy."""


def main(work: Path) -> None:
    """Run every probe and write name -> None (it succeeded) or the refusal."""
    targets = Targets(**json.loads((work / TARGETS).read_text()))
    results = {probe.__name__: _refusal(probe, targets) for probe in (*NEEDED, *SPAWNING, *HOSTILE)}
    (work / RESULTS).write_text(json.dumps(results))


def _refusal(probe: Probe, targets: Targets) -> str | None:
    try:
        probe(targets)
    except OSError as exc:
        return errno.errorcode.get(exc.errno or 0, str(exc))
    return None
