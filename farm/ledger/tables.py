"""Tables of the ledger. Times are aware UTC; JSON columns hold what farm.domain.codec or pydantic encoded."""

from __future__ import annotations

import base64
import secrets
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Text, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Json = dict[str, Any]


def new_id(prefix: str) -> str:
    """Make an id that is readable and not guessable: 80 random bits."""
    return f"{prefix}-{base64.b32encode(secrets.token_bytes(10)).decode().lower()}"


class Base(DeclarativeBase):
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy's own declaration)
        str: Text,
        datetime: TIMESTAMP(timezone=True),
        Json: JSONB,
        list[Any]: JSONB,
        list[str]: JSONB,
        dict[str, str]: JSONB,
    }


class Project(Base):
    __tablename__ = "project"
    id: Mapped[str] = mapped_column(primary_key=True)
    created: Mapped[datetime] = mapped_column(server_default=func.now())


class Token(Base):
    """A bearer token by its sha256; `host` binds a host's token to that host's name once it has attested."""

    __tablename__ = "token"
    sha256: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    role: Mapped[str]
    host: Mapped[str | None]
    created: Mapped[datetime] = mapped_column(server_default=func.now())
    revoked: Mapped[datetime | None]


class Blob(Base):
    """Content that a project may use: verified by digest, or declared and not yet proven (`verified` null)."""

    __tablename__ = "blob"
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"), primary_key=True)
    sha256: Mapped[str] = mapped_column(primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    verified: Mapped[datetime | None]


class Upload(Base):
    """A multipart upload in flight; `parts` are the acknowledged ones: {number: etag}."""

    __tablename__ = "upload"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    sha256: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    multipart_id: Mapped[str]
    parts: Mapped[dict[str, str]] = mapped_column(default=dict)
    created: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (UniqueConstraint("project_id", "sha256"),)


class Model(Base):
    """A submitted model by digest; its facts are those of its inspect step."""

    __tablename__ = "model"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    digest: Mapped[str]
    file_name: Mapped[str]
    artifact: Mapped[Json]
    inspect_step: Mapped[str] = mapped_column(ForeignKey("step.id"))
    created: Mapped[datetime] = mapped_column(server_default=func.now())


class Job(Base):
    __tablename__ = "job"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    name: Mapped[str | None]
    labels: Mapped[dict[str, str]]
    state: Mapped[str]
    request: Mapped[Json]
    reasons: Mapped[list[Any]] = mapped_column(default=list)
    plan: Mapped[Json | None]
    snapshot: Mapped[Json | None]
    answers: Mapped[list[Any] | None]
    retry_of: Mapped[str | None]
    idempotency_key: Mapped[str | None]
    request_digest: Mapped[str]
    created: Mapped[datetime] = mapped_column(server_default=func.now())
    ended: Mapped[datetime | None]
    __table_args__ = (
        Index(
            "job_idempotency",
            "project_id",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
        Index("job_newest", "project_id", "created"),
    )


class Result(Base):
    __tablename__ = "result"
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    listed: Mapped[bool]
    branch: Mapped[int] = mapped_column(default=0)
    concluded: Mapped[bool] = mapped_column(default=False)
    published: Mapped[bool] = mapped_column(default=False)
    verdict: Mapped[str | None]
    body: Mapped[Json | None]
    documents: Mapped[list[Any]] = mapped_column(default=list, server_default="[]")
    __table_args__ = (
        Index("result_unpublished", "job_id", postgresql_where=text("concluded AND listed AND NOT published")),
    )


class Step(Base):
    """A step; among rows of one project that are not lost, the key is unique."""

    __tablename__ = "step"
    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    key: Mapped[str]
    reuse_key: Mapped[str | None]
    stage: Mapped[str]
    kind: Mapped[str]
    planned: Mapped[Json]
    queue: Mapped[str]
    title: Mapped[str]
    phase: Mapped[str]
    attempts: Mapped[int] = mapped_column(default=0)
    ready: Mapped[datetime | None]
    published: Mapped[datetime | None]
    started: Mapped[datetime | None]
    ended: Mapped[datetime | None]
    host: Mapped[str | None]
    isolation: Mapped[str | None]
    run_time_s: Mapped[float | None]
    outputs: Mapped[Json] = mapped_column(default=dict)
    facts: Mapped[Json] = mapped_column(default=dict)
    contract: Mapped[Json | None]
    failure: Mapped[Json | None]
    reproduce: Mapped[str | None]
    tool_versions: Mapped[dict[str, str]] = mapped_column(default=dict)
    __table_args__ = (
        Index(
            "step_key",
            "project_id",
            "key",
            unique=True,
            postgresql_where=text("phase NOT IN ('failed', 'skipped', 'cancelled')"),
        ),
        Index("step_reuse", "project_id", "reuse_key", "ended", postgresql_where=text("reuse_key IS NOT NULL")),
        Index("step_unclaimed", "queue", postgresql_where=text("phase IN ('ready', 'published')")),
        Index("step_pace", "queue", "ended", postgresql_where=text("phase = 'succeeded'")),
    )


class StepNeed(Base):
    """An input of a step that another step makes."""

    __tablename__ = "step_need"
    step_id: Mapped[str] = mapped_column(ForeignKey("step.id"), primary_key=True)
    needs_id: Mapped[str] = mapped_column(ForeignKey("step.id"), primary_key=True, index=True)


class JobStep(Base):
    """A job's interest in a step, under the key its plan has for it; `reused` when another job had made the row."""

    __tablename__ = "job_step"
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    step_id: Mapped[str] = mapped_column(ForeignKey("step.id"), index=True)
    reused: Mapped[bool]


class Attempt(Base):
    __tablename__ = "attempt"
    id: Mapped[str] = mapped_column(primary_key=True)
    step_id: Mapped[str] = mapped_column(ForeignKey("step.id"), index=True)
    number: Mapped[int]
    host: Mapped[str]
    fencing_token: Mapped[str]
    state: Mapped[str]
    claimed: Mapped[datetime] = mapped_column(server_default=func.now())
    lease_until: Mapped[datetime]
    ended: Mapped[datetime | None]
    log: Mapped[Json | None]
    failure: Mapped[Json | None]
    isolation: Mapped[str | None]
    __table_args__ = (
        UniqueConstraint("step_id", "number"),
        Index("attempt_leases", "lease_until", postgresql_where=text("state = 'running'")),
        Index("attempt_running", "host", postgresql_where=text("state IN ('running', 'stopping')")),
        Index("attempt_host_failures", "ended", postgresql_where=text("failure->>'who_must_act' = 'host'")),
    )


class Outbox(Base):
    """A message to send: written with the transition that needs it, deleted once the broker has it."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    step_id: Mapped[str] = mapped_column(ForeignKey("step.id"))
    attempt: Mapped[int]
    not_before: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


class Wakeup(Base):
    """A job that control should look at."""

    __tablename__ = "wakeup"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    job_id: Mapped[str]


class Host(Base):
    """A host that attested; `instance` is the worker process that has its name, `notice` what its operator should know.

    `released` is when it last left quarantine: what came before is not held against it any more.
    """

    __tablename__ = "host"
    name: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str | None] = mapped_column(ForeignKey("project.id"))
    instance: Mapped[str | None]
    notice: Mapped[str | None]
    quarantined: Mapped[datetime | None]
    quarantine_reason: Mapped[str | None]
    released: Mapped[datetime | None]
    joined: Mapped[datetime] = mapped_column(server_default=func.now())
    attestation: Mapped[Json]
    attested: Mapped[datetime] = mapped_column(server_default=func.now())
    last_heartbeat: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
    running: Mapped[list[str]] = mapped_column(default=list)
    waiting: Mapped[list[str]] = mapped_column(default=list)
    lock_held_elsewhere: Mapped[bool] = mapped_column(default=False)


class Enrolment(Base):
    """A place for a host, made before its worker ever spoke; its tokens are rows of `token` with its name."""

    __tablename__ = "enrolment"
    name: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    profile: Mapped[str]
    created: Mapped[datetime] = mapped_column(server_default=func.now())
    revoked: Mapped[datetime | None]


class SelfTest(Base):
    """A self-test of a host under one runtime: asked for, run as a job of its own, judged; rows are the history."""

    __tablename__ = "self_test"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    host: Mapped[str] = mapped_column(ForeignKey("host.name"))
    runtime: Mapped[str]
    asked: Mapped[datetime] = mapped_column(server_default=func.now())
    asked_by: Mapped[str]
    job_id: Mapped[str | None] = mapped_column(ForeignKey("job.id"))
    ended: Mapped[datetime | None]
    verdict: Mapped[str] = mapped_column(default="running")
    reasons: Mapped[list[str]] = mapped_column(default=list)
    figures: Mapped[Json] = mapped_column(default=dict)
    __table_args__ = (
        Index("self_test_history", "host", "asked"),
        Index("self_test_open", "id", postgresql_where=text("verdict = 'running'")),
        Index("self_test_job", "job_id"),
    )


class Event(Base):
    __tablename__ = "event"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"))
    kind: Mapped[str]
    data: Mapped[Json]
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (Index("event_of_job", "job_id", "id"),)
