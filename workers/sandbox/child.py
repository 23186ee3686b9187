"""The untrusted process: take every right away, say "started", run the entry."""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from workers.sandbox import kernel, landlock, paths, processes, seccomp
from workers.sandbox.ending import EndOfProcess, exit_code_of, report_to
from workers.sandbox.environment import child_environment
from workers.sandbox.job import Job, pack
from workers.sandbox.values import Foreign, Level

_OPEN_FILES = 1024
_EMULATOR_FD = _OPEN_FILES - 1
"""Of an emulated child: beyond its limit of open files, so that nothing else can ever be run from this descriptor."""
_DATA_MARGIN_BYTES = 512 << 20
"""Room for thread stacks and allocator arenas, which count as data before they are touched."""
_EMULATOR_BYTES = 512 << 20
"""Room for what an emulator translates to."""


def run_child(job: Job, ready: int) -> NoReturn:
    """Enter the layers in a fork of the zygote and run the entry, or exec a fresh interpreter that does."""
    with EndOfProcess(report_to(ready)):
        os.environ.clear()
        os.environ.update(child_environment(job))
        tempfile.tempdir = os.environ["TMPDIR"]
        _prefer_for_oom_killer()
        _redirect(job)
        os.closerange(3, ready)
        os.closerange(ready + 1, 1 << 20)
        emulator = None if job.foreign is None else _open_emulator(job.foreign)
        _take_rights_away(job)
        if emulator is not None:
            confine_calls(job, executes=emulator)
        if job.fresh:
            _exec_fresh(job, ready, emulator)
        confine_calls(job)
        serve_entry(job, ready)
    raise AssertionError("unreachable")


def serve_entry(job: Job, ready: int) -> None:
    """Import the entry, which is our own code, tell the supervisor, then run it and leave the process."""
    function = _entry(job.entry)
    memory = 0 if job.fresh else processes.status(os.getpid(), ("VmRSS:",))
    os.write(ready, json.dumps({"started": time.monotonic(), "memory": memory}).encode())
    os.close(ready)
    with EndOfProcess(exit_code_of):
        function(Path(job.work))


def confine_calls(job: Job, *, executes: int | None = None) -> None:
    """Filter system calls: the last layer, and after an exec the only one left to set.

    Around an emulator it is set before the exec, which is allowed from the descriptor `executes`.
    """
    full = job.level.has_namespaces
    kernel.prctl(kernel.PR_SET_DUMPABLE, int(full))
    if job.level is Level.NONE:
        return
    confined = full or landlock.scopes_signals(landlock.abi())
    only = None if job.spawns and confined else os.getpid()
    policy = seccomp.Policy(
        spawns=job.spawns, signals_only=only, sessions=full, executes=executes, netlink=bool(job.devices)
    )
    seccomp.install(policy)


def _entry(name: str) -> Callable[[Path], object]:
    module, _, function = name.partition(":")
    found: Callable[[Path], object] = getattr(importlib.import_module(module), function)
    return found


def _prefer_for_oom_killer() -> None:
    """Be what the kernel kills first when the machine runs out of memory: never the worker."""
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
    Path("/proc/self/oom_score_adj").write_text("500")


def _redirect(job: Job) -> None:
    """Take input from nowhere and write output to the log; make the work folder the current one."""
    os.chdir(job.work)
    temporary = Path(os.environ["TMPDIR"])
    temporary.mkdir(exist_ok=True)
    null = os.open("/dev/null", os.O_RDONLY)
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    if job.uid is not None:
        os.fchown(log, job.uid, job.uid)
        os.chown(temporary, job.uid, job.uid, follow_symlinks=False)
    for opened, standard in ((null, 0), (log, 1), (log, 2)):
        os.dup2(opened, standard)


def _take_rights_away(job: Job) -> None:
    """Drop to the slot's user, set limits, drop capabilities, then paths; the order is what the kernel requires."""
    if job.cores is not None:
        os.sched_setaffinity(0, job.cores)
    _set_limits(job)
    if job.level is not Level.NONE:
        kernel.drop_bounding_capabilities()
    if job.uid is not None:
        os.setgroups(_groups_of(job.devices))
        os.setresgid(job.uid, job.uid, job.uid)
        os.setresuid(job.uid, job.uid, job.uid)
    _check_readable(job)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    if job.level is Level.NONE:
        return
    kernel.drop_capabilities()
    if job.level is Level.PARTIAL or landlock.abi() > 0:
        _confine_paths(job)


def _groups_of(devices: tuple[str, ...]) -> list[int]:
    """Name the groups that devices belong to, as udev rules set them; root's own is never passed on."""
    return sorted({Path(path).stat().st_gid for path in devices} - {0})


def _check_readable(job: Job) -> None:
    """Say now what would look like the entry's fault later: a file that only the worker may read."""
    for path in job.readable:
        if not os.access(path, os.R_OK):
            raise PermissionError(f"{path} cannot be read by the child's user; make it readable for all")


def _confine_paths(job: Job) -> None:
    """Allow only what the job names; within the new root this is a second wall, without it the only one."""
    writable = [job.work]
    if job.level.has_namespaces:
        writable += [paths.TEMPORARY, paths.SHARED_MEMORY]
    landlock.restrict(
        readable=(*paths.readable(job), *paths.existing(paths.OWN_PROC)),
        writable=writable,
        devices=paths.existing(paths.DEVICES),
        controlled=job.devices,
    )


def _set_limits(job: Job) -> None:
    data = job.limits.memory_bytes + _DATA_MARGIN_BYTES + (_EMULATOR_BYTES if job.foreign else 0)
    if not job.fresh:
        data += processes.status(os.getpid(), ("VmData:",))
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: _OPEN_FILES if job.foreign is None else _EMULATOR_FD,
        resource.RLIMIT_FSIZE: job.limits.file_bytes,
        resource.RLIMIT_DATA: data,
        resource.RLIMIT_NPROC: job.limits.threads + _threads_beside(job),
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for kind, value in limits.items():
        hard = resource.getrlimit(kind)[1]
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (allowed, allowed))
    if job.limits.cpu_s is not None:
        seconds = max(1, round(job.limits.cpu_s))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 2))


def _threads_beside(job: Job) -> int:
    """Count threads of others under the same user; a slot's own user and a user namespace have none."""
    return processes.user_threads(os.getuid()) if job.uid is None and not job.level.has_namespaces else 0


def _open_emulator(foreign: Foreign) -> int:
    found = os.open(foreign.emulator, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(found, _EMULATOR_FD, inheritable=False)
    os.close(found)
    return _EMULATOR_FD


def _exec_fresh(job: Job, ready: int, emulator: int | None) -> NoReturn:
    """Become a new interpreter; the environment, the file limits and the paths stay."""
    given = os.memfd_create("job", 0)
    os.write(given, pack(job))
    os.lseek(given, 0, os.SEEK_SET)
    os.set_inheritable(ready, True)
    start = ["-P", "-m", "workers.sandbox.fresh", str(given), str(ready)]
    variables = child_environment(job)
    if emulator is None or job.foreign is None:
        os.execve(sys.executable, [sys.executable, *start], variables)  # noqa: S606 - the one exec, of a fixed command
    python = f"{job.foreign.environment}/bin/python3"
    command = [job.foreign.emulator, "-cpu", job.foreign.cpu, "-0", python, python, *start]
    kernel.execute(emulator, command, variables)
