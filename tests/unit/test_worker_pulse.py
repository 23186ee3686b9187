"""A pulse outlives answers that make no sense; where it can't, the worker does not go on without it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from farm.domain.errors import Conflict, FarmBug, FarmError, FarmUnreachable
from farm.wire.hosts import Attestation, ClaimRequest, Heartbeat, HeartbeatAnswer, Leave
from workers.link import FarmLink
from workers.pulse import PULSE_DIED_EXIT, TURNED_AWAY_EXIT, Pulse
from workers.queues import Queues

ROOT = Path(__file__).parents[2]
HTML = b"<html>Sign in to the network</html>"
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


@contextmanager
def answering(*answers: bytes) -> Iterator[tuple[str, threading.Event]]:
    """Serve 200 with each answer in turn, the last one again and again; the event says that it was reached."""
    left, reached = list(answers), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            content = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            if len(left) == 1:
                reached.set()

        def log_message(self, format: str, *args: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", reached
        server.shutdown()


@pytest.mark.parametrize(
    ("answer", "kind"), [(HTML, FarmUnreachable), (b'{"stop": 1}', FarmBug), (b"[]", FarmBug), (b"", FarmBug)]
)
def test_an_answer_that_is_not_the_farms_is_one_of_the_farms_errors(answer: bytes, kind: type[FarmError]) -> None:
    with answering(answer) as (url, _):
        link = FarmLink(url, "token", budget_s=0.1)

        with pytest.raises(kind):
            link.heartbeat(Heartbeat(name="host-1"))
        with pytest.raises(kind):
            link.claim(ClaimRequest(host="host-1", step="step-1", attempt=1))

        link.close()


def test_a_text_that_no_message_takes_is_told_as_ours() -> None:
    link = FarmLink("http://127.0.0.1:9", "token", budget_s=0.1)

    with pytest.raises(FarmBug, match="no JSON"):
        link._send("/v1/claims", {"step": "\udcff"})

    link.close()


def test_the_pulse_goes_on_after_answers_that_make_no_sense() -> None:
    stop = b'{"stop": ["attempt-1"], "unknown_host": false}'
    with answering(b"null", HTML, b'{"stop": 1}', stop) as (url, _):
        link = FarmLink(url, "token", budget_s=0.1)
        pulse = Pulse(link, lambda: ATTESTATION, every_s=0.05)
        with pulse.holding("attempt-1") as stopped:
            pulse.start()

            assert stopped.wait(20)

        pulse.close()
        link.close()


def test_a_worker_whose_pulse_died_ends_with_it() -> None:
    script = """
import threading
from tests.unit.test_worker_pulse import ATTESTATION
from workers.pulse import Pulse

class Broken:
    def attest(self, said): pass
    def heartbeat(self, said): raise ArithmeticError("what nobody thought of")

Pulse(Broken(), lambda: ATTESTATION, every_s=0.05).start()
threading.Event().wait(60)
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )

    assert ended.returncode == PULSE_DIED_EXIT
    assert "The pulse died" in ended.stdout + ended.stderr
    assert "what nobody thought of" in ended.stderr


@pytest.mark.parametrize("kind", ["Unauthorized", "Conflict"])
def test_a_worker_that_the_farm_turns_away_ends_with_the_reason_and_a_code_of_its_own(kind: str) -> None:
    script = f"""
import threading
from farm.domain.errors import {kind}
from tests.unit.test_worker_pulse import ATTESTATION
from workers.pulse import Pulse

class Gate:
    def attest(self, said): pass
    def heartbeat(self, said): raise {kind}("The token of host host-1 was revoked.")

Pulse(Gate(), lambda: ATTESTATION, every_s=0.05).start()
threading.Event().wait(60)
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )

    assert ended.returncode == TURNED_AWAY_EXIT
    assert "The token of host host-1 was revoked." in ended.stdout + ended.stderr


class Gate:
    """A farm that says whose name it is, and what it was asked."""

    def __init__(self, *taken_for_s: float) -> None:
        self.taken_for_s = list(taken_for_s)
        self.attested = 0
        self.told: list[str | None] = []

    def attest(self, said: Attestation) -> None:
        self.attested += 1
        if self.taken_for_s:
            raise Conflict("A worker named host-1 serves already.", retry_after_s=self.taken_for_s.pop(0))

    def heartbeat(self, said: Heartbeat) -> HeartbeatAnswer:
        quarantined = "its fan died" if len(self.told) < 1 else None
        return HeartbeatAnswer(quarantined=quarantined)

    def leave(self, said: Leave) -> None:
        raise FarmUnreachable("gone")


def test_a_name_that_may_only_just_be_free_is_waited_for_and_a_living_worker_s_is_not() -> None:
    restarted = Gate(0.01)
    Pulse(cast(FarmLink, restarted), lambda: ATTESTATION, every_s=5.0)._join()
    assert restarted.attested == 2

    with pytest.raises(Conflict, match="serves already"):
        Pulse(cast(FarmLink, Gate(0.01, 3.0)), lambda: ATTESTATION, every_s=5.0)._join()


def test_quarantine_and_its_end_are_told_once_each() -> None:
    gate, over = Gate(), threading.Event()

    def note(reason: str | None) -> None:
        gate.told.append(reason)
        if reason is None:
            over.set()

    pulse = Pulse(cast(FarmLink, gate), lambda: ATTESTATION, every_s=0.01, on_quarantine=note)
    pulse.start()

    assert over.wait(10)
    pulse.close()
    assert gate.told == ["its fan died", None]


class Consumer:
    """What a Celery consumer does with its queues."""

    def __init__(self, *queues: str) -> None:
        self.queues = set(queues)

    def call_soon(self, act: Callable[..., None], *given: object) -> None:
        act(*given)

    def cancel_task_queue(self, queue: str) -> None:
        self.queues.discard(queue)

    def add_task_queue(self, queue: str) -> None:
        self.queues.add(queue)


def test_a_quarantined_host_keeps_its_own_queue_alone() -> None:
    said = ATTESTATION.model_copy(update={"serves": ["build.x86_64", "target.x86-64-v3", "host.host-1"]})
    consumer, queues = Consumer(*said.serves), Queues(said)
    queues._worker = SimpleNamespace(consumer=consumer)

    queues.quarantine("its fan died")
    assert consumer.queues == {"host.host-1"}
    queues.quarantine(None)
    assert consumer.queues == set(said.serves)
