"""Start of a fresh interpreter inside the sandbox: set the last layer, where it is not set yet, then run the entry."""

from __future__ import annotations

import os
import sys

from workers.sandbox.child import confine_calls, serve_entry
from workers.sandbox.ending import EndOfProcess, report_to
from workers.sandbox.job import MESSAGE_BYTES, unpack_job


def main(given: int, ready: int) -> None:
    with EndOfProcess(report_to(ready)):
        os.set_inheritable(ready, False)
        job = unpack_job(os.read(given, MESSAGE_BYTES))
        os.close(given)
        if job.foreign is None:
            confine_calls(job)
        serve_entry(job, ready)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
