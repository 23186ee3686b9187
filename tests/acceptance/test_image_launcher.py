"""The ARM image under emulation, with a native launcher beside its container, as docs/containers.md has it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.container_images import REPOSITORY, Image, build

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(1800)]
ENVIRONMENTS = "/opt/farm/.envs"
EMULATOR = "usr/libexec/farm/qemu-aarch64-static"
USER = 10001
READY_S = 120.0
MODEL = REPOSITORY / "tests" / "edgetpu_pairs" / "bright_16x16.tflite"
STEP = f"""
import json, shutil, sys
sys.path.insert(0, "/opt/farm")
from pathlib import Path
from workers.launcher.outside import Outside
from workers.sandbox.values import Call, Limits
outside = Outside(Path("/run/farm/launcher"), environments_dir=Path("{ENVIRONMENTS}"))
limits = Limits(60, 1 << 30, 1 << 28, 1 << 28)
for readable in ((), (Path("/sys/../etc/shadow"),)):
    work = Path(sys.argv[1], str(len(readable)))
    work.mkdir()
    shutil.copy(Path(sys.argv[1], "{MODEL.name}"), work)
    (work / "call.json").write_text(json.dumps({{"stage": "inspect-tflite", "files": {{"model": "{MODEL.name}"}}}}))
    ending = outside.run(Call(Path("{ENVIRONMENTS}/litert"), "workers.stages.harness:main", work, readable, limits))
    print(ending.level, ending.end, work.stat().st_uid, ending.detail)
    if ending.end == "exit":
        print(Path(work, "result.json").read_text())
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="farm-image-") as path:
        Path(path).chmod(0o711)
        for name in ("root", "shared", "run"):
            (Path(path) / name).mkdir()
        os.chown(Path(path) / "shared", USER, USER)
        yield Path(path)


def unpack(image: Image, root: Path) -> None:
    """Unpack the image, and add what the launcher needs: an emulator, and the description of a root."""
    with image.container() as container, container.mounted() as files:
        subprocess.run(["cp", "-a", f"{files}/.", str(root)], check=True, timeout=600)
    (root / EMULATOR).parent.mkdir(parents=True)
    shutil.copy(f"/usr/bin/{Path(EMULATOR).name}", root / EMULATOR)
    (root / ENVIRONMENTS[1:] / "worker").symlink_to("../.venv")
    described = {"architecture": "aarch64", "cpu": "cortex-a72", "made_from": image.name}
    described |= {"emulator": f"/{EMULATOR}", "environments": ENVIRONMENTS}
    (root / "farm-root.json").write_text(json.dumps(described))


@contextmanager
def launcher(folder: Path) -> Iterator[None]:
    argv = [sys.executable, "-m", "workers.launcher", str(folder / "root"), "--socket", str(folder / "run/launcher")]
    argv += ["--shared", str(folder / "shared"), "--user", str(USER)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=REPOSITORY) as running:
        try:
            deadline = time.monotonic() + READY_S
            while not (folder / "run/launcher").exists():
                assert running.poll() is None, running.stdout and running.stdout.read()
                assert time.monotonic() < deadline
                time.sleep(0.3)
            yield
        finally:
            running.terminate()


def test_its_steps_run_from_outside_and_see_nothing_else(folder: Path) -> None:
    """Given a worker in its container; then a stage reads a model at level `outside`, and the folder is the worker's
    again; a wish for a file of the machine is refused."""
    image = build("worker-arm64", "arm64")
    unpack(image, folder / "root")
    (folder / "shared" / "step.py").write_text(STEP)
    shutil.copy(MODEL, folder / "shared")
    with launcher(folder), image.container() as container:
        volumes = (f"{folder}/run:/run/farm", f"{folder}/shared:{folder}/shared")
        step = ("/opt/farm/.venv/bin/python", f"{folder}/shared/step.py", f"{folder}/shared")
        argv = container.command(*step, volumes=volumes)
        variables = os.environ | {"QEMU_CPU": "cortex-a72"}
        ran = subprocess.run(argv, env=variables, capture_output=True, text=True, timeout=300, cwd=REPOSITORY)

    ran_it, told, refused = ran.stdout.splitlines()
    assert ran_it == f"outside exit {USER} None", ran.stderr
    facts = json.loads(told)["facts"]
    assert facts["operators"]["FULLY_CONNECTED"] == 2, told
    assert refused.startswith(f"outside setup {USER} '/sys/../etc/shadow' is refused")
