"""A builder file in the real sandbox: it sees no secret and no other file; an endless one is its submitter's."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.domain.errors import BadRequest
from farm.domain.stage import StageSpec
from tests.stage_fixtures import ROOT, models
from tests.stage_models import NET
from tests.transform_fixtures import IMAGE
from workers.results import Made
from workers.sandbox import Level, Sandbox
from workers.stage_runs import Place, StageCall
from workers.stages import load_specs

pytestmark = pytest.mark.toolchain

SECRET = "farm-token-of-this-host"
STAGE = load_specs()["inspect-torch-state-dict"]
REFERENCE = load_specs()["reference-torch-state-dict"]
LOOKS_AROUND = """
import json, os, socket
from pathlib import Path

def tried(act):
    try:
        return repr(act())
    except Exception as error:
        return type(error).__name__

print("SEEN " + json.dumps({
    "environment": dict(os.environ),
    "others": [tried(lambda path=path: Path(path).read_bytes()) for path in OTHERS],
    "beside": tried(lambda: sorted(path.name for path in Path(__file__).parent.parent.iterdir())),
    "processes": [tried(lambda one=one: one.read_bytes()) for one in Path("/proc").glob("[0-9]*/environ")],
    "network": tried(lambda: socket.create_connection(("127.0.0.1", 80), 1)),
}))
"""
DEAF = "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})\nwhile True:\n    pass\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A worker's place of steps, whose own process holds a secret."""
    folder = tmp_path_factory.mktemp("place")
    folder.chmod(0o711)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FARM_TOKEN", SECRET)
        accepted = {Level.FULL, Level.PARTIAL}
        with Sandbox(folder=folder / "run", accept=accepted, code_root=ROOT, slots=1) as sandbox:
            yield Place(sandbox, ROOT / ".envs", 1 << 30, "step")


def inspect(place: Place, folder: Path, code: str, *, wall_s: float = 60.0, stage: StageSpec = STAGE) -> Made:
    """Inspect the good weights with this builder file, or run them, as a worker does, in `folder`."""
    model = folder / "model"
    model.mkdir()
    (model / "weights.pth").write_bytes((models() / "good_state" / "weights.pth").read_bytes())
    (model / "build.py").write_text(code)
    options = {} if stage is STAGE else {"input_specs": IMAGE}
    call = StageCall(stage, files={"model": model}, options=options, wall_s=wall_s, memory_bytes=4 << 30)
    return place.run(call, folder / "work", threading.Event())


def seen(folder: Path) -> dict[str, Any]:
    log = (folder / "work" / "log.txt").read_text()
    (line,) = [line for line in log.splitlines() if line.startswith("SEEN ")]
    told: dict[str, Any] = json.loads(line.removeprefix("SEEN "))
    return told


def test_it_sees_no_secret_and_no_other_file(place: Place, tmp_path: Path) -> None:
    """Given a secret in the worker's environment and files beside the model; then the module is built all the same."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    others = [str(secret), str(ROOT / "pyproject.toml"), "/etc/shadow", "/root/.bashrc"]

    made = inspect(place, tmp_path, f"OTHERS = {others!r}\n{LOOKS_AROUND}\n{NET}")

    found = seen(tmp_path)
    assert made.facts["parameters"] > 0
    assert SECRET not in json.dumps(found)
    assert not {name for name in found["environment"] if "TOKEN" in name or "SECRET" in name or "KEY" in name}
    assert set(found["others"]) <= {"FileNotFoundError", "PermissionError"}
    assert "secret" not in found["beside"]
    assert found["network"] in ("PermissionError", "OSError", "ConnectionRefusedError")


def test_one_that_never_ends_is_its_submitters_to_mend(place: Place, tmp_path: Path) -> None:
    """Given an endless loop that the stage's own alarm can't reach; then the sandbox ends it, and blames no tool."""
    with pytest.raises(BadRequest, match=r"inspect-torch-state-dict did not end within 4 s") as caught:
        inspect(place, tmp_path, DEAF, wall_s=4.0)

    failure = caught.value.failure
    assert failure.who_must_act == "submitter"
    assert "endless loop" in (failure.remedy or "")


KILLS = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
KILLS_LATER = NET.replace("        features =", "        import os; os.kill(os.getpid(), 9)\n        features =")
LINGERS = f"""{NET}
import threading, time
threading.Thread(target=lambda: [time.sleep(1) for _ in range(600)], daemon=False).start()
"""


@pytest.mark.parametrize(
    ("stage", "code", "says"),
    [
        (STAGE, KILLS, r"the builder file and loaded the weights crashed with SIGKILL"),
        (REFERENCE, KILLS_LATER, r"the builder file and its module crashed with SIGKILL"),
    ],
    ids=["while it is inspected", "when the module runs"],
)
def test_one_that_ends_its_process_is_its_submitters_to_mend(
    place: Place, tmp_path: Path, stage: StageSpec, code: str, says: str
) -> None:
    """Given a builder file by which nothing can be told; then no tool and no host is blamed, and no route promised."""
    with pytest.raises(BadRequest, match=says) as caught:
        inspect(place, tmp_path, code, stage=stage)

    assert caught.value.failure.who_must_act == "submitter"
    assert "signal processes" in (caught.value.remedy or "")
    assert "route" not in (caught.value.remedy or "")


def test_a_thread_that_is_left_running_keeps_nobody(place: Place, tmp_path: Path) -> None:
    """Given a thread that would run for ten minutes; then the step ends with its result all the same."""
    started = time.monotonic()
    made = inspect(place, tmp_path, LINGERS)

    assert made.facts["parameters"] > 0
    assert time.monotonic() - started < 30
