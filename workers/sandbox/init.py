"""The first process of the new namespaces: builds the root, starts the child, reaps, reports how it ended."""

from __future__ import annotations

import json
import os
import select
import signal
from typing import NoReturn

from workers.sandbox import cgroup, kernel
from workers.sandbox.child import run_child
from workers.sandbox.ending import EndOfProcess, report_to
from workers.sandbox.job import Job
from workers.sandbox.namespaces import enter_new_root


def run_init(job: Job, *, ready: int, status: int) -> NoReturn:
    """Run the child to its end; the kernel kills whatever it left when this process, pid 1, exits."""
    with EndOfProcess(report_to(ready)):
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        _check_supervisor(status)
        if job.cgroup is not None:
            cgroup.join(job.cgroup)
        if job.level.has_namespaces:
            enter_new_root(job)
        child = os.fork()
        if child == 0:
            os.close(status)
            run_child(job, ready)
        os.close(ready)
        os.write(status, json.dumps(_wait_for(child)).encode())
    raise AssertionError("unreachable")


def _check_supervisor(status: int) -> None:
    """Leave when the supervisor died before its death could be signalled: nobody reads the pipe then."""
    poll = select.poll()
    poll.register(status, 0)
    if poll.poll(0):
        os._exit(0)


def _wait_for(child: int) -> dict[str, float]:
    """Reap orphans too, as pid 1 must; their processor time counts as the child's."""
    cpu_s = 0.0
    while True:
        pid, status, usage = os.wait3(0)
        cpu_s += usage.ru_utime + usage.ru_stime
        if pid == child:
            return {"status": status, "peak": usage.ru_maxrss << 10, "cpu_s": cpu_s}
