"""Real hosts in trouble, on machines of their own: cut links, a vanished worker, a full disk, a wrong clock.

No job is lost.
The farm is one network namespace and the host another; leases are 10 s, the host tries storage and API again for 15 s.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.emulated_fixtures import REPOSITORY, Elsewhere, farm_elsewhere

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.toolchain, pytest.mark.timeout(900)]
HOST = "far"
BUDGET_S = 15
ENDED = ("succeeded", "partial", "failed", "refused", "cancelled")
REFERENCE = REPOSITORY / "workers" / "runtimes" / "reference_model" / "reference.onnx"
SKEW = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(id, at);
    if (id == CLOCK_REALTIME) at->tv_sec -= 600;
    return done;
}
"""


@dataclass(slots=True)
class Far:
    """An enrolled host beside the farm; `start` and `kill` are those of its worker."""

    farm: Elsewhere
    token: str
    log: Path
    process: subprocess.Popen[bytes] | None = None
    prefix: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        self.launch()
        until(lambda: "ready." in self.told, 120, lambda: self.told[-3000:])

    def launch(self) -> None:
        """Start the worker, which may refuse to."""
        work = self.farm.folder / self.log.stem
        variables = os.environ | {
            "FARM_URL": self.farm.info["api"],
            "FARM_TOKEN": self.token,
            "FARM_REDIS_URL": self.farm.info["redis_worker"],
            "FARM_HEARTBEAT_S": "1",
            "FARM_TRANSFER_BUDGET_S": str(BUDGET_S),
            "FARM_MEASUREMENT_PROCESSES_MAX": "3",
            "FARM_WORK_DIR": str(work / "work"),
            "FARM_CACHE_DIR": str(work / "cache"),
            **self.variables,
        }
        script = f"mount -t tmpfs none /run/lock; exec {' '.join(self.prefix)} {sys.executable} -m farm.cli.main worker"
        argv = self.farm.beside.command("unshare", "-m", "sh", "-c", script)
        written = self.log.open("wb")
        self.process = subprocess.Popen(argv, env=variables, stdout=written, stderr=written, cwd=REPOSITORY)

    def kill(self) -> None:
        """Let the host vanish: no goodbye, its children end with it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)

    def exit_code(self, within_s: float) -> int:
        """Wait until the worker ends by itself."""
        assert self.process is not None
        return self.process.wait(within_s)

    @property
    def told(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Cut the host's cable while the block runs."""
        link = ["ip", "-n", self.farm.beside.namespace, "link", "set", "cable"]
        subprocess.run([*link, "down"], check=True, timeout=30)
        try:
            yield
        finally:
            subprocess.run([*link, "up"], check=True, timeout=30)

    def view(self) -> dict[str, Any]:
        return next(host for host in self.farm.hosts() if host["name"] == HOST)

    def submit(self) -> str:
        """Submit the reference model for this host alone."""
        arguments = ("-t", self.view()["profile"], "-r", "onnxruntime", "--host", HOST, "--json")
        done = self.farm.command("submit", str(REFERENCE), *arguments)
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["job"])

    def await_measuring(self) -> None:
        until(lambda: any("measure-" in title for title in self.view()["running"]), 240, lambda: self.told[-3000:])

    def end(self, job: str) -> dict[str, Any]:
        """Wait for a job and give its only result."""

        def ended() -> bool:
            return json.loads(self.farm.command("status", job, "--json").stdout)["state"] in ENDED

        until(ended, 420, lambda: self.told[-3000:])
        report = json.loads(self.farm.command("report", job, "--json").stdout)
        (result,) = report["results"]
        return {"state": report["state"], **result}


def until(done: Callable[[], bool], within_s: float, evidence: Callable[[], str]) -> None:
    deadline = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < deadline, evidence()
        time.sleep(0.5)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    with farm_elsewhere("postgres", "redis", "s3", "api", "control", "worker") as made:
        yield made


@pytest.fixture
def far(elsewhere: Elsewhere) -> Iterator[Far]:
    """Enroll the host anew, back in rotation: three steps that earlier tests broke on it would have ended that."""
    enrolled = elsewhere.command("host", "enroll", HOST, "--json")
    assert enrolled.returncode == 0, enrolled.stderr
    released = elsewhere.command("host", "release", HOST)
    assert released.returncode == 0 or all(host["name"] != HOST for host in elsewhere.hosts()), released.stderr
    made = Far(elsewhere, json.loads(enrolled.stdout)["token"], elsewhere.folder / f"{HOST}.log")
    yield made
    made.kill()


def lost_attempts(far: Far, job: str) -> int:
    """Count the attempts to measure that were lost with the host; one that was too noisy is only taken again."""
    listed = json.loads(far.farm.command("logs", job, "--json").stdout)
    return sum(log["state"] == "lost" for log in listed if log["stage"].startswith("measure-"))


def broken_attempts(far: Far, job: str) -> Counter[str]:
    """Count the attempts that failed on the host, per step; what its peer took again for noise is not among them."""
    listed = json.loads(far.farm.command("logs", job, "--json").stdout)
    return Counter(log["step"] for log in listed if log["host"] == HOST and log["state"] == "failed")


@pytest.mark.parametrize(
    ("cut_s", "loses_its_lease"),
    [(4, False), (30, True), (BUDGET_S + 45, True)],
    ids=["less than a lease", "three leases", "longer than the retry budget"],
)
def test_a_link_that_is_cut_delays_a_job_and_loses_nothing(far: Far, cut_s: float, loses_its_lease: bool) -> None:
    far.start()
    job = far.submit()
    far.await_measuring()
    with far.cut():
        time.sleep(cut_s)

    result = far.end(job)

    assert result["state"] == "succeeded", result
    assert (lost_attempts(far, job) > 0) is loses_its_lease
    assert result["conditions"]["host"] == HOST
    assert far.process is not None
    assert far.process.poll() is None, "the same worker served on"


def test_a_host_that_vanishes_while_it_measures_takes_the_step_up_again(far: Far) -> None:
    far.start()
    job = far.submit()
    far.await_measuring()
    far.kill()
    time.sleep(12)
    far.start()

    result = far.end(job)

    assert result["state"] == "succeeded", result
    assert lost_attempts(far, job) == 1


def test_a_host_whose_disk_is_full_says_so_and_the_job_ends_with_that_reason(far: Far) -> None:
    profile = next(host["profile"] for host in far.farm.hosts() if host["name"] == "builder")
    far.farm.submit(str(REFERENCE), "-t", profile, "-r", "onnxruntime", "--host", "builder")
    start_full(far)

    result = far.end(far.submit())

    assert result["state"] == "failed"
    assert (result["failure_type"], result["who_must_act"]) == ("host-full", "host"), result
    assert "No space left on device" in result["message"]
    assert f"host {HOST}" in result["message"].lower()
    assert [step["host"] for step in result["steps"] if step["state"] == "failed"] == [HOST]


def start_full(far: Far) -> None:
    """Start a host whose cache has no room for an input."""
    work = far.farm.folder / HOST
    shutil.rmtree(work, ignore_errors=True)
    for name in ("work", "cache"):
        (work / name).mkdir(parents=True)
    full = f"mount -t tmpfs -o size=64k,mode=0711 none {work}/cache"
    far.prefix = ("sh", "-c", f'\'{full} && touch {work}/cache/stray; exec "$0" "$@"\'')
    far.start()


def test_what_a_full_host_fails_is_done_by_its_healthy_peer(far: Far) -> None:
    """Both serve one target. The full host is idle at once, and would take all three attempts of a step."""
    start_full(far)
    for _ in range(5):
        done = far.farm.command("submit", str(REFERENCE), "-t", far.view()["profile"], "-r", "onnxruntime", "--json")
        job = json.loads(done.stdout)["job"]
        result = far.end(job)

        assert result["state"] == "succeeded", result
        new = [step for step in result["steps"] if not step["reused"]]
        assert {step["host"] for step in new if step["stage"].startswith(("compare-", "measure-"))} == {"builder"}
        broke = broken_attempts(far, job)
        assert max(broke.values(), default=0) <= 1, "a step that broke on the full host was its peer's from then on"
        if broke:
            return
    raise AssertionError(f"the full host never came to take a step: {far.told[-2000:]}")


def test_a_host_whose_clock_is_ten_minutes_behind_works_and_its_operator_is_told(far: Far, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler to shift a process's clock")
    source, shim = tmp_path / "skew.c", tmp_path / "skew.so"
    source.write_text(SKEW)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True, timeout=60)
    far.variables = {"LD_PRELOAD": str(shim)}
    far.start()

    result = far.end(far.submit())

    assert result["state"] == "succeeded", result
    assert re.match(r"Its clock is 10 min behind the farm's", far.view()["notice"] or ""), far.view()["notice"]
    assert "10 min behind" in far.told


def test_a_host_tests_itself_under_each_runtime_and_its_outputs_are_those_of_its_peer(far: Far) -> None:
    far.start()

    done = far.farm.command("host", "selftest", HOST, "--json", timeout_s=600)

    tests = {test["runtime"]: test for test in json.loads(done.stdout)}
    assert set(tests) == {"litert", "onnxruntime"}
    for test in tests.values():
        assert test["verdict"] in ("passed", "inconclusive"), "a busy host is not judged, and a right one not failed"
        assert test["figures"]["sqnr_db"] >= 60
        assert test["figures"]["noise_floor_ratio"] > 0
        assert test["figures"]["valid"] or test["figures"]["invalid_reasons"]
    assert far.view()["state"] == "live"

    again = json.loads(far.farm.command("host", "selftest", HOST, "--json", timeout_s=600).stdout)
    for test in again:
        (result,) = json.loads(far.farm.command("report", test["job"], "--json").stdout)["results"]
        on_host = [step for step in result["steps"] if step["stage"].startswith(("compare-", "measure-"))]
        anew = [step for step in on_host if step["host"] == HOST and step.get("where") != "build"]
        assert {step["stage"].partition("-")[0] for step in anew} == {"compare", "measure"}
        assert not any(step["reused"] for step in anew), "what was compared yesterday says nothing of today"
