"""The Python client of a farm."""

from __future__ import annotations

import difflib
import platform
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypedDict, Unpack
from urllib.parse import urlsplit

import httpx

from farm.client.address import resolve
from farm.client.connection import Connection
from farm.client.durations import parse_duration
from farm.client.hosts import Hosts
from farm.client.job import Job
from farm.client.models import Arrays, InputSpecs, Model, ModelPath
from farm.domain.errors import BadRequest, NoLiveHost, UnknownName
from farm.wire.hosts import HostView
from farm.wire.jobs import (
    ChainView,
    JobRequest,
    JobView,
    ModelRequest,
    ModelView,
    RouteView,
    ScenarioName,
    TargetView,
)

if TYPE_CHECKING:
    from farm.client.submission import Submission

Objective = Literal["latency", "size", "accuracy", "memory"]
OnBytes = Callable[[str, int, int], None]
Models: TypeAlias = ModelPath | Model | Sequence[ModelPath | Model]
AUTO = "auto"
INSPECT_WAIT_S = 20.0


class Measuring(TypedDict, total=False):
    """How results are measured, in the words of the request."""

    scenario: ScenarioName
    threads: list[int]
    sustained_s: float
    samples_per_query: int | None
    target_qps: float | None
    latency_bound_ms: float | None


class Asked(Measuring, total=False):
    """What a job asks for, in the words of the request; what is left out is the farm's choice."""

    runtimes: Sequence[str] | None
    recipes: Sequence[str] | None
    formats: Sequence[str] | None
    constraints: Sequence[str]
    objective: Objective | None
    max_runtime_seconds: float | None
    name: str | None
    labels: Mapping[str, str] | None
    host: str | None
    options: Mapping[str, Mapping[str, Any]] | None
    co_compile: bool


class Client:
    """A session with a farm.

    Args:
        url: the farm's address; FARM_URL, else the stack that runs in `.farm`, when None.
        token: a user's token; FARM_TOKEN, else the running stack's, when None.
        data: the data folder of an embedded stack to talk to.

    Example:
        >>> job = Client().submit("model.onnx", targets=["auto"], recipes=["float32"], wait=True)
        >>> for result in job.results:
        ...     print(result.recipe, result.verdict, result.execution_summary.p50)
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        data: Path | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.connection = Connection(resolve(url, token, data=data), transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.connection.close()

    def submit(
        self,
        models: Models,
        targets: str | Sequence[str],
        *,
        inputs: InputSpecs = (),
        calibration: Arrays | None = None,
        evaluation: Arrays | None = None,
        metric: str | None = None,
        preprocessing: Mapping[str, Any] | None = None,
        builder: ModelPath | None = None,
        max_measurement_age: str | float = 0.0,
        wait: bool = False,
        on_bytes: OnBytes | None = None,
        **asked: Unpack[Asked],
    ) -> Job:
        """Upload models and submit one job over models x targets x runtimes x recipes.

        `models` are paths (a file or a folder) or `Model`s; those carry their own inputs and data, and what they leave
        open is taken from here. Target "auto" is the profile of the live host on this machine. Left out, `runtimes` are
        all of each profile, `recipes` float32 or, with constraints or an objective, the farm's choice, and `formats`
        what each runtime likes best; ["ort"] narrows them to that. `inputs` are
        `NAME:DTYPE[D,D,…]` or {name: shape}; `calibration` and `evaluation` an .npz file or arrays by input name,
        samples on the first axis, or a folder of pictures that `preprocessing` makes inputs of. `builder` is the Python
        file whose build() returns the module of a state_dict. `options` sets those of stages, by recipe or by stage:
        {"int8-static": {"calibration_method": "Percentile"}}. `co_compile` has the models share an Edge TPU's memory.
        `max_measurement_age` is in seconds, or text such as "24h". `threads` are swept where they are several.
        `on_bytes` is called with (file name, bytes sent, size in bytes). `asked` are the fields of `Asked`.

        Raises:
            TypeError: an argument that there is not; nothing is uploaded.
            RequestError: what was submitted is at fault; the message holds every reason.
            FarmUnreachable: the farm does not answer.
        """
        if unknown := asked.keys() - Asked.__annotations__.keys():
            known = ", ".join(sorted(Asked.__annotations__))
            raise TypeError(f"submit() takes no {', '.join(sorted(unknown))}; it takes {known}.")
        age_s, resolved = parse_duration(max_measurement_age), self.resolve_targets(targets)
        shared = Model("", None, inputs, calibration, evaluation, metric, preprocessing, builder)
        uploaded = self._upload(models, shared, on_bytes)
        said = {name: _listed(value) for name, value in asked.items() if value not in (None, (), [], {})}
        request = JobRequest.model_validate(
            {"models": uploaded, "targets": resolved, "max_measurement_age_s": age_s, **said}
        )
        job = self.send(request)
        return job.wait() if wait else job

    def send(self, request: JobRequest) -> Job:
        """Submit a request whose files are uploaded; a repetition after a broken connection is harmless."""
        answer = self.connection.post("/v1/jobs", request.model_dump(mode="json"), key=str(uuid.uuid4()))
        return Job(self.connection, JobView.model_validate(answer))

    def inspect(
        self, model: ModelPath, *, builder: ModelPath | None = None, on_bytes: OnBytes | None = None
    ) -> ModelView:
        """Have a model read in the sandbox, and return its facts.

        Raises:
            FarmError: why it can't be read.
        """
        with self._submission(on_bytes) as submission:
            create = submission.model(Model(model, builder=builder))
        view = ModelView.model_validate(self.connection.post("/v1/models", create.model_dump(mode="json")))
        while view.state == "inspecting":
            answer = self.connection.get(f"/v1/models/{view.model}", wait_s=INSPECT_WAIT_S)
            view = ModelView.model_validate(answer)
        if view.failure is not None:
            raise view.failure.error()
        return view

    def job(self, job: str) -> Job:
        return Job(self.connection, JobView.model_validate(self.connection.get(f"/v1/jobs/{job}")))

    def jobs(
        self, *, state: str | None = None, label: str | None = None, limit: int = 50, before: datetime | None = None
    ) -> list[JobView]:
        """List jobs, newest first, that were created before `before`."""
        until = before.isoformat() if before else None
        answer = self.connection.get("/v1/jobs", state=state, label=label, limit=limit, before=until)
        return [JobView.model_validate(item) for item in answer]

    def targets(self) -> list[TargetView]:
        return [TargetView.model_validate(item) for item in self.connection.get("/v1/targets")]

    def target(self, name: str) -> TargetView:
        """Return one target.

        Raises:
            UnknownName: there is none of this name; names the nearest.
        """
        known = {view.name: view for view in self.targets()}
        if name in known:
            return known[name]
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"Did you mean {' or '.join(near)}?" if near else "See `farm targets`."
        raise UnknownName(f"There is no target {name!r}.", remedy=hint)

    def hosts(self) -> list[HostView]:
        return [HostView.model_validate(item) for item in self.connection.get("/v1/hosts")]

    @property
    def host_admin(self) -> Hosts:
        """Enroll and revoke hosts, take them out of rotation, have them test themselves."""
        return Hosts(self.connection)

    def routes(self, *, source: str | None = None, target: str | None = None) -> list[RouteView]:
        answer = self.connection.get("/v1/routes", source=source, target=target)
        return [RouteView.model_validate(item) for item in answer]

    def chains(self, source: str, target: str) -> list[ChainView]:
        """List the ranked chains of stages from a format to a format or runtime, per recipe.

        Raises:
            Incompatible: nothing leads there.
        """
        answer = self.connection.get("/v1/routes/chains", source=source, target=target)
        return [ChainView.model_validate(item) for item in answer]

    def health(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.connection.get("/v1/health")
        return answer

    def resolve_targets(self, targets: str | Sequence[str]) -> list[str]:
        """Replace "auto" by the profile of the live host on this machine.

        Raises:
            BadRequest: no target was given.
            NoLiveHost: no host that can measure lives on this machine, or several profiles do.
        """
        named = [targets] if isinstance(targets, str) else list(targets)
        if not named:
            raise BadRequest("No target was given.", remedy="Name a profile from `farm targets`, or auto.")
        return list(dict.fromkeys(self._own_profile() if target == AUTO else target for target in named))

    def _upload(self, models: Models, shared: Model, on_bytes: OnBytes | None) -> list[ModelRequest]:
        with self._submission(on_bytes) as submission:
            return submission.requests([_with_defaults(model, shared) for model in _as_list(models)])

    @contextmanager
    def _submission(self, on_bytes: OnBytes | None) -> Iterator[Submission]:
        from farm.client.submission import Submission
        from farm.client.tickets import Tickets
        from farm.transfer import open_link

        with open_link() as link, Submission(Tickets(self.connection), link, on_bytes) as submission:
            yield submission

    def _own_profile(self) -> str:
        live = [host for host in self.hosts() if host.state == "live" and host.can_measure]
        here = [host for host in live if host.name == platform.node()]
        if not here and _is_loopback(self.connection.address.url):
            here = live
        profiles = sorted({host.profile for host in here})
        if len(profiles) == 1:
            return profiles[0]
        found = f"several do: {', '.join(profiles)}" if profiles else "none does"
        raise NoLiveHost(
            f"Target 'auto' needs one live host on this machine ({platform.node()}) that can measure; {found}.",
            remedy="Name the profile with --target (see `farm hosts`), or start a worker with `farm up`.",
        )


def _listed(value: object) -> object:
    """Make any sequence a list and any mapping a dict, as the request has them."""
    if isinstance(value, Mapping):
        return {name: _listed(inner) for name, inner in value.items()}
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _as_list(models: Models) -> list[Model]:
    several = models if isinstance(models, Sequence) and not isinstance(models, str) else [models]
    if not several:
        raise BadRequest("No model was given.", remedy="Name at least one model file or folder.")
    return [model if isinstance(model, Model) else Model(model) for model in several]


def _with_defaults(model: Model, shared: Model) -> Model:
    return replace(
        model,
        inputs=model.inputs or shared.inputs,
        calibration=model.calibration if model.calibration is not None else shared.calibration,
        evaluation=model.evaluation if model.evaluation is not None else shared.evaluation,
        metric=model.metric or shared.metric,
        preprocessing=model.preprocessing if model.preprocessing is not None else shared.preprocessing,
        builder=model.builder if model.builder is not None else shared.builder,
    )


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")
