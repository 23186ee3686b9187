"""Self-tests of hosts: those that are due are asked for, begun as pinned jobs, and judged once these have ended."""

from __future__ import annotations

from typing import Any

import structlog
from sqlalchemy.orm import Session

from farm import catalog
from farm.domain.artifact import FileRef
from farm.domain.codec import digest
from farm.domain.selftest import Finding, figures_of, judge
from farm.intake import begin
from farm.ledger import files, hosts, jobs, selftests
from farm.ledger.access import DEFAULT_PROJECT
from farm.ledger.tables import Host, Job, SelfTest
from farm.settings import Settings
from farm.store import Store
from farm.wire.base import ArtifactEntry, FileEntry
from farm.wire.jobs import JobRequest, ModelRequest

log = structlog.get_logger()
LABEL = "self-test"


def ask_due(session: Session, config: Settings) -> bool:
    """Ask for the tests that are due; False, since nothing more is due now."""
    if config.self_test_every_s > 0:
        selftests.ask_due(session, every_s=config.self_test_every_s, grace_s=config.host_grace_s)
    return False


def begin_tests(session: Session, store: Store, config: Settings) -> bool:
    """Make a job of each test that was asked for; False, since nothing more is due now."""
    for row in selftests.to_begin(session):
        host = session.get_one(Host, row.host)
        project = host.project_id or DEFAULT_PROJECT
        model = _stored(session, store, project, row.runtime)
        request = JobRequest(
            models=[ModelRequest(artifact=ArtifactEntry(files=[model]), name="reference", file_name=model.name)],
            targets=[host.attestation["profile"]],
            runtimes=[row.runtime],
            recipes=["float32"],
            host=row.host,
            name=f"self-test of {row.host}",
            labels={LABEL: row.host},
        )
        said = request.model_dump(mode="json")
        job, _ = jobs.accept(session, project, said, request_digest=digest(said))
        row.job_id = job.id
        session.flush()
        begin(session, job, request, hosts.live_hosts(session, grace_s=config.host_grace_s, also=row.host))
    return False


def _stored(session: Session, store: Store, project: str, runtime: str) -> FileEntry:
    """See that the pinned model lies in the project's content, and name it."""
    path = catalog.self_test_model(runtime)
    ref = store.of(project).put_blob(path.read_bytes(), path.name)
    files.record_blob(session, project, FileRef(ref.name, ref.sha256, ref.size_bytes))
    return FileEntry.of(ref)


def judge_tests(session: Session, config: Settings) -> bool:
    """Judge the tests whose job has ended; False, since nothing more is due now."""
    for row, job in selftests.ended(session):
        figures, finding = _finding(session, row, job)
        row.figures = figures | {"drifts": finding.drifts}
        row.verdict, row.reasons, row.ended = finding.verdict, list(finding.reasons), job.ended
        log.info("A self-test ended.", action="self-test", host=row.host, runtime=row.runtime, verdict=row.verdict)
        session.flush()
        if finding.quarantines:
            reason = f"Self-test under {row.runtime}: {' '.join(finding.reasons)}"
            hosts.quarantine(session, row.host, reason, max_attempts=config.max_attempts)
        elif finding.repeats:
            selftests.ask_again(session, row)
    return False


def _finding(session: Session, row: SelfTest, job: Job) -> tuple[dict[str, Any], Finding]:
    bodies = [result.body for result in jobs.results_of(session, job.id) if result.listed and result.body]
    if job.state in ("refused", "cancelled") or not bodies:
        told = "; ".join(str(reason.get("message")) for reason in job.reasons) or f"its job {job.id} was {job.state}"
        figures = {"failure": job.state, "message": told}
        return figures, judge(row.host, figures, ())
    figures = figures_of(bodies[0])
    return figures, judge(row.host, figures, selftests.earlier_figures(session, row))
