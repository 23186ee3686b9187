"""Models that are compiled together, to share an accelerator's memory.

One step takes the files of all of them, the first in role `model`, the others as `beside-1`, `beside-2` …; a second one
for each model takes its own file out of what was made. Every result keeps the branches that compile its model by itself
behind that one: what goes wrong with one model costs the others the sharing, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from farm.domain.branches import Steps
from farm.domain.catalogue import Catalogue, Target
from farm.domain.codec import decode
from farm.domain.errors import BadRequest, FarmError, Incompatible
from farm.domain.plan import Branch, Input, Plan, PlannedResult, PlannedStep
from farm.domain.rekeying import made_anew, rekeyed, renamed
from farm.domain.routes import COMPILED
from farm.domain.stage import TRANSFORMS, StageSpec
from farm.domain.tuning import Tuned, tuned_by
from farm.domain.wanted import Wanted, World

BESIDE = "beside-"
"""What the roles of models begin with that are compiled together with the first one."""
NAMES = "together"
"""The compiling stage's option that names the models, in the order of their roles."""
MOST = 10
"""Models that share one accelerator at most: each one more leaves the others less of its memory."""


def role_of(place: int) -> str:
    """Name the role of a model, and of what it is compiled to, by its place in the job."""
    return f"{BESIDE}{place}" if place else "model"


def together_errors(wanted: Wanted, world: World) -> list[FarmError]:
    """Say why the models of a job can't be compiled together, for every target."""
    names = wanted.together
    if not names:
        return []
    errors: list[FarmError] = []
    if len(names) == 1:
        errors.append(
            BadRequest(
                f"co_compile is asked for with one model, {names[0]}; it takes 2 to {MOST}, which then share an "
                "accelerator's memory.",
                remedy="Name the models that run side by side on it, or leave co_compile out.",
            )
        )
    if len(names) > MOST:
        errors.append(
            BadRequest(
                f"co_compile is asked for with {len(names)} models; {MOST} are the most that may share an "
                "accelerator's memory.",
                remedy="Submit those that run side by side as a job, and the others as further ones.",
            )
        )
    errors += _alone_errors(wanted, world.catalogue)
    targets = (world.targets[name] for name in wanted.targets if name in world.targets)
    return errors + [_not_shared(target) for target in targets if not _may_share(target, wanted, world.catalogue)]


def _alone_errors(wanted: Wanted, catalogue: Catalogue) -> list[FarmError]:
    """Say which options of the job a stage takes with one model only."""
    return [
        BadRequest(
            f"Option {spec.name}.{name} is set, and co_compile is asked for: models compiled together can't be split.",
            remedy=f"Leave {name} or co_compile out, or submit that model as a job of its own.",
        )
        for spec in catalogue.specs.values()
        if spec.share is not None
        for name in spec.alone
        if name in wanted.options.get(spec.name, {}) and _is_changed(spec, name, wanted.options)
    ]


def _is_changed(spec: StageSpec, name: str, tuned: Tuned) -> bool:
    """Tell whether a job sets an option to another value than it has anyway; one of another type is told elsewhere."""
    try:
        return bool(tuned_by(spec, tuned).get(name) != getattr(spec.options(), name))
    except ValueError:
        return False


def _may_share(target: Target, wanted: Wanted, catalogue: Catalogue) -> bool:
    """Tell whether a runtime that is asked for takes what is compiled for several models."""
    runtimes = set(target.runtimes).intersection(wanted.runtimes or target.runtimes)
    taken = {fmt for runtime in runtimes for fmt in catalogue.accepts.get(runtime, ())}
    return any(spec.share is not None and spec.target in taken for spec in catalogue.specs.values())


def _not_shared(target: Target) -> FarmError:
    return Incompatible(
        f"Models can't be compiled together for {target.name}: none of its runtimes that are asked for takes files "
        "that are compiled to share an accelerator's memory.",
        remedy="Name targets with an Edge TPU, such as coral-usb, and its runtime edgetpu, or leave co_compile out.",
    )


def put_together(results: Sequence[PlannedResult], steps: Steps) -> list[PlannedResult]:
    """Put a branch that is compiled with the other models' first into every result that can have one.

    The models of a target, a runtime and a recipe are one group, in the order of the job.
    """
    joined = list(results)
    cells: dict[tuple[str, str, str], list[int]] = {}
    for index, result in enumerate(results):
        cells.setdefault((result.target, result.target_runtime, result.recipe), []).append(index)
    members = {index: one for index, result in enumerate(results) if (one := _member(result, steps)) is not None}
    for indices in cells.values():
        able = {index: members[index] for index in indices if index in members}
        absent = [results[index] for index in indices if index not in able]
        grouped = (
            _Group(tuple(able.values()), steps).results() if len(able) > 1 else [one.result for one in able.values()]
        )
        for index, result in zip(able, grouped, strict=True):
            told = (_is_absent(result, one, _recipes_of(one, members)) for one in absent)
            joined[index] = replace(result, notes=(*result.notes, *(note for note in told if note)))
    return joined


def apart_errors(results: Sequence[PlannedResult], joined: Sequence[PlannedResult], steps: Steps) -> list[FarmError]:
    """Say that no two models come to be compiled together, though several could be: by no recipe two of them are."""
    members = {index: one for index, result in enumerate(results) if (one := _member(result, steps)) is not None}
    models = dict.fromkeys(one.result.model for one in members.values() if one.result.listed)
    if len(models) < 2 or any(branch.beside for result in joined for branch in result.branches):
        return []
    ways = {
        name: dict.fromkeys(one.result.recipe for one in members.values() if one.result.model == name)
        for name in models
    }
    told = "; ".join(f"{name} with recipe {' or '.join(recipes)}" for name, recipes in ways.items())
    return [
        Incompatible(
            "No two of the models can be compiled together: the files of one recipe are, and the models come to files "
            f"for the compiler by different ones ({told}).",
            remedy="Submit models that are alike: all of them integer already, with recipe float32; or all of them in "
            "float, with calibration data and recipe int8-full-integer. Or leave co_compile out.",
        )
    ]


def of_together(result: PlannedResult, at: int) -> list[str]:
    """Say with which others a result that works on its branch `at` shares the memory, or that it does so no more."""
    if not result.branches:
        return []
    if names := list(result.branches[at].beside):
        return [
            f"Compiled together with {', '.join(names)}: they share the accelerator's memory, and the job's first "
            "model is cached first."
        ]
    if names := list(result.branches[0].beside):
        return [
            f"Compiled by itself, and each of {', '.join(names)} too: what they were compiled to together was given "
            "up by all of them; route_failures says why."
        ]
    return []


def told_of_each(plan: Plan, branch: Branch, facts: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """Find what the step that compiled several models told of a branch's own, in its steps' facts, by their keys."""
    share = plan.steps.get(branch.artifact.step or "") if branch.beside else None
    compiled = next((given for given in share.inputs if given.role == COMPILED), None) if share else None
    if compiled is None:
        return {}
    told = facts.get(compiled.step or "", {})
    return {name: fact["models"][compiled.output] for name, fact in told.items() if _is_of_each(fact, compiled.output)}


def _is_of_each(fact: Any, role: str) -> bool:
    models = fact.get("models") if isinstance(fact, Mapping) else None
    return isinstance(models, Mapping) and role in models


@dataclass(frozen=True, slots=True)
class _Member:
    """A result whose best branch ends with a compiler that takes several models."""

    result: PlannedResult
    spec: StageSpec
    share: StageSpec
    compile: PlannedStep

    @property
    def branch(self) -> Branch:
        return self.result.branches[0]

    def made_by(self, steps: Steps) -> tuple[str, ...]:
        """Name the steps that make what is compiled."""
        keys = (key for key in self.branch.steps if key != self.compile.key)
        return tuple(key for key in keys if steps.by_key[key].kind in TRANSFORMS)


def _member(result: PlannedResult, steps: Steps) -> _Member | None:
    made = result.branches[0].artifact.step if result.branches else None
    if made is None:
        return None
    specs, step = steps.world.catalogue.specs, steps.by_key[made]
    spec = specs[step.stage]
    return None if spec.share is None else _Member(result, spec, specs[spec.share], step)


def _recipes_of(absent: PlannedResult, members: Mapping[int, _Member]) -> tuple[str, ...]:
    """Name the recipes by which a model comes to a file that is compiled for the same runtime of a target."""
    place = (absent.model, absent.target, absent.target_runtime)
    found = (one.result for one in members.values())
    return tuple(one.recipe for one in found if (one.model, one.target, one.target_runtime) == place)


def _is_absent(result: PlannedResult, absent: PlannedResult, recipes: Sequence[str]) -> str | None:
    """Say why a model is not compiled with another one; None where nothing went wrong with it."""
    if recipes:
        return (
            f"Not compiled together with {absent.model}: that one is compiled with recipe {' or '.join(recipes)}, this "
            f"one with {result.recipe}, and only files of one recipe are compiled together."
        )
    return f"Not compiled together with {absent.model}: {absent.failure.message}" if absent.failure else None


@dataclass(frozen=True, slots=True)
class _Group:
    """Several models of one target, runtime and recipe."""

    members: tuple[_Member, ...]
    steps: Steps

    def results(self) -> Iterator[PlannedResult]:
        whole = self._whole()
        shares = [self._share(member, whole, role_of(place)) for place, member in enumerate(self.members)]
        for member, share in zip(self.members, shares, strict=True):
            others = {
                one.result.model: (*one.made_by(self.steps), other.key)
                for one, other in zip(self.members, shares, strict=True)
                if one is not member
            }
            shared = self._branch(member, whole, share, others)
            yield replace(member.result, branches=(shared, *member.result.branches))

    def _whole(self) -> PlannedStep:
        """Add the step that compiles all models; its key holds those that would compile each by itself, in order."""
        first, names = self.members[0], tuple(member.result.model for member in self.members)
        inputs = tuple(
            given.as_(role_of(place))
            for place, member in enumerate(self.members)
            for given in member.compile.inputs
            if given.role == "model"
        )
        step = made_anew(first.compile, options={**first.compile.options, NAMES: list(names)}, inputs=inputs)
        step = replace(step, title=self._title(first, first.spec, ", ".join(names)))
        self.steps.by_key.setdefault(step.key, step)
        return step

    def _share(self, member: _Member, whole: PlannedStep, role: str) -> PlannedStep:
        """Add the step that takes a member's file out of what all are compiled to."""
        (given,) = (one for one in member.compile.inputs if one.role == "model")
        compiled = Input(COMPILED, step=whole.key, output=role)
        title = self._title(member, member.share, member.result.model)
        options = _options(member.share, member.compile.options)
        return self.steps.by_key[self.steps.add(member.share, (given, compiled), options, target=None, title=title)]

    def _branch(
        self, member: _Member, whole: PlannedStep, share: PlannedStep, others: Mapping[str, tuple[str, ...]]
    ) -> Branch:
        """Return a member's branch with its share in its own compilation's place; the others' shares are awaited too.

        `others` holds, by the other models' names, the steps that make their files and take them out.
        """
        made = rekeyed(self.steps.by_key, member.branch, member.compile.key, share)
        for step in made.values():
            self.steps.by_key.setdefault(step.key, step)
        branch = renamed(member.branch, made)
        own = member.made_by(self.steps)
        beside = {name: tuple(key for key in keys if key not in own) for name, keys in others.items()}
        theirs = [key for keys in beside.values() for key in keys]
        shares = [key for key in theirs if whole.key in self.steps.by_key[key].needs]
        before = (*(key for key in theirs if key not in shares), *own, whole.key, *shares)
        return replace(
            branch,
            route=(*branch.route, member.share.name),
            float_route=(*branch.float_route, member.share.name),
            steps=tuple(dict.fromkeys((*before, *branch.steps))),
            beside=beside,
        )

    @staticmethod
    def _title(member: _Member, spec: StageSpec, names: str) -> str:
        return f"{spec.name} · {names} → {member.result.target} · {member.result.recipe}"


def _options(spec: StageSpec, told: Mapping[str, Any]) -> Any:
    """Read those options of a stage that another one was told of too."""
    return decode(spec.options, {one.name: told[one.name] for one in fields(spec.options) if one.name in told})
