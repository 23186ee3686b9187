"""What hosts call: attest, heartbeat, claim, store, report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from farm.api.context import Context, HostCaller, Parts, User
from farm.api.notices import wait_for
from farm.api.uploads import proven, ticket
from farm.domain.artifact import Artifact
from farm.domain.errors import Conflict, Unauthorized
from farm.domain.plan import Input, PlannedStep
from farm.domain.remeasuring import Retaking
from farm.ledger import attempts, elsewhere, hosts, steps
from farm.ledger.access import Caller
from farm.ledger.attempts import Finished
from farm.ledger.belief import believable
from farm.ledger.elsewhere import ELSEWHERE
from farm.ledger.events import host_topic
from farm.ledger.host_views import host_views
from farm.ledger.tables import Attempt, Step
from farm.store import Store
from farm.wire.base import FileEntry
from farm.wire.hosts import (
    Attestation,
    Claim,
    ClaimedInput,
    ClaimRequest,
    DeclaredOutputs,
    Heartbeat,
    HeartbeatAnswer,
    HostView,
    Leave,
    Outcome,
)
from farm.wire.transfers import Download, UploadTicket

router = APIRouter(tags=["hosts"])
BEATS_MISSED = 2
"""A worker that missed so many heartbeats has its name no longer for itself."""


@router.get("/hosts")
def list_hosts(parts: Parts, caller: User) -> list[HostView]:
    """List every host that ever attested, live or not."""
    return parts.ledger.run(
        lambda session: host_views(session, grace_s=parts.config.host_grace_s, project=caller.project)
    )


@router.post("/hosts/attest", status_code=204)
def attest(said: Attestation, parts: Parts, caller: HostCaller) -> Response:
    """Record what a worker proved about its machine; 409 when its name is another worker's."""
    _is_self(parts, caller, said.name)
    busy_s = BEATS_MISSED * parts.config.heartbeat_s + 1.0
    try:
        parts.ledger.run(lambda session: hosts.attest(session, said, project=caller.project, busy_s=busy_s))
    except Conflict as error:
        text = f"Another worker asked for the name {said.name} at {_now()} and was turned away: {error.message}"
        parts.ledger.run(lambda session: hosts.note(session, said.name, text))
        raise
    return Response(status_code=204)


@router.post("/hosts/leave", status_code=204)
def leave(said: Leave, parts: Parts, caller: HostCaller) -> Response:
    """Give a name up at once, when a worker ends."""
    _is_self(parts, caller, said.name)
    parts.ledger.run(lambda session: hosts.leave(session, said.name, said.instance))
    return Response(status_code=204)


@router.post("/hosts/heartbeat")
async def heartbeat(said: Heartbeat, parts: Parts, caller: HostCaller) -> HeartbeatAnswer:
    """Extend leases and carry stops back, at once when there is one, else after `wait_s`."""
    _is_self(parts, caller, said.name)
    until = time.monotonic() + said.wait_s

    def hear(session: Session) -> HeartbeatAnswer:
        return hosts.hear(session, said, lease_s=parts.config.lease_s)

    with parts.notices.watch(host_topic(said.name)) as event:
        answer = first = await run_in_threadpool(parts.ledger.run, hear)
        while answer == first and not (first.stop or first.unknown_host or parts.notices.closing.is_set()):
            if (left_s := until - time.monotonic()) <= 0:
                break
            if await wait_for(event, left_s):
                answer = await run_in_threadpool(parts.ledger.run, hear)
    return answer


@router.post("/claims", status_code=201)
def claim(asked: ClaimRequest, parts: Parts, caller: HostCaller) -> Claim:
    """Lease a step's attempt to a host; 409 when it is stale, taken or cancelled."""
    _is_self(parts, caller, asked.host)

    def take(session: Session) -> tuple[Attempt, Step, PlannedStep, Mapping[str, Step]]:
        attempt, step, planned = attempts.claim(
            session, step_id=asked.step, number=asked.attempt, host=asked.host, lease_s=parts.config.lease_s
        )
        if step.project_id != caller.project:
            raise Unauthorized(f"Step {step.id} belongs to another project than your token.")
        return attempt, step, planned, steps.inputs_of(session, step)

    try:
        attempt, step, planned, makers = parts.ledger.run(take)
    except Conflict as refused:
        if ELSEWHERE in refused.evidence:
            parts.ledger.run(lambda session: elsewhere.pass_on(session, asked.step, asked.attempt))
        raise
    store = parts.store.of(step.project_id)
    return Claim(
        attempt=attempt.id,
        fencing_token=attempt.fencing_token,
        lease_s=parts.config.lease_s,
        step=step.id,
        stage=planned.stage,
        stage_version=planned.version,
        environment=planned.environment,
        options=dict(planned.options),
        profile=dict(planned.profile),
        target_profile=planned.target,
        inputs=[_claimed_input(store, given, makers) for given in planned.inputs],
        max_runtime_seconds=planned.max_runtime_seconds,
        memory_bytes=planned.memory_bytes,
    )


@router.post("/attempts/{attempt}/outputs")
def declare_outputs(attempt: str, declared: DeclaredOutputs, parts: Parts, caller: HostCaller) -> list[UploadTicket]:
    """Say how to send each file of an attempt that is still held."""
    parts.ledger.run(lambda session: attempts.held(session, attempt, declared.fencing_token).id)
    return [ticket(parts, caller.project, f.ref(), broken_put=declared.broken_put) for f in declared.files]


@router.post("/attempts/{attempt}/outcome", status_code=204)
def outcome(attempt: str, said: Outcome, parts: Parts, caller: HostCaller) -> Response:
    """End an attempt; what it stored is proven first, and a success that can't be is the host's failure."""
    stored = [f for output in said.outputs.values() for f in output.files] + ([said.log] if said.log else [])
    proven(parts, caller.project, [entry.ref() for entry in stored])
    config = parts.config

    def end(session: Session) -> None:
        attempts.finish(
            session,
            attempt,
            said.fencing_token,
            believable(session, attempt, _finished(said)),
            max_attempts=config.max_attempts,
            backoff_s=config.retry_backoff_s,
            retaking=Retaking(config.measurement_retries, config.measurement_cool_down_s),
        )

    parts.ledger.run(end)
    return Response(status_code=204)


def _finished(said: Outcome) -> Finished:
    return Finished(
        state=said.state,
        outputs={name: entry.artifact() for name, entry in said.outputs.items()},
        facts=said.facts,
        contract=said.contract,
        failure=said.failure.error().failure if said.failure else None,
        log=_log(said.log),
        reproduce=said.reproduce,
        isolation=said.isolation,
        run_time_s=said.run_time_s,
        tool_versions=said.tool_versions,
    )


def _log(entry: FileEntry | None) -> dict[str, Any] | None:
    return entry.model_dump() if entry else None


def _claimed_input(store: Store, given: Input, makers: Mapping[str, Step]) -> ClaimedInput:
    artifact, facts, contract = _made(given, makers)
    return ClaimedInput(
        role=given.role,
        is_tree=artifact.is_tree,
        files=[
            Download(name=f.name, sha256=f.sha256, size_bytes=f.size_bytes, url=store.presign_blob_get(f))
            for f in artifact.files
        ],
        facts=facts,
        contract=contract,
    )


def _made(given: Input, makers: Mapping[str, Step]) -> tuple[Artifact, dict[str, Any], dict[str, Any] | None]:
    if given.artifact is not None:
        return given.artifact, {}, None
    maker = makers.get(given.step or "")
    made = steps.outputs_of(maker).get(given.output) if maker else None
    if maker is None or made is None:
        raise Conflict(f"Input {given.role} is not there: step {given.step} gave no {given.output}.")
    return made, maker.facts, maker.contract


def _is_self(parts: Context, caller: Caller, name: str) -> None:
    """Hold a token that is bound to a host to that host; its operator is told who else tried."""
    if caller.host is None or caller.host == name:
        return
    text = f"A worker that calls itself {name} brought the token of {caller.host} at {_now()} and was turned away."
    parts.ledger.run(lambda session: hosts.note(session, caller.host or "", text))
    raise Unauthorized(
        f"This token is host {caller.host}'s; the call speaks for {name}.",
        remedy=f"Start that worker without FARM_HOST_NAME, or give it a token of its own: farm host enroll {name}.",
    )


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
