"""However an attempt goes wrong, the farm hears of it: no attempt ends in silence."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from farm.domain.errors import ArtifactBroken
from farm.settings import Settings
from farm.transfer import open_link
from farm.wire.hosts import Attestation
from hardware_profiles.loader import load_profiles
from workers.cache import Cache
from workers.host.lock import HostLock
from workers.link import FarmLink
from workers.measuring import Bench
from workers.pulse import Pulse
from workers.results import Made
from workers.runner import Runner, StepFailed
from workers.sandbox import Call, Ending, Level, Sandbox
from workers.stages import load_specs

Child = Callable[[Path], None]
ATTESTATION = Attestation(
    name="host-1",
    profile="x86-64-v3",
    can_measure=False,
    architecture="x86_64",
    emulated=False,
    isolation="none",
    environments={},
    serves=[],
)


@dataclass(slots=True)
class Farm:
    """An API that hands out one attempt and keeps the outcome it is told."""

    stage: str
    url: str = ""
    told: list[dict[str, Any]] = field(default_factory=list)
    refuses: str | None = None
    stores: bool = False
    stored: list[bytes] = field(default_factory=list)

    def answer(self, path: str, body: Any) -> tuple[int, Any]:
        if path == "/v1/claims":
            return 200, claim(self.stage)
        if path.endswith("/outcome"):
            if self.refuses in body["facts"]:
                return 422, problem("bad-request", "These facts are refused.", "submitter")
            self.told.append(body)
            return 200, None
        if self.stores:
            return 200, [{"method": "put", "url": f"{self.url}/bucket/object"}]
        return 503, problem("farm-unreachable", "No store here.", "operator")


def problem(code: str, message: str, who_must_act: str) -> dict[str, Any]:
    said = {"code": code, "message": message, "who_must_act": who_must_act}
    return said | {"retryable": False, "remedy": None, "evidence": {}}


@dataclass(slots=True)
class ScriptedSandbox:
    """Runs a function in place of a child, and says that it exited with 0."""

    child: Child
    level: Level = Level.NONE

    def run(self, call: Call, *, cancel: threading.Event) -> Ending:
        self.child(call.work)
        return Ending("exit", 0, None, 0.1, None, self.level)


@dataclass(frozen=True, slots=True)
class ScriptedBench:
    """Measures nothing and gives what it was made with."""

    made: Made

    def measure(self, run: object, **how: object) -> Made:
        return self.made


def claim(stage: str) -> dict[str, Any]:
    spec = load_specs()[stage]
    return {
        "attempt": "attempt-1",
        "fencing_token": "1",
        "lease_s": 20.0,
        "step": "step-1",
        "stage": stage,
        "stage_version": spec.version,
        "environment": spec.environment,
        "options": {},
        "profile": {},
        "target_profile": None,
        "inputs": [],
        "max_runtime_seconds": 10.0,
        "memory_bytes": 1 << 30,
    }


@pytest.fixture
def farm() -> Iterator[Farm]:
    double = Farm("inspect-onnx")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, answer = double.answer(self.path, json.loads(body) if body else None)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_PUT(self) -> None:
            double.stored.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        double.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield double
        server.shutdown()


def outcome_of(farm: Farm, folder: Path, child: Child, bench: ScriptedBench | None = None) -> dict[str, Any]:
    """Run one attempt whose child is `child`; return what the farm was told."""
    config = Settings(work_dir=folder / "work", cache_dir=folder / "cache", environments_dir=folder)
    link = FarmLink(farm.url, "token", budget_s=0.1)
    with open_link(budget_s=0.1) as store, suppress(StepFailed):
        runner = Runner(
            name="host-1",
            config=config,
            link=link,
            store=store,
            pulse=Pulse(link, lambda: ATTESTATION, every_s=1.0),
            sandbox=cast(Sandbox, ScriptedSandbox(child)),
            lock=HostLock(folder / "lock"),
            cache=Cache(folder / "cache", 1 << 20),
            bench=cast(Bench, bench),
        )
        runner.run("step-1", 1, measures=False)
    link.close()
    (told,) = farm.told
    return told


def tells(**result: Any) -> Child:
    return lambda work: _write(work / "result.json", json.dumps(result))


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def test_a_success_is_told_with_its_facts(farm: Farm, tmp_path: Path) -> None:
    told = outcome_of(farm, tmp_path, tells(facts={"format": "onnx"}))

    assert (told["state"], told["facts"], told["failure"]) == ("succeeded", {"format": "onnx"}, None)


def test_a_work_folder_that_can_not_be_made_is_the_hosts_failure(farm: Farm, tmp_path: Path) -> None:
    (tmp_path / "work").write_text("a file where the folder should be")

    told = outcome_of(farm, tmp_path, tells(facts={}))

    assert (told["state"], told["failure"]["code"]) == ("failed", "host-error")


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "host-full"), (errno.EDQUOT, "host-full"), (errno.EIO, "host-error")]
)
def test_only_a_full_disk_is_called_full(farm: Farm, tmp_path: Path, number: int, code: str) -> None:
    def fail(work: Path) -> None:
        raise OSError(number, "said the disk")

    told = outcome_of(farm, tmp_path, fail)

    assert (told["state"], told["failure"]["code"]) == ("failed", code)


def test_a_log_that_can_not_be_joined_does_not_swallow_the_outcome(farm: Farm, tmp_path: Path) -> None:
    def block_the_log(work: Path) -> None:
        (work.parent / "attempt.log").mkdir()
        tells(facts={"format": "onnx"})(work)

    told = outcome_of(farm, tmp_path, block_the_log)

    assert (told["state"], told["log"]) == ("succeeded", None)


def test_a_failure_with_characters_that_no_store_takes_arrives_without_them(farm: Farm, tmp_path: Path) -> None:
    def fail(work: Path) -> None:
        raise ValueError("a name like \udcff\0")

    told = outcome_of(farm, tmp_path, fail)

    assert told["failure"]["code"] == "farm-bug"
    assert told["failure"]["message"].endswith("a name like ?")


@pytest.mark.parametrize("facts", [{"size": "\udcff"}, {"sizes": {1: object()}}])
def test_an_outcome_that_does_not_fit_its_message_becomes_a_failure(
    farm: Farm, tmp_path: Path, facts: dict[str, Any]
) -> None:
    farm.stage = "measure-onnxruntime"

    told = outcome_of(farm, tmp_path, tells(facts={}), bench=ScriptedBench(Made(facts=facts)))

    assert (told["state"], told["failure"]["code"], told["facts"]) == ("failed", "farm-bug", {})


def test_a_conversion_without_a_model_is_not_a_success(farm: Farm, tmp_path: Path) -> None:
    farm.stage = "onnx-to-tflite"

    told = outcome_of(farm, tmp_path, tells(outputs={}))

    assert (told["state"], told["failure"]["code"]) == ("failed", "artifact-broken")


def test_a_measurement_that_can_not_be_read_is_not_our_bug() -> None:
    profile = load_profiles()["x86-64-v3"]

    with pytest.raises(ArtifactBroken, match="can't be read"):
        Bench("host-1", profile).measure(lambda *_: Made(facts={"times_us": "fast"}), runtime="onnxruntime", options={})


def test_an_outcome_that_the_farm_refuses_becomes_a_failure(farm: Farm, tmp_path: Path) -> None:
    farm.refuses = "strange"

    told = outcome_of(farm, tmp_path, tells(facts={"strange": 1}))

    assert (told["state"], told["failure"]["code"]) == ("failed", "farm-bug")
    assert "These facts are refused." in told["failure"]["message"]


def test_nothing_of_the_host_is_stored_through_a_link_that_a_child_made(farm: Farm, tmp_path: Path) -> None:
    farm.stores = True
    farm.stage = "onnx-to-tflite"
    (tmp_path / "secret").write_text("the host's own")

    def link(work: Path) -> None:
        (work / "log.txt").symlink_to(tmp_path / "secret")
        (work / "model.tflite").write_bytes(b"a model")
        tells(outputs={"model": "model.tflite"})(work)

    told = outcome_of(farm, tmp_path, link)

    assert told["state"] == "succeeded"
    assert b"a model" in farm.stored
    assert not [stored for stored in farm.stored if b"the host's own" in stored]
