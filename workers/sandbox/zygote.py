"""A warm process of one environment: imports its toolchain, nothing more, and forks a supervisor per job.

Started by exec with an environment built from nothing. It works for nobody itself: after real work in the parent,
forked children of torch and TensorFlow hang in their thread pools.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from workers.sandbox import kernel, pages, processes
from workers.sandbox.job import MESSAGE_BYTES, Job, pack, setup_failed, unpack_job
from workers.sandbox.supervisor import supervise

_THREADS_OF = {"openvino": 1}
"""Modules whose import starts threads that a fork survives."""


def serve(control: socket.socket) -> None:
    """Fork a supervisor for every job until the worker closes its end."""
    zygote = os.getpid()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 1)
        if not message:
            return
        with socket.socket(fileno=descriptors[0]) as channel:
            _start(unpack_job(message), channel, zygote)


def _start(job: Job, channel: socket.socket, zygote: int) -> None:
    if surplus := surplus_threads():
        channel.send(pack(setup_failed(f"the zygote has threads and must not fork: {', '.join(surplus)}")))
    elif os.fork() == 0:
        supervise(job, channel, zygote=zygote)


def surplus_threads() -> list[str]:
    """Return the names of threads beyond those that are known to survive a fork."""
    names = processes.thread_names()
    allowed = 1 + sum(count for module, count in _THREADS_OF.items() if module in sys.modules)
    return names[1:] if len(names) > allowed else []


@contextmanager
def _dying_with(control: socket.socket) -> Iterator[None]:
    """Have the kernel end this process when the worker's end closes: nobody listens while an import runs."""
    flags = fcntl.fcntl(control, fcntl.F_GETFL)
    fcntl.fcntl(control, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(control, fcntl.F_SETFL, flags | os.O_ASYNC)
    yield
    fcntl.fcntl(control, fcntl.F_SETFL, flags)


def main(control_fd: int, preload: list[str]) -> None:
    with socket.socket(fileno=control_fd) as control:
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        with _dying_with(control):
            for module in preload:
                importlib.import_module(module)
        gc.collect()
        gc.freeze()
        pages.gather()
        control.send(json.dumps({"threads": surplus_threads()}).encode())
        serve(control)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
    os._exit(0)
