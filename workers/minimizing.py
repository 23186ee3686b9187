"""A minimization: the failing stage is run on ever smaller cuts of its model, until nothing more can be left out.

Each test is two runs in the sandbox: one cuts, one is the stage itself. So a crash or a hang is only a signature.
"""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from farm.domain.artifact import Artifact
from farm.domain.codec import decode
from farm.domain.errors import Actor, ArtifactBroken, BadRequest, FarmError, ToolTimedOut
from farm.domain.progress import is_of_a_tool, may_fall_back
from farm.domain.shrinking import Budget, Part, shrink
from farm.domain.signature import Signature, signature_of
from farm.domain.stage import Kind, StageSpec
from farm.transfer import hash_file
from workers import environments
from workers.repro import Repro, write_repro
from workers.results import Made
from workers.stage_runs import Place, StageCall
from workers.stages import load_specs, preload_of
from workers.stages.minimize.onnx_graph import MinimizeOptions

LEAST_WALL_S = 5.0
HANG_S = 10.0
"""What counts as a hang while the search runs, where the original ran out of time."""
QUANTIZING_S = 30.0
"""What a quantizer's search may take at most: a quantizer takes long for each test, and the result waits meanwhile."""
SLACK = 4.0
"""How many times the original failure's time a test may take."""
ORIGINAL_SHARE = 0.4
"""Of the budget, at most, for repeating the original failure."""
CUT_WALL_S = 60.0
WINDOWS = (1, 2, 3, 5)
"""Sizes of the parts around a suspected operator that are tried before the search."""
MAX_HINTS = 24
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Failing:
    """A step that failed, as its stage was called, and the stage that cuts its model."""

    cutter: StageSpec
    options: MinimizeOptions
    files: Mapping[str, Path]
    contract: Mapping[str, Any] | None
    memory_bytes: int

    @property
    def stage(self) -> StageSpec:
        """Find the failing stage.

        Raises:
            BadRequest: there is none of that name.
        """
        try:
            return load_specs()[self.options.stage]
        except KeyError:
            raise BadRequest(f"No stage is called {self.options.stage!r}, so its failure can't be minimized.") from None

    @property
    def budget_s(self) -> float:
        """Say how many seconds the search may take."""
        told_s = self.options.budget_s
        return min(told_s, QUANTIZING_S) if self.stage.kind is Kind.QUANTIZE else told_s

    @property
    def called_with(self) -> Mapping[str, Any]:
        return self.options.options or {}

    @property
    def cut_in(self) -> tuple[str, tuple[str, ...]]:
        """Name the environment that cuts, and its preload: the failing stage's, which is warm, if onnx is there."""
        if "onnx" in environments.pins(self.stage.environment):
            return self.stage.environment, preload_of(replace(self.stage, fresh=False))
        return self.cutter.environment, preload_of(self.cutter)


@dataclass(frozen=True, slots=True)
class Tested:
    """One run of the failing stage: the failure, if any, its signature and its time."""

    failure: FarmError | None
    signature: Signature | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cut model beside its samples, and how the failing stage is called with it."""

    folder: Path
    files: Mapping[str, Path]
    options: Mapping[str, Any]


@dataclass(slots=True)
class Search:
    """The state of one minimization.

    Attributes:
        best: the smallest candidate that failed alike.
        uncut: why parts could not be cut, counted by reason.
    """

    failing: Failing
    place: Place
    work: Path
    stop: threading.Event
    started: float = field(default_factory=time.monotonic)
    runs: int = 0
    best: Candidate | None = None
    uncut: Counter[str] = field(default_factory=Counter)

    def minimize(self) -> Made:
        """Repeat the failure, then shrink its model.

        Returns: "repro" (repro.zip) and the facts reproduced, signature, code, limit_s, nodes, original_nodes,
        operators, attempts, minimal and seconds; without a file when the failure can't be had without the model's own
        values, or at all: facts["reason"] then says so. `code` is what the repeated stage failed with within limit_s
        seconds: whether the step did so too, who asked for this knows.

        Raises:
            FarmError: the failure is none of a toolchain, or the model can't be read.
        """
        self.work.mkdir(mode=0o711)
        (self.work / "runs").mkdir(mode=0o711)
        original = self._original()
        if original.failure is None or original.signature is None:
            return self._none("The stage did not fail when it was repeated.", None)
        if self.failing.stage.kind is Kind.QUANTIZE and isinstance(original.failure, ToolTimedOut):
            return self._none(f"Repeating the failure of a quantizer took longer than {original.seconds:.0f} s.", None)
        self.tell(f"The failure to reproduce: {original.signature} ({original.seconds:.1f} s).")
        skeleton = self._skeleton(original.failure)
        wall_s = self._wall_s(original)
        target = self._neutral_signature(skeleton, original, wall_s)
        if isinstance(target, str):
            return self._none(target, original.signature)
        return self._shrunk(skeleton, target, wall_s)

    def tell(self, line: str) -> None:
        """Add a line to the step's log."""
        with (self.work / "log.txt").open("a", encoding="utf-8") as opened:
            opened.write(f"[{self.seconds:6.1f} s] {line}\n")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def left_s(self) -> float:
        return self.failing.budget_s - self.seconds

    @property
    def _original_limit_s(self) -> float:
        """Say how long the repeated stage may take: less than it may in a job, so that it may end by that alone."""
        return round(ORIGINAL_SHARE * self.failing.budget_s, 1)

    def _original(self) -> Tested:
        failing = self.failing
        tested = self._test(failing.files, failing.called_with, failing.contract, self._original_limit_s)
        if tested.failure is not None and not may_fall_back(tested.failure.failure):
            raise tested.failure
        return tested

    def _wall_s(self, original: Tested) -> float:
        if isinstance(original.failure, ToolTimedOut):
            return HANG_S
        return max(LEAST_WALL_S, SLACK * original.seconds)

    def _skeleton(self, failure: FarmError) -> Made:
        return self._cutter({"model": self.failing.files["model"]}, {"message": failure.message}, self.failing.contract)

    def _neutral_signature(self, skeleton: Made, original: Tested, wall_s: float) -> Signature | str:
        """Run the stage on the whole graph with random weights; return its signature, or why it is not the failure."""
        whole = tuple(range(int(skeleton.facts["nodes"])))
        candidate = self._candidate(skeleton, whole)
        if isinstance(candidate, str):
            return f"The graph can't be rebuilt: {candidate}."
        tested = self._test(candidate.files, candidate.options, None, wall_s)
        if tested.signature is None or original.failure is None:
            return "With random weights and neutral names the stage succeeds: the failure needs the model's own."
        nameless = replace(original.failure.failure, message=str(skeleton.facts["message"]))
        if tested.signature not in (original.signature, signature_of(nameless)):
            self.tell(f"With random weights: {tested.signature}.")
            return f"With random weights and neutral names the stage fails otherwise: {tested.signature}"
        self.best = candidate
        return tested.signature

    def _shrunk(self, skeleton: Made, target: Signature, wall_s: float) -> Made:
        operators = [str(name) for name in skeleton.facts["operators"]]

        def fails(part: Part) -> bool:
            candidate = self._candidate(skeleton, part)
            if isinstance(candidate, str):
                self.uncut[candidate] += 1
                return False
            limit_s = min(wall_s, max(1.0, self.left_s))
            tested = self._test(candidate.files, candidate.options, None, limit_s)
            cut_short = isinstance(tested.failure, ToolTimedOut) and limit_s < wall_s
            same = tested.signature == target and not cut_short
            self.tell(f"{len(part)} nodes: {'fails alike' if same else tested.signature or 'succeeds'}.")
            shutil.rmtree(self.best.folder if same and self.best else candidate.folder, ignore_errors=True)
            self.best = candidate if same else self.best
            return same

        budget = Budget(self.failing.options.tries, self.left_s)
        shrunk = shrink(len(operators), fails, budget, hints(operators, target))
        kept = [operators[index] for index in shrunk.part]
        self.tell(f"{len(kept)} of {len(operators)} nodes are left after {shrunk.attempts} tests: {', '.join(kept)}.")
        told = {
            "reproduced": True,
            "nodes": len(kept),
            "original_nodes": int(skeleton.facts["original_nodes"]),
            "signature": str(target),
            "code": target.code,
            "limit_s": self._original_limit_s,
            "attempts": shrunk.attempts,
            "operators": kept,
            "minimal": shrunk.minimal,
            "impossible_cuts": sum(self.uncut.values()),
            "seconds": round(self.seconds, 1),
        }
        return self._packed(told, target)

    def _packed(self, facts: Mapping[str, Any], target: Signature) -> Made:
        if self.best is None:
            raise ArtifactBroken("The search ended without a failing candidate.")
        stage = self.failing.stage
        repro = Repro(
            stage=stage,
            options=self.best.options,
            profile=self.failing.options.profile or {},
            files=self.best.files,
            signature=target,
            facts=facts,
        )
        ref = hash_file(write_repro(repro, self.work / "repro.zip"))
        return Made({"repro": Artifact((ref,))}, {ref.sha256: self.work / "repro.zip"}, facts)

    def _none(self, reason: str, signature: Signature | None) -> Made:
        self.tell(reason)
        shown = str(signature) if signature else None
        return Made(
            facts={"reproduced": False, "reason": reason, "signature": shown, "seconds": round(self.seconds, 1)}
        )

    def _candidate(self, skeleton: Made, part: Part) -> Candidate | str:
        """Cut; returns why not where that is impossible."""
        (path,) = skeleton.paths.values()
        roles = [role for role in self.failing.files if role != "model"]
        try:
            made = self._cutter({"skeleton": path}, {"part": list(part), "samples": bool(roles)}, None)
        except FarmError as error:
            self._raise_unless_answer(error)
            return error.message
        if "model" not in made.outputs:
            return str(made.facts.get("uncut", "the cutter gave no reason"))
        found = {name: made.paths[artifact.digest] for name, artifact in made.outputs.items()}
        files = {role: found["samples" if role in roles else "model"] for role in self.failing.files}
        specs = {"input_specs": made.facts["inputs"], "output_specs": made.facts["outputs"]}
        folder = self.work / "runs" / found["model"].relative_to(self.work / "runs").parts[0]
        return Candidate(folder, files, {**self.failing.called_with, **specs})

    def _cutter(
        self, files: Mapping[str, Path], changes: Mapping[str, Any], contract: Mapping[str, Any] | None
    ) -> Made:
        environment, preload = self.failing.cut_in
        options = {"stage": self.failing.options.stage, "options": dict(self.failing.called_with)}
        asked = StageCall(
            self.failing.cutter,
            files=files,
            options={**options, "seed": self.failing.options.seed, **changes},
            wall_s=CUT_WALL_S,
            memory_bytes=self.failing.memory_bytes,
            contract=contract,
            environment=environment,
            preload=preload,
        )
        return self.place.run(asked, self._folder(), self.stop)

    def _test(
        self,
        files: Mapping[str, Path],
        options: Mapping[str, Any],
        contract: Mapping[str, Any] | None,
        wall_s: float,
    ) -> Tested:
        """Run the failing stage.

        Raises:
            FarmError: what is no answer: cancelled, or the host's or the operator's fault.
        """
        stage, folder, started = self.failing.stage, self._folder(), time.monotonic()
        asked = StageCall(
            stage,
            files=files,
            options=options,
            wall_s=wall_s,
            memory_bytes=stage.memory_bytes,
            profile=self.failing.options.profile or {},
            contract=contract,
        )
        try:
            self.place.run(asked, folder, self.stop)
        except FarmError as error:
            self._raise_unless_answer(error)
            return Tested(error, signature_of(error.failure), time.monotonic() - started)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return Tested(None, None, time.monotonic() - started)

    def _raise_unless_answer(self, error: FarmError) -> None:
        """Pass on a failure that says nothing of the model: cancelled, or the host's or the operator's fault."""
        of_no_tool = error.who_must_act in (Actor.HOST, Actor.OPERATOR) and not is_of_a_tool(error.failure)
        if self.stop.is_set() or of_no_tool:
            raise error

    def _folder(self) -> Path:
        self.runs += 1
        return self.work / "runs" / f"{self.runs}"


def hints(operators: list[str], target: Signature) -> list[Part]:
    """List parts around the operators that the failure names, smallest first; the rarest types are asked first."""
    said = f"{target.operator or ''} {target.message}".upper()
    words = set(re.findall(r"[A-Z#]+", said))
    named = [at for at, name in enumerate(operators) if _DIGITS.sub("#", name.upper()) in words]
    counts = Counter(operators)
    named.sort(key=lambda at: (-len(operators[at]), counts[operators[at]], at))
    parts = [
        tuple(range(max(0, at - width + 1), at + 1)) if width < WINDOWS[-1] else _around(at, width, len(operators))
        for width in WINDOWS
        for at in named[: MAX_HINTS // len(WINDOWS)]
    ]
    return list(dict.fromkeys(parts))


def _around(at: int, width: int, count: int) -> Part:
    return tuple(range(max(0, at - width // 2), min(count, at + width // 2 + 1)))


def minimize(failing: Failing, place: Place, work: Path, stop: threading.Event) -> Made:
    """Minimize a failure in the new folder `work`, whose log.txt tells each test."""
    return Search(failing, place, work, stop).minimize()


def failing_of(
    cutter: StageSpec, options: Mapping[str, Any], files: Mapping[str, Path], contract: Mapping[str, Any] | None
) -> Failing:
    """Read what a minimizing step was told.

    Raises:
        BadRequest: the options do not fit.
    """
    try:
        told = decode(MinimizeOptions, options)
    except ValueError as exc:
        raise BadRequest(f"The options of {cutter.name} do not fit: {exc}") from exc
    return Failing(cutter, told, files, contract, cutter.memory_bytes)
