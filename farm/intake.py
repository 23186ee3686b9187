"""A submission in the planner's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from farm import catalog
from farm.domain.artifact import Artifact
from farm.domain.binding import inspect_step
from farm.domain.catalogue import LiveHost
from farm.domain.data import calibration_missing
from farm.domain.errors import Failure, FarmError
from farm.domain.plan import Input, PlannedStep
from farm.domain.planner import request_reasons
from farm.domain.recipe import BASELINE, RECIPES, SEARCHED
from farm.domain.scenario import Measuring, Scenario
from farm.domain.wanted import Wanted, World
from farm.ledger import jobs, steps
from farm.ledger.tables import Job
from farm.wire.base import FileEntry
from farm.wire.jobs import JobRequest, ModelRequest

AUTO = "auto"
"""Asked for as a recipe: the farm searches."""


def wanted_of(job_id: str, request: JobRequest) -> Wanted:
    named, searched = _recipes(request)
    return Wanted(
        job=job_id,
        targets=tuple(dict.fromkeys(request.targets)),
        runtimes=tuple(dict.fromkeys(request.runtimes)) if request.runtimes else None,
        recipes=named + searched,
        max_runtime_seconds=request.max_runtime_seconds,
        formats=tuple(dict.fromkeys(request.formats)) if request.formats else None,
        host=request.host,
        options=request.options,
        constraints=tuple(dict.fromkeys(request.constraints)),
        objective=request.objective,
        metrics=tuple(dict.fromkeys(model.metric for model in request.models if model.metric)),
        searched=searched,
        unscored=tuple(
            name
            for name, model in zip(model_names(request), request.models, strict=True)
            if model.evaluation is None and model.calibration is None
        ),
        measuring=_measuring(request),
        together=tuple(model_names(request)) if request.co_compile else (),
    )


def _measuring(request: JobRequest) -> Measuring:
    return Measuring(
        scenario=Scenario(request.scenario),
        threads=tuple(request.threads),
        sustained_s=request.sustained_s,
        samples_per_query=request.samples_per_query,
        target_qps=request.target_qps,
        latency_bound_ms=request.latency_bound_ms,
    )


def begin(session: Session, job: Job, request: JobRequest, hosts: tuple[LiveHost, ...]) -> None:
    """Have the files of a job that was just stored looked into, or refuse it with every reason."""
    world, wanted = catalog.world(hosts), wanted_of(job.id, request)
    reasons = [reason_of(r.failure, r.model) for r in request_reasons(wanted, world)]
    reasons += _uncalibrated(request, wanted)
    planned = []
    for name, model in zip(model_names(request), request.models, strict=True):
        try:
            planned += inspections(model, world)
        except FarmError as error:
            reasons.append(reason_of(error.failure, name))
    if reasons:
        jobs.change_state(session, job, "refused", reasons=reasons)
        return
    steps.enlist(session, job, planned)
    steps.dispatch(session, [state.step for state in steps.states_of(session, job.id).values()])


def _uncalibrated(request: JobRequest, wanted: Wanted) -> list[dict[str, Any]]:
    """Refuse what no inspection can save: all that is asked for calibrates, and no model has data."""
    named = [recipe for recipe in wanted.recipes if recipe in RECIPES and recipe not in wanted.searched]
    if wanted.searched or not named or not all(RECIPES[recipe].needs_calibration for recipe in named):
        return []
    if any(model.calibration for model in request.models):
        return []
    return [reason_of(calibration_missing(named[0], name).failure, name) for name in model_names(request)]


def _recipes(request: JobRequest) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tell the recipes that were named from those that are searched: with a goal float32 always is a candidate."""
    asked = tuple(dict.fromkeys(request.recipes or ()))
    named = tuple(recipe for recipe in asked if recipe != AUTO)
    chooses = bool(request.constraints or request.objective)
    if AUTO in asked or (chooses and not asked):
        return named, tuple(recipe for recipe in SEARCHED if recipe not in named)
    if chooses:
        return named, () if BASELINE in named else (BASELINE,)
    return named or (BASELINE,), ()


def needs_score(request: JobRequest) -> bool:
    """Tell whether a constraint is about accuracy, so that samples without labels are scored too."""
    return any(text.strip().startswith("accuracy") for text in request.constraints)


def inspections(model: ModelRequest, world: World) -> list[PlannedStep]:
    """List the steps that look into a model's files; each is keyed by the file alone.

    Raises:
        UnknownFormat: no known format.
        EnvironmentMissing: nobody alive can look.
    """
    artifact = model.artifact.artifact()
    spec = catalog.inspector(catalog.source_format(model.file_name, artifact))
    looks = [inspect_step(Input("model", artifact=artifact), spec, world)]
    return looks + [
        inspect_step(Input("model", artifact=data), catalog.data_inspector(data), world) for data in _data_of(model)
    ]


def model_names(request: JobRequest) -> list[str]:
    """Name the models: as given, else the file's name without ending, made unique with -2, -3."""
    return _unique([m.name or m.file_name.rsplit(".", 1)[0] or m.file_name for m in request.models])


def _unique(names: Sequence[str]) -> list[str]:
    taken: list[str] = []
    for base in names:
        candidates = (base if number == 1 else f"{base}-{number}" for number in range(1, len(names) + 2))
        taken.append(next(name for name in candidates if name not in taken))
    return taken


def _data_of(model: ModelRequest) -> list[Artifact]:
    return [a for a in (data_artifact(model.calibration), data_artifact(model.evaluation)) if a is not None]


def data_artifact(entry: FileEntry | None) -> Artifact | None:
    return Artifact((entry.ref(),)) if entry is not None else None


def reason_of(failure: Failure, model: str | None = None) -> dict[str, Any]:
    """Tell one reason of a refusal in the report's fields."""
    return {
        "code": failure.code,
        "message": failure.message,
        "who_must_act": failure.who_must_act.value,
        "remedy": failure.remedy,
        "model": model,
    }
