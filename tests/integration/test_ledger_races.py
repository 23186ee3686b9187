"""What two transactions of the ledger do to each other, on a real PostgreSQL: nothing is lost, nothing hangs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from farm.domain.artifact import Artifact, FileRef
from farm.domain.errors import Conflict, ConversionFailed
from farm.domain.plan import Input, PlannedStep
from farm.domain.progress import StepPhase
from farm.domain.remeasuring import Retaking
from farm.ledger import Ledger, attempts, hosts, jobs, models, steps
from farm.ledger.access import add_token
from farm.ledger.attempts import Finished
from farm.ledger.steps import set_phase
from farm.ledger.tables import Attempt, Event, Host, Job, Outbox, Step, Wakeup
from farm.local import Stack
from farm.wire.hosts import Attestation, Heartbeat

HOST, QUEUE, PROJECT = "bench-1", "build.x86_64", "default"
FAILED = Finished("failed", failure=ConversionFailed("The tool said no.").failure)


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="farm-ledger-"))
    folder.chmod(0o711)
    stack = Stack(folder, durable=False)
    try:
        yield stack.start_unsupervised(["postgres"]).database
    finally:
        stack.down()
        shutil.rmtree(folder)


@pytest.fixture
def ledger(database: str) -> Iterator[Ledger]:
    opened = Ledger(database)
    opened.migrate()
    with opened.transaction() as session:
        add_token(session, "token", "user")
        said = {
            **{"name": HOST, "profile": "x86-64-v3", "can_measure": True, "architecture": "x86_64", "emulated": False},
            **{"isolation": "full", "environments": {"builder": "lock"}, "serves": [QUEUE]},
        }
        hosts.attest(session, Attestation.model_validate(said))
    yield opened
    opened.close()


def planned(key: str, needs: str | None = None) -> PlannedStep:
    source = Artifact((FileRef("m.onnx", "0" * 64, 1),))
    return PlannedStep(
        key=key,
        stage="onnx-to-tflite",
        version="1",
        kind="convert",
        environment="builder",
        environment_digest="lock",
        options={},
        profile={},
        inputs=(Input("model", step=needs) if needs else Input("model", artifact=source),),
        queue=QUEUE,
        title=key,
        max_runtime_seconds=60.0,
        memory_bytes=1 << 30,
    )


def new_job(session: Session, wanted: Sequence[PlannedStep] = ()) -> Job:
    job, _ = jobs.accept(session, PROJECT, {}, request_digest="same")
    steps.enlist(session, job, wanted)
    return job


def row_of(session: Session, job: Job, key: str) -> Step:
    return session.get_one(Step, steps.states_of(session, job.id)[key].step)


def claimed(ledger: Ledger, wanted: Sequence[PlannedStep]) -> tuple[Job, str, str, str]:
    """Have a job whose first step runs: job, step, attempt and fencing token."""
    with ledger.transaction() as session:
        job = new_job(session, wanted)
        step = row_of(session, job, wanted[0].key)
        steps.dispatch(session, [step.id])
    with ledger.transaction() as session:
        attempt, _, _ = attempts.claim(session, step_id=step.id, number=1, host=HOST, lease_s=60)
        return job, step.id, attempt.id, attempt.fencing_token


def finish(session: Session, attempt: str, token: str, finished: Finished) -> None:
    attempts.finish(session, attempt, token, finished, max_attempts=3, backoff_s=0)


def phase_of(ledger: Ledger, step: str) -> str:
    with ledger.transaction() as session:
        return session.get_one(Step, step).phase


def while_open(ledger: Ledger, first: Callable[[Session], Any], second: Callable[[Session], Any]) -> tuple[Any, Any]:
    """Run `second` in a transaction of its own while that of `first` has done its work and not committed."""
    with ThreadPoolExecutor(1) as pool:
        with ledger.transaction() as session:
            done = first(session)
            session.flush()
            other: Future[Any] = pool.submit(ledger.run, second)
            until_blocked_or_done(session, other)
        return done, other.result(timeout=20)


def until_blocked_or_done(session: Session, other: Future[Any]) -> None:
    """Wait until PostgreSQL says that somebody waits for a lock, or there was no need to."""
    blocked = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    for _ in range(500):
        if other.done() or session.scalar(blocked):
            return
        session.execute(select(func.pg_sleep(0.01)))
    raise AssertionError("neither blocked nor done")


def woken(ledger: Ledger, job: str) -> bool:
    with ledger.transaction() as session:
        return session.scalar(select(func.count()).select_from(Wakeup).where(Wakeup.job_id == job)) > 1


def test_a_step_that_ends_while_a_job_takes_it_over_wakes_that_job(ledger: Ledger) -> None:
    _, _, attempt, token = claimed(ledger, [planned("ends")])

    second, _ = while_open(
        ledger, lambda s: new_job(s, [planned("ends")]), lambda s: finish(s, attempt, token, Finished("succeeded"))
    )

    assert woken(ledger, second.id)


def test_a_step_taken_over_while_its_job_is_cancelled_goes_on(ledger: Ledger) -> None:
    first, step, _, _ = claimed(ledger, [planned("wanted")])

    while_open(ledger, lambda s: new_job(s, [planned("wanted")]), lambda s: jobs.cancel(s, PROJECT, first.id).id)

    assert phase_of(ledger, step) == "running"


def test_a_step_cancelled_while_a_job_wants_it_is_made_anew(ledger: Ledger) -> None:
    first, step, _, _ = claimed(ledger, [planned("late")])

    _, second = while_open(
        ledger, lambda s: jobs.cancel(s, PROJECT, first.id).id, lambda s: new_job(s, [planned("late")])
    )

    assert phase_of(ledger, step) == "cancelled"
    with ledger.transaction() as session:
        assert row_of(session, session.merge(second), "late").phase == "waiting"


def test_of_two_jobs_cancelled_at_once_the_second_stops_what_both_wanted(ledger: Ledger) -> None:
    first, step, _, _ = claimed(ledger, [planned("both")])
    with ledger.transaction() as session:
        second = new_job(session, [planned("both")])

    while_open(ledger, lambda s: jobs.cancel(s, PROJECT, first.id).id, lambda s: jobs.cancel(s, PROJECT, second.id).id)

    assert phase_of(ledger, step) == "cancelled"


def test_a_step_that_waits_for_a_failed_one_is_not_taken_over(ledger: Ledger) -> None:
    """Between the failure and the first job's next move, a second job wants both again."""
    chain = [planned("need"), planned("after", needs="need")]
    first, _, attempt, token = claimed(ledger, chain)
    with ledger.transaction() as session:
        finish(session, attempt, token, FAILED)

    with ledger.transaction() as session:
        second = new_job(session, chain)
        assert [row_of(session, second, key).phase for key in ("need", "after")] == ["waiting", "waiting"]
        assert row_of(session, first, "after").phase == "skipped"


def test_an_attempt_claimed_since_the_host_spoke_is_stopped_too(ledger: Ledger) -> None:
    job, _, attempt, _ = claimed(ledger, [planned("fresh")])
    with ledger.transaction() as session:
        jobs.cancel(session, PROJECT, job.id)

    with ledger.transaction() as session:
        stop = hosts.hear(session, Heartbeat(name=HOST, running=[]), lease_s=60).stop
        running = session.scalars(select(Attempt.id).where(Attempt.state == "stopping")).all()

    assert attempt in running
    assert attempt in stop


def test_one_idempotency_key_at_once_brings_one_job(ledger: Ledger) -> None:
    def accept(session: Session) -> tuple[str, bool]:
        job, is_new = jobs.accept(session, PROJECT, {}, request_digest="same", idempotency_key="key-1")
        return job.id, is_new

    first, second = while_open(ledger, accept, accept)

    assert first == (second[0], True)
    assert second[1] is False


def test_a_job_is_cancelled_while_its_host_finishes(ledger: Ledger) -> None:
    """Both lock the step before the attempt; else each would wait for what the other one holds."""
    job, step, attempt, token = claimed(ledger, [planned("crossed")])

    def finish_once() -> None:
        with ledger.transaction() as session:
            finish(session, attempt, token, Finished("succeeded"))

    with ThreadPoolExecutor(1) as pool:
        with ledger.transaction() as session:
            session.get_one(Step, step, with_for_update={"key_share": True})
            other: Future[Any] = pool.submit(finish_once)
            until_blocked_or_done(session, other)
            jobs.cancel(session, PROJECT, job.id)
        other.result(timeout=20)

    assert phase_of(ledger, step) == "cancelled"


def test_a_lease_runs_out_while_its_job_is_cancelled(ledger: Ledger) -> None:
    job, step, attempt, _ = claimed(ledger, [planned("expired")])
    with ledger.transaction() as session:
        session.get_one(Attempt, attempt).lease_until = func.now() - timedelta(seconds=1)

    def lose_once() -> None:
        with ledger.transaction() as session:
            attempts.lose_expired(session, max_attempts=3)

    with ThreadPoolExecutor(1) as pool:
        with ledger.transaction() as session:
            session.get_one(Step, step, with_for_update={"key_share": True})
            other: Future[Any] = pool.submit(lose_once)
            until_blocked_or_done(session, other)
            jobs.cancel(session, PROJECT, job.id)
        other.result(timeout=20)
    lose_once()

    assert phase_of(ledger, step) == "cancelled"
    with ledger.transaction() as session:
        assert session.get_one(Attempt, attempt).state == "lost"


def test_a_submitted_models_inspection_outlives_a_job_that_shared_it(ledger: Ledger) -> None:
    job, step, _, _ = claimed(ledger, [planned("inspected")])
    with ledger.transaction() as session:
        models.register(session, PROJECT, "m.onnx", Artifact((FileRef("m.onnx", "0" * 64, 1),)), planned("inspected"))

    with ledger.transaction() as session:
        jobs.cancel(session, PROJECT, job.id)

    assert phase_of(ledger, step) == "running"


def measuring(key: str) -> PlannedStep:
    return replace(planned(key), stage="measure-onnxruntime", kind="measure")


def measured(*reasons: str) -> Finished:
    conditions = {"valid": not reasons, "reasons": list(reasons), "host": HOST, "cool_down_s": 30.0}
    return Finished("succeeded", facts={"conditions": conditions})


def test_an_invalid_measurement_is_taken_once_more_after_its_pause_and_then_stands(ledger: Ledger) -> None:
    job, step, attempt, token = claimed(ledger, [measuring("hot")])
    again = Retaking(most=1)

    with ledger.transaction() as session:
        attempts.finish(session, attempt, token, measured("hot"), max_attempts=3, backoff_s=0, retaking=again)
    with ledger.transaction() as session:
        row = session.get_one(Step, step)
        message = session.scalars(select(Outbox).where(Outbox.step_id == step).order_by(Outbox.id.desc())).first()
        assert (row.phase, row.attempts, message and message.attempt) == ("ready", 1, 2)
        assert message is not None
        assert message.not_before > datetime.now(UTC) + timedelta(seconds=20)
        second, _, _ = attempts.claim(session, step_id=step, number=2, host=HOST, lease_s=60)
        attempt, token = second.id, second.fencing_token
    with ledger.transaction() as session:
        attempts.finish(session, attempt, token, measured("hot"), max_attempts=3, backoff_s=0, retaking=again)
    with ledger.transaction() as session:
        row = session.get_one(Step, step)
        assert row.phase == "succeeded"
        assert row.facts["conditions"]["reasons"] == ["hot"]
        assert row.facts["conditions"]["earlier"] == [{"reasons": ["hot"], "cool_down_s": 30.0, "host": HOST}]
        assert [a.state for a in session.scalars(select(Attempt).where(Attempt.step_id == step))] == [
            "invalid",
            "succeeded",
        ]
        assert jobs.get(session, PROJECT, job.id).id == job.id


def test_a_step_that_waits_for_a_hosts_lock_says_so_in_its_jobs_progress(ledger: Ledger) -> None:
    with ledger.transaction() as session:
        job = new_job(session, [measuring("waits")])
        step = row_of(session, job, "waits")
        steps.dispatch(session, [step.id])
        set_phase(session, step, StepPhase.PUBLISHED, published=datetime.now(UTC))
    with ledger.transaction() as session:
        hosts.hear(session, Heartbeat(name=HOST, waiting=[step.id]), lease_s=60)
        assert jobs.view(session, jobs.get(session, PROJECT, job.id)).progress.running == []
        session.get_one(Step, step.id).published = datetime.now(UTC) - timedelta(seconds=3)
        session.get_one(Host, HOST).last_heartbeat = datetime.now(UTC) - timedelta(seconds=5)
    elsewhere = Heartbeat(name=HOST, waiting=[step.id], lock_held_elsewhere=True)
    for said in (Heartbeat(name=HOST, waiting=[step.id]), elsewhere):
        with ledger.transaction() as session:
            hosts.hear(session, said, lease_s=60)
            (line,) = jobs.view(session, jobs.get(session, PROJECT, job.id)).progress.running
            goes_first = "another farm on its machine holds it" if said is elsewhere else "its other work goes first"
            assert line == f"waits @ {HOST}, waiting for the host's lock: {goes_first}"
    with ledger.transaction() as session:
        told = [event.data for event in session.scalars(select(Event).where(Event.job_id == job.id))]

    assert [data["step"] for data in told if data.get("waits_for") == "host-lock"] == [step.id]

    with ledger.transaction() as session:
        hosts.hear(session, Heartbeat(name=HOST), lease_s=60)
        assert jobs.view(session, jobs.get(session, PROJECT, job.id)).progress.running == []


def other_host(ledger: Ledger, name: str) -> None:
    with ledger.transaction() as session:
        said = session.get_one(Host, HOST).attestation | {"name": name}
        hosts.attest(session, Attestation.model_validate(said))


def ready(ledger: Ledger, key: str) -> str:
    with ledger.transaction() as session:
        step = row_of(session, new_job(session, [planned(key)]), key)
        steps.dispatch(session, [step.id])
        return step.id


def test_a_claim_that_is_under_way_when_its_host_is_quarantined_is_taken_back(ledger: Ledger) -> None:
    """Else the host that is trusted with nothing would keep what it claimed a moment ago."""
    other_host(ledger, "bad-1")
    step = ready(ledger, "claimed-in-time")

    while_open(
        ledger,
        lambda s: attempts.claim(s, step_id=step, number=1, host="bad-1", lease_s=60),
        lambda s: hosts.quarantine(s, "bad-1", "its fan died", max_attempts=3),
    )

    assert phase_of(ledger, step) == "ready"
    with ledger.transaction() as session:
        assert session.scalars(select(Attempt.state).where(Attempt.host == "bad-1")).all() == ["lost"]


def test_a_claim_that_meets_a_quarantine_under_way_waits_for_it_and_is_refused(ledger: Ledger) -> None:
    other_host(ledger, "bad-2")
    step = ready(ledger, "claimed-too-late")

    with pytest.raises(Conflict, match="Host bad-2 is quarantined: its fan died"):
        while_open(
            ledger,
            lambda s: hosts.quarantine(s, "bad-2", "its fan died", max_attempts=3),
            lambda s: attempts.claim(s, step_id=step, number=1, host="bad-2", lease_s=60),
        )

    assert phase_of(ledger, step) == "ready"


def test_a_steps_age_is_of_the_ledgers_clock(ledger: Ledger) -> None:
    job, step, attempt, token = claimed(ledger, [planned("aged")])
    with ledger.transaction() as session:
        finish(session, attempt, token, Finished("succeeded"))
    with ledger.transaction() as session:
        session.get_one(Step, step).ended = func.now() - timedelta(seconds=90)

    with ledger.transaction() as session:
        assert steps.states_of(session, job.id)["aged"].age_s == pytest.approx(90, abs=0.5)
