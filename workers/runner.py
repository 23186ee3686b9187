"""One attempt of a step: claim, fetch, run in the sandbox, check, store, report."""

from __future__ import annotations

import errno
import json
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog

from farm.domain.artifact import FileRef
from farm.domain.codec import decode, encode
from farm.domain.errors import (
    Conflict,
    EnvironmentMissing,
    Failure,
    FarmBug,
    FarmError,
    FarmUnreachable,
    HostError,
    HostFull,
    JobCancelled,
)
from farm.domain.stage import Kind, StageSpec
from farm.settings import Settings
from farm.transfer import Link, hash_file, upload
from farm.wire.base import ArtifactEntry, FailureEntry, FileEntry
from farm.wire.hosts import Claim, ClaimRequest, Outcome
from workers.cache import Cache
from workers.host.lock import HostLock
from workers.link import AttemptTickets, FarmLink
from workers.measuring import Bench
from workers.minimizing import failing_of, minimize
from workers.pulse import Pulse
from workers.results import Made, check_plain, join_logs, log_tail, runs_in
from workers.sandbox import Sandbox
from workers.sanity import storable
from workers.stage_runs import Place, StageCall
from workers.stages import load_specs

T = TypeVar("T")
log = structlog.get_logger()


class StepFailed(Exception):
    """Raised in the Celery task of a failed step, so that Flower shows FAILURE and the reason."""


@dataclass(frozen=True, slots=True)
class Runner:
    """A host at work; `run` is called from several threads."""

    name: str
    config: Settings
    link: FarmLink
    store: Link
    pulse: Pulse
    sandbox: Sandbox
    lock: HostLock
    cache: Cache
    bench: Bench

    def run(self, step: str, number: int, *, measures: bool) -> str:
        """Run attempt `number` of a step to its end.

        Returns: "succeeded", "stale" (somebody else has it, or nobody wants it) or "cancelled".

        Raises:
            StepFailed: with the reason, after it was reported.
        """
        try:
            with self._room(step, measures):
                claim = self.link.claim(ClaimRequest(host=self.name, step=step, attempt=number))
                with self.pulse.holding(claim.attempt) as stop:
                    return self._run_claimed(claim, stop)
        except Conflict as error:
            log.info("The step is not ours to run.", action="stale", step_id=step, reason=error.message)
            return "stale"

    @contextmanager
    def _room(self, step: str, measures: bool) -> Iterator[None]:
        """Hold the host: alone for a measurement, else shared; control hears that the message is not lost meanwhile."""
        room: Callable[[str], AbstractContextManager[None]] = self.lock.exclusive if measures else self.lock.shared
        with ExitStack() as waiting:
            waiting.enter_context(self.pulse.waiting(step))
            with room(step):
                waiting.close()
                yield

    def _run_claimed(self, claim: Claim, stop: threading.Event) -> str:
        work = self.config.work_dir.resolve() / claim.attempt
        try:
            outcome = self._finish(claim, self._outcome(claim, work, stop))
        finally:
            shutil.rmtree(work, ignore_errors=True)
        if outcome.failure is not None and outcome.state == "failed":
            raise StepFailed(f"{outcome.failure.code}: {outcome.failure.message}")
        return outcome.state

    def _finish(self, claim: Claim, outcome: Outcome) -> Outcome:
        """Report an outcome; when the farm refuses its content, report that instead. Returns: what was reported."""
        try:
            self.link.finish(claim.attempt, outcome)
        except (Conflict, FarmUnreachable):
            raise
        except FarmError as error:
            log.warning("The farm refuses the outcome.", action="finish", code=error.code, reason=error.message)
            refused = FarmBug(f"The farm refused what {claim.stage} ended with: {error.message}")
            outcome = self._bare(claim, refused, run_time_s=outcome.run_time_s)
            self.link.finish(claim.attempt, outcome)
        return outcome

    def _outcome(self, claim: Claim, work: Path, stop: threading.Event) -> Outcome:
        """Turn whatever happens into an outcome; when it can't be told as it is, into one that says only that."""
        started = time.monotonic()
        attempt = _Attempt(self, claim, work, stop)
        made, failure = self._caught(claim.stage, attempt.run)
        sent, unsent = self._caught(claim.stage, attempt.send_log)
        if unsent is not None:
            log.warning("The log could not be stored.", action="send-log", code=unsent.code, reason=unsent.message)
        tell = partial(self._told, attempt, made=made, failure=failure, sent=sent, started=started)
        outcome, untold = self._caught(claim.stage, tell)
        why = untold or FarmBug("The outcome got lost.")
        return outcome or self._bare(claim, why, run_time_s=time.monotonic() - started)

    def _bare(self, claim: Claim, error: FarmError, *, run_time_s: float) -> Outcome:
        """Say that an attempt failed, and nothing that could be refused."""
        return Outcome(
            fencing_token=claim.fencing_token,
            state="failed",
            failure=_entry(error.failure),
            isolation=self.sandbox.level.value,
            run_time_s=run_time_s,
        )

    def _caught(self, stage: str, act: Callable[[], T]) -> tuple[T | None, FarmError | None]:
        """Give what `act` returns, or what went wrong: the one place that catches everything."""
        try:
            return act(), None
        except FarmError as error:
            return None, error
        except OSError as error:
            kind = HostFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else HostError
            return None, kind(f"Host {self.name} could not read or write: {error}.")
        except Exception as error:
            traceback.print_exc()
            return None, FarmBug(f"The worker failed in {stage}: {type(error).__name__}: {str(error)[:2000]}")

    def _told(
        self, attempt: _Attempt, *, made: Made | None, failure: FarmError | None, sent: FileEntry | None, started: float
    ) -> Outcome:
        """Build the outcome.

        Raises:
            ValueError: it is no JSON, or a field does not fit.
        """
        given = made or Made()
        outcome = Outcome(
            fencing_token=attempt.claim.fencing_token,
            state="succeeded" if failure is None else "cancelled" if isinstance(failure, JobCancelled) else "failed",
            outputs={name: ArtifactEntry.of(artifact) for name, artifact in given.outputs.items()},
            facts=dict(given.facts),
            contract=dict(given.contract) if given.contract is not None else None,
            failure=_entry(attempt.with_evidence(failure)) if failure else None,
            log=sent,
            reproduce=given.reproduce,
            isolation=self.sandbox.level.value,
            run_time_s=time.monotonic() - started,
            tool_versions=dict(given.tool_versions),
        )
        json.dumps(outcome.model_dump(mode="json"), ensure_ascii=False, allow_nan=False).encode()
        return outcome


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One claimed attempt in its own folder."""

    runner: Runner
    claim: Claim
    work: Path
    stop: threading.Event

    @property
    def spec(self) -> StageSpec:
        spec = load_specs().get(self.claim.stage)
        if spec is None or spec.version != self.claim.stage_version:
            raise EnvironmentMissing(
                f"Host {self.runner.name} knows no stage {self.claim.stage} of version {self.claim.stage_version}.",
                remedy="Bring the host to the farm's version and restart its worker.",
            )
        return spec

    def run(self) -> Made:
        """Make the folder, run the stage, store what it made."""
        self.work.mkdir(mode=0o711, parents=True)
        made = self.make()
        self.send(made)
        return made

    def make(self) -> Made:
        """Fetch the inputs and run the stage on them."""
        with ExitStack() as held:
            files = {
                given.role: held.enter_context(self.runner.cache.fetch(given.files, given.is_tree, self.runner.store))
                for given in self.claim.inputs
            }
            if self.spec.kind is Kind.MEASURE:
                options = self.claim.options
                return self.runner.bench.measure(
                    partial(self._run_once, files),
                    runtime=self.spec.runtime or "",
                    options=options,
                )
            if self.spec.kind is Kind.MINIMIZE:
                failing = failing_of(self.spec, self.claim.options, files, self._contract)
                return minimize(failing, self.place, self.work / "run-0", self.stop)
            return self._run_once(files, None, {}, None)

    def _run_once(
        self,
        files: Mapping[str, Path],
        instead: Mapping[str, Path] | None,
        changes: Mapping[str, Any],
        cores: tuple[int, ...] | None,
    ) -> Made:
        """Run the stage in a folder of its own; `instead` of the step's files when measuring the reference model."""
        asked = StageCall(
            self.spec,
            files=instead or files,
            options={**self.claim.options, **changes},
            wall_s=self.claim.max_runtime_seconds,
            memory_bytes=self.claim.memory_bytes,
            profile=self.claim.profile,
            contract=None if instead else self._contract,
            cores=cores,
        )
        return self.place.run(asked, self.work / f"run-{len(list(self.work.iterdir()))}", self.stop)

    @property
    def _contract(self) -> Mapping[str, Any] | None:
        return next((i.contract for i in self.claim.inputs if i.role == "model"), None)

    @property
    def place(self) -> Place:
        config = self.runner.config
        return Place(self.runner.sandbox, config.environments_dir.resolve(), config.max_file_bytes, self.claim.step)

    def send(self, made: Made) -> None:
        """Store every output under its digest."""
        tickets = AttemptTickets(self.runner.link, self.claim)
        for sha256, path in made.paths.items():
            check_plain(path)
            upload(path, FileRef(path.name, sha256, path.stat().st_size), tickets, link=self.runner.store)

    def send_log(self) -> FileEntry | None:
        """Store what the runs printed, one after the other; None when that is nothing."""
        whole = self.work / "attempt.log"
        join_logs(self.work, whole)
        ref = hash_file(whole)
        if ref.size_bytes == 0:
            return None
        upload(whole, ref, AttemptTickets(self.runner.link, self.claim), link=self.runner.store)
        return FileEntry(name=f"{self.claim.stage}.log", sha256=ref.sha256, size_bytes=ref.size_bytes)

    def with_evidence(self, error: FarmError) -> Failure:
        """Add the end of the log to a failure that brings no evidence of its own."""
        runs = runs_in(self.work)
        failure = error.failure
        if not runs or "log_tail" in failure.evidence:
            return failure
        return replace(failure, evidence={**failure.evidence, "log_tail": log_tail(runs[-1])})


def _entry(failure: Failure) -> FailureEntry:
    return FailureEntry.of(decode(Failure, storable(encode(failure))))
