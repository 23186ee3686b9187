"""The level on kernels and in containers that lack a layer: a filter takes the layer away before the worker starts."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from sandbox_fixtures import code_root, public_environment, public_folder

WORKER = """
import sys
from pathlib import Path
from workers.sandbox import kernel, seccomp, syscalls
from workers.sandbox.pool import Pool
from workers.sandbox.selftest import examine

denied = {denied!r}
known = syscalls.ALL | {{name: (number, number) for name, number in
    (("landlock_create_ruleset", 444), ("landlock_add_rule", 445), ("landlock_restrict_self", 446))}}
numbers = syscalls.numbers(known, kernel.MACHINE)
rules = [(0x20, 0, 0, 0)]
for name, error in denied.items():
    rules += [(0x15, 0, 1, numbers[name]), (0x06, 0, 0, 0x00050000 | error)]
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
seccomp.load([*rules, (0x06, 0, 0, 0x7FFF0000)])
folder = Path({folder!r})
pool = Pool(folder=folder, code_root=Path({code!r}), slots=1)
found = examine(pool, folder=folder, environment=Path(sys.prefix))
pool.close()
print(found.level, *found.missing, sep="\\n")
"""
EPERM, ENOSYS = 1, 38
NO_NAMESPACES = {"unshare": EPERM}
NO_MOUNTS = {"mount": EPERM}
NO_LANDLOCK = {"landlock_create_ruleset": ENOSYS}


def level_without(denied: dict[str, int]) -> tuple[str, str]:
    """Return the level a worker finds when the kernel refuses some calls, and what it says is missing."""
    environment = public_environment()
    if environment is None:
        pytest.skip("no interpreter that another user may run")
    folder = Path(tempfile.mkdtemp(dir=public_folder()))
    folder.chmod(0o711)
    program = WORKER.format(denied=denied, folder=str(folder), code=str(code_root()))
    done = subprocess.run(
        [environment / "bin" / "python3", "-c", program],
        env={"PYTHONPATH": str(code_root()), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    level, _, missing = done.stdout.partition("\n")
    return level, missing


@pytest.mark.parametrize("denied", [NO_NAMESPACES, NO_MOUNTS], ids=["no namespaces", "no mounts"])
def test_without_namespaces_it_is_partial_and_says_why(denied: dict[str, int]) -> None:
    level, missing = level_without(denied)

    assert level == "partial"
    assert "Operation not permitted" in missing
    assert "private /tmp" in missing


def test_namespaces_alone_hold_where_the_kernel_has_no_landlock() -> None:
    level, missing = level_without(NO_LANDLOCK)

    assert (level, missing.split()) == ("full", ["landlock"])


def test_without_either_it_is_none() -> None:
    level, missing = level_without(NO_LANDLOCK | NO_NAMESPACES)

    assert level == "none"
    assert "landlock" in missing
