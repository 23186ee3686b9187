"""The trusted parent of one run: enforces its limits and gives the verdict on a socket the child never holds."""

from __future__ import annotations

import os
import signal
import socket
from typing import NoReturn

from workers.sandbox import cgroup, kernel, processes
from workers.sandbox.ending import EndOfProcess
from workers.sandbox.init import run_init
from workers.sandbox.job import Job, Observed, pack, setup_failed
from workers.sandbox.namespaces import leave_host
from workers.sandbox.watch import Sources, Watch

_HIGHEST_FD = 1 << 20


def supervise(job: Job, channel: socket.socket, *, zygote: int) -> NoReturn:
    """Run a job in a fork of the zygote; anything on the channel, or its end, cancels it."""

    def fail(error: BaseException) -> int:
        channel.send(pack(setup_failed(f"{type(error).__name__}: {error}")))
        return 1

    with EndOfProcess(fail):
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        close_all_but(channel.fileno())
        channel.send(str(os.getpid()).encode())
        _keep_off(job.cores or ())
        if job.level.has_namespaces:
            leave_host(as_root=os.geteuid() == 0)
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        orphaned = _end_of_zygote(zygote)
        channel.send(pack(_run(job, channel.fileno(), orphaned)))
    raise AssertionError("unreachable")


def close_all_but(*kept: int) -> None:
    """Close every descriptor above standard error except `kept`."""
    low = 3
    for descriptor in (*sorted(kept), _HIGHEST_FD):
        os.closerange(low, descriptor)
        low = descriptor + 1


def _keep_off(cores: tuple[int, ...]) -> None:
    """Leave the child's processors to it: watching must not disturb what it measures."""
    others = os.sched_getaffinity(0) - set(cores)
    if cores and others:
        os.sched_setaffinity(0, others)


def _end_of_zygote(zygote: int) -> int:
    """Return a descriptor that becomes readable when the zygote dies: time to clean up is left then."""
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signal.set_wakeup_fd(told)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != zygote:
        raise ProcessLookupError("the zygote died")
    return heard


def _run(job: Job, channel: int, orphaned: int) -> Observed:
    heard_ready, ready = os.pipe()
    heard_status, status = os.pipe()
    init = os.fork()
    if init == 0:
        close_all_but(ready, status)
        run_init(job, ready=ready, status=status)
    os.close(ready)
    os.close(status)
    observed = Watch(job, Sources(channel, orphaned, heard_ready, heard_status), init=init).until_end()
    if job.cgroup is not None:
        cgroup.kill(job.cgroup)
    processes.kill(init)
    processes.kill_tree(os.getpid())
    return observed
