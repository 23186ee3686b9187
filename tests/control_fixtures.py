"""What the tests of control share: the services, a ledger with one host, and jobs with planned steps."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from pydantic import SecretStr
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from farm.domain.artifact import Artifact, FileRef
from farm.domain.codec import encode
from farm.domain.plan import Input, Plan, PlannedResult, PlannedStep
from farm.ledger import Ledger, hosts, jobs, steps
from farm.ledger.access import add_token
from farm.ledger.tables import Base, Job, Result, Step
from farm.local import services
from farm.settings import Settings
from farm.store import Store
from farm.wire.hosts import Attestation

HOST, QUEUE, PROJECT, LOCK = "bench-1", "build.x86_64", "default", "lock"


@dataclass(frozen=True, slots=True)
class Farm:
    """A farm without processes: the test does what control would do."""

    config: Settings
    ledger: Ledger
    store: Store


@pytest.fixture(scope="module")
def whole_farm() -> Iterator[Farm]:
    with services() as info:
        config = Settings(
            database_url=SecretStr(info.database),
            redis_url=SecretStr(info.redis),
            s3_endpoint=info.s3.endpoint,
            s3_bucket=info.s3.bucket,
            s3_access_key=SecretStr(info.s3.access_key),
            s3_secret_key=SecretStr(info.s3.secret_key),
        )
        ledger = Ledger(info.database)
        ledger.migrate()
        yield Farm(config, ledger, Store(config))
        ledger.close()


@pytest.fixture
def farm(whole_farm: Farm) -> Farm:
    """Begin with an empty ledger and one live host."""
    with whole_farm.ledger.transaction() as session:
        tables = ", ".join(f'"{table.name}"' for table in Base.metadata.sorted_tables)
        session.execute(text(f"TRUNCATE {tables} CASCADE"))
        add_token(session, "token", "user")
        attest(session)
    return whole_farm


def attest(session: Session, lock: str = LOCK, **environments: str) -> None:
    said = {
        **{"name": HOST, "profile": "x86-64-v3", "can_measure": True, "architecture": "x86_64", "emulated": False},
        **{"isolation": "full", "environments": {"builder": lock, **environments}},
        **{"serves": [QUEUE, "target.x86-64-v3"]},
    }
    hosts.attest(session, Attestation.model_validate(said))


def planned(key: str) -> PlannedStep:
    return PlannedStep(
        key=key,
        stage="onnx-to-tflite",
        version="1",
        kind="convert",
        environment="builder",
        environment_digest=LOCK,
        options={},
        profile={},
        inputs=(Input("model", artifact=Artifact((FileRef("m.onnx", "0" * 64, 1),))),),
        queue=QUEUE,
        title=key,
        max_runtime_seconds=60.0,
        memory_bytes=1 << 30,
    )


def new_job(session: Session, wanted: Sequence[PlannedStep] = ()) -> Job:
    job, _ = jobs.accept(session, PROJECT, {}, request_digest=uuid.uuid4().hex)
    steps.enlist(session, job, wanted)
    return job


def row_of(session: Session, job: Job, key: str) -> Step:
    return session.get_one(Step, steps.states_of(session, job.id)[key].step)


def concluded_job(session: Session, body: dict[str, object]) -> Job:
    """Have a job whose one result is concluded and waits for its publication."""
    job = new_job(session)
    job.state, job.plan = "running", encode(Plan({}, (PlannedResult("m", "t", "r", "float32", None, ()),)))
    session.add(Result(job_id=job.id, position=0, listed=True, concluded=True, verdict="ok", body=body))
    return job


def job_now(farm: Farm, job_id: str) -> Job:
    with farm.ledger.transaction() as session:
        return session.scalars(select(Job).where(Job.id == job_id)).one()
