"""The environment variables of zygotes and children: built from nothing, so that no secret can be inherited."""

from __future__ import annotations

import sys
from pathlib import Path

from workers.sandbox.job import Job

TOOLCHAINS = {
    "ORT_DISABLE_TELEMETRY": "1",
    "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",
    "TQDM_DISABLE": "1",
    "CI": "true",
    "HF_HUB_OFFLINE": "1",
}
"""No telemetry, no downloads, no pickles beyond weights, no search for graphics cards, no progress bars in logs.

`CI` is the one switch by which OpenVINO and NNCF send nothing and leave no file of their own under HOME."""

_PYTHON = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1", "PYTHONUNBUFFERED": "1", "LANG": "C.UTF-8"}
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
"""OpenBLAS starts threads at import, and a process with threads must not be forked."""


def zygote_environment(environment: Path, *, import_root: Path, home: Path) -> dict[str, str]:
    folders = {"PATH": _search_path(str(environment)), "PYTHONPATH": str(import_root), "HOME": str(home)}
    return folders | TOOLCHAINS | _PYTHON | _ONE_THREAD


def child_environment(job: Job) -> dict[str, str]:
    """Return the child's variables; a fresh interpreter may use as many BLAS threads as it likes."""
    folders = {
        "PATH": _search_path(sys.prefix if job.foreign is None else job.foreign.environment),
        "PYTHONPATH": job.import_root,
        "HOME": job.work,
        "TMPDIR": str(Path(job.work, "tmp")),
    }
    if job.foreign is not None:
        folders["QEMU_CPU"] = job.foreign.cpu
    return folders | TOOLCHAINS | _PYTHON | ({} if job.fresh else _ONE_THREAD)


def _search_path(environment: str) -> str:
    return f"{environment}/bin:/usr/bin:/bin"
