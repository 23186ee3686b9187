"""Move one job on: apply what the domain decides until nothing is left to do now."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from farm.control.guard import failing
from farm.control.planning import plan_job
from farm.domain.answers import answers_of
from farm.domain.codec import decode, encode
from farm.domain.conclusion import DROPPED, conclude
from farm.domain.decision import Decision, decide
from farm.domain.mixing import grown
from farm.domain.plan import Plan
from farm.domain.progress import Progress, States, StepPhase, StepState
from farm.ledger import jobs, steps
from farm.ledger.events import PUBLISHING, take_wakeups, tell
from farm.ledger.session import notify
from farm.ledger.tables import Job, Result
from farm.settings import Settings
from farm.wire.jobs import JobRequest, JobState


def advance_next(session: Session, config: Settings) -> bool:
    """Take one job that something woke, and move it on; False when none waits."""
    taken = take_wakeups(session, limit=1)
    for job_id in taken:
        job = session.scalar(select(Job).where(Job.id == job_id).with_for_update(key_share=True))
        if job is not None and job.ended is None:
            with failing(session, job, "advance"):
                advance(session, job, config)
    return bool(taken)


def advance(session: Session, job: Job, config: Settings) -> None:
    if job.plan is None:
        steps.dispatch(session, [s.step for s in steps.states_of(session, job.id).values()])
        if not plan_job(session, job, config) or job.plan is None:
            return
    age_s = JobRequest.model_validate(job.request).max_measurement_age_s
    rows, plan, states = jobs.results_of(session, job.id), decode(Plan, job.plan), steps.states_of(session, job.id)
    while (decision := decide(plan, _progress(rows), states)) != Decision():
        plan = _grow(job, plan, rows, decision, states)
        _apply(session, job, plan, rows, decision, states, age_s)
        session.flush()
        states = steps.states_of(session, job.id)
    _settle(session, job, plan, rows, {key: state for key, state in states.items() if key in plan.steps})


def _grow(job: Job, plan: Plan, rows: Sequence[Result], decision: Decision, states: States) -> Plan:
    """Write the rounds that join the plan, each as the branch that its result works on now."""
    for position, count in decision.grow:
        plan, rows[position].branch = grown(plan, position, rows[position].branch, count, states)
    if decision.grow:
        job.plan = encode(plan)
    return plan


def _apply(
    session: Session,
    job: Job,
    plan: Plan,
    rows: Sequence[Result],
    decision: Decision,
    states: States,
    max_measurement_age_s: float,
) -> None:
    steps.skip(session, [states[key].step for key in decision.skip])
    for position, branch in decision.start:
        rows[position].branch = branch
    for position, _ in (*decision.start, *decision.grow):
        keys = plan.results[position].branches[rows[position].branch].steps
        steps.enlist(session, job, [plan.steps[k] for k in keys], max_measurement_age_s=max_measurement_age_s)
    shrinking = [plan.steps[key] for key in decision.reproduce]
    steps.enlist(session, job, shrinking, max_measurement_age_s=max_measurement_age_s)
    steps.dispatch(session, [states[key].step for key in decision.dispatch])
    for position in decision.conclude:
        row = rows[position]
        row.body = conclude(plan, _progress(rows), position, states)
        row.verdict = row.body["verdict"]
        row.concluded = True
        row.listed = row.listed and DROPPED not in row.body
        if row.listed:
            named = {
                name: row.body[name] for name in ("model", "target", "target_runtime", "recipe", "state", "verdict")
            }
            tell(session, job.id, "result", named)
            notify(session, PUBLISHING)


def _settle(session: Session, job: Job, plan: Plan, rows: Sequence[Result], states: States) -> None:
    """Say that a job runs once a step of its plan has begun, or that it has ended with its last publication."""
    listed = [row for row in rows if row.listed]
    if plan.goals and job.answers is None and all(row.concluded for row in rows):
        job.answers = answers_of(plan, [row.body or {} for row in rows])
    if all(row.concluded for row in rows) and all(row.published for row in listed):
        jobs.change_state(session, job, _end_state(plan, listed))
    elif job.state == "planned" and any(_has_begun(state) for state in states.values()):
        jobs.change_state(session, job, "running")


def _has_begun(state: StepState) -> bool:
    """Tell whether a step runs, for whichever job, or was begun for this one."""
    return state.phase is StepPhase.RUNNING or (state.attempts > 0 and not state.reused)


def _end_state(plan: Plan, listed: Sequence[Result]) -> JobState:
    """Count failures; that of a candidate which nobody named is told by the answer and spoils no job with others."""
    failed = sum(row.verdict == "failed" for row in listed)
    if failed < len(listed):
        failed = sum(row.verdict == "failed" for row in listed if not plan.results[row.position].searched)
    if failed == 0:
        return "succeeded"
    return "failed" if failed == len(listed) else "partial"


def _progress(rows: Sequence[Result]) -> list[Progress]:
    return [Progress(row.branch, row.concluded) for row in rows]
