"""Models: what was submitted for inspection, apart from any job."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from farm.domain.artifact import Artifact
from farm.domain.codec import encode
from farm.domain.errors import NotFound
from farm.domain.plan import PlannedStep
from farm.domain.progress import StepPhase
from farm.ledger import steps
from farm.ledger.tables import Model, Step, new_id
from farm.wire.base import FailureEntry
from farm.wire.jobs import ModelView


def register(session: Session, project: str, file_name: str, artifact: Artifact, inspection: PlannedStep) -> Model:
    """Store a model and have it inspected; the same digest under the same name is the same model."""
    step_id = steps.ensure(session, project, inspection)
    found = session.scalar(
        select(Model).where(Model.project_id == project, Model.digest == artifact.digest, Model.inspect_step == step_id)
    )
    if found is not None:
        return found
    model = Model(
        id=new_id("model"),
        project_id=project,
        digest=artifact.digest,
        file_name=file_name,
        artifact=encode(artifact),
        inspect_step=step_id,
    )
    session.add(model)
    session.flush()
    return model


def get(session: Session, project: str, model_id: str) -> Model:
    """Find a model of this project.

    Raises:
        NotFound: no such model here.
    """
    model = session.get(Model, model_id)
    if model is None or model.project_id != project:
        raise NotFound(f"There is no model {model_id} in project {project}.")
    return model


def view(session: Session, model: Model) -> ModelView:
    step = session.get_one(Step, model.inspect_step)
    failure = steps.failure_of(step)
    states = {StepPhase.SUCCEEDED: "inspected", StepPhase.FAILED: "failed", StepPhase.CANCELLED: "failed"}
    return ModelView.model_validate(
        {
            "model": model.id,
            "digest": model.digest,
            "state": states.get(StepPhase(step.phase), "inspecting"),
            "facts": step.facts or None,
            "failure": FailureEntry.of(failure) if failure else None,
        }
    )
