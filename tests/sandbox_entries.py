"""What the sandbox's tests run in the child: well-behaved and hostile entries. Standard library only."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import workers.sandbox.processes

FIFO = "started.fifo"
_RNDGETENTCNT = 0x80045200


def describe(work: Path) -> None:
    """Write what a child can learn about itself."""
    found = {
        "environ": dict(os.environ),
        "initial_environ": _readable("/proc/self/environ"),
        "cwd": str(Path.cwd()),
        "pid": os.getpid(),
        "uid": os.getuid(),
        "affinity": sorted(os.sched_getaffinity(0)),
        "descriptors": sorted(_open_descriptors()),
        "temporary": tempfile.gettempdir(),
        "capabilities": _capabilities(),
        "modules": sorted(sys.modules),
    }
    print("described")
    (work / "found.json").write_text(json.dumps(found))


def _readable(path: str) -> str:
    try:
        return Path(path).read_bytes().decode()
    except PermissionError:
        return ""


def _open_descriptors() -> list[int]:
    opened = []
    for descriptor in range(resource.getrlimit(resource.RLIMIT_NOFILE)[0]):
        try:
            os.fstat(descriptor)
        except OSError:
            continue
        opened.append(descriptor)
    return opened


def _capabilities() -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return " ".join(line for line in lines if line.startswith(("CapEff", "CapPrm", "CapBnd", "NoNewPrivs", "Seccomp:")))


def copy_input(work: Path) -> None:
    """Copy the readable file that path.txt names."""
    (work / "copy.txt").write_text(Path((work / "path.txt").read_text()).read_text())


def control_device(work: Path) -> None:
    """Read, write and control the device that path.txt names, which makes random bytes, or say what was refused."""
    try:
        with Path((work / "path.txt").read_text()).open("r+b", buffering=0) as device:
            device.write(b"seed")
            told = f"{len(device.read(4))} bytes, ioctl {len(fcntl.ioctl(device, _RNDGETENTCNT, bytes(4)))}"
    except OSError as refused:
        told = type(refused).__name__
    (work / "told.txt").write_text(told)


def exit_with_7(work: Path) -> None:
    sys.exit(7)


def raise_error(work: Path) -> None:
    raise ValueError("no such layer")


def announce(work: Path) -> None:
    with (work / FIFO).open("w") as fifo:
        fifo.write("started")


def announce_and_spin(work: Path) -> None:
    """Say so, then use the processor for ever and ignore every signal that can be ignored."""
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    announce(work)
    while True:
        pass


def announce_and_leave_family(work: Path) -> None:
    """Start programs that start programs, then wait for ever."""
    subprocess.Popen(["/bin/sh", "-c", "sleep 600 & sleep 600"])
    subprocess.Popen(["sleep", "600"])
    announce(work)
    signal.pause()


def leave_family_and_exit(work: Path) -> None:
    subprocess.Popen(["/bin/sh", "-c", "sleep 600 & sleep 600"])
    announce(work)


def run_programs(work: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", "print('child of a child')"], capture_output=True, text=True, check=True
    )
    (work / "said.txt").write_text(said.stdout)
    subprocess.run(["true"], check=True)


def sleep_with_family(work: Path) -> None:
    """Start children where that is allowed, then sleep."""
    try:
        subprocess.Popen(["/bin/sh", "-c", "sleep 600 & sleep 600"])
    except PermissionError:
        print("alone")
    signal.pause()


def spin(work: Path) -> None:
    announce_quietly = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for number in announce_quietly:
        signal.signal(number, signal.SIG_IGN)
    while True:
        pass


def hog_memory(work: Path) -> None:
    """Take 16 MiB at a time and touch it."""
    kept = []
    while True:
        kept.append(bytearray(b"x") * (16 << 20))
        threading.Event().wait(0.02)


def hog_memory_at_once(work: Path) -> None:
    bytearray(64 << 30)


def hold_some_memory(work: Path) -> None:
    kept = bytearray(b"x") * (64 << 20)
    print(len(kept))


def write_many_files(work: Path) -> None:
    for number in range(10**6):
        (work / f"file-{number}").write_bytes(b"x" * 65536)


def write_empty_files(work: Path) -> None:
    for number in range(10**6):
        (work / f"file-{number}").touch()


def write_one_file(work: Path) -> None:
    with (work / "big.bin").open("wb") as file:
        for _ in range(1000):
            file.write(bytes(1 << 20))


def write_deleted_file(work: Path) -> None:
    """Fill the disk with files that no folder lists."""
    kept = []
    for number in range(1000):
        path = work / f"gone-{number}"
        file = path.open("wb")
        path.unlink()
        file.write(bytes(4 << 20))
        file.flush()
        kept.append(file)
    signal.pause()


def write_hidden_folder(work: Path) -> None:
    """Make a folder that cannot be listed, then wait to be measured."""
    hidden = work / "hidden"
    hidden.mkdir()
    (hidden / "file").write_bytes(bytes(1 << 20))
    hidden.chmod(0)
    signal.pause()


def fill_shared_memory(work: Path) -> None:
    with Path("/dev/shm/fill").open("wb") as file:
        while True:
            file.write(bytes(1 << 20))


def flood_log(work: Path) -> None:
    while True:
        print("x" * 65536)


def bomb(work: Path) -> None:
    """Fork until nothing more can be forked, in every process."""
    while True:
        try:
            os.fork()
        except OSError as exc:
            own = work / f"refused-{os.getpid()}.txt"
            own.write_text(str(exc.errno))
            own.rename(work / "refused.txt")
            if exc.errno != errno.EAGAIN:
                raise


def start_5000_threads(work: Path) -> None:
    forever = threading.Event()
    count = 0
    try:
        for _ in range(5000):
            threading.Thread(target=forever.wait, daemon=True).start()
            count += 1
    finally:
        (work / "threads.txt").write_text(str(count))


def crash(work: Path) -> None:
    ctypes.string_at(0)


def abort(work: Path) -> None:
    os.abort()


def burn_processor(work: Path) -> None:
    while True:
        pass


def forge_verdict(work: Path) -> None:
    """Write something like a verdict to everything that can be written to, then fail."""
    verdict = b'{"end":"exit","exit_code":0}'
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, verdict)
        except OSError:
            continue
    os._exit(5)


def count_relatives(work: Path) -> None:
    (work / "count.txt").write_text(str(len(workers.sandbox.processes.descendants(1))))


def sleep_beside_a_hydra(work: Path) -> None:
    """Leave a process that forks and ends, for long: each one that is found is gone before it can be killed."""
    (work / "heads.txt").touch()
    end = time.monotonic() + 30
    if os.fork() == 0:
        while time.monotonic() < end and os.fork() == 0:
            with (work / "heads.txt").open("a") as heads:
                heads.write(f"{os.getpid()}\n")
            time.sleep(0.001)
        os._exit(0)
    announce(work)
    signal.pause()
