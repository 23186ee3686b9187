"""int8-mixed: the rounds join the plan one by one, each with other operators in float, and the best of them counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.domain.answers import answers_of
from farm.domain.errors import ArtifactBroken, ConversionFailed, HostLost
from farm.domain.facts import Format
from farm.domain.mixing import ROUNDS, Round, best_of, next_count
from farm.domain.plan import Plan, PlannedStep
from farm.domain.progress import StepPhase
from farm.domain.stage import Kind
from tests.domain_run import Run
from tests.domain_world import CALIBRATION, ToyOptions, file, model, planned, stage_of, with_specs

MIXED = "int8-mixed"
OPERATORS = [f"conv{number}" for number in range(20)]


@dataclass(frozen=True, slots=True)
class ToyMixed(ToyOptions):
    keep_float: tuple[str, ...] = ()
    enough_db: float = 20.0


def plan_of(**wants: Any) -> Plan:
    quantizer = stage_of("mix-onnx", Kind.QUANTIZE, source=Format.ONNX, target=Format.ONNX, recipe=MIXED)
    world = with_specs(mix_onnx=replace(quantizer, options=ToyMixed))
    asked = {"recipes": ("float32", MIXED), "searched": ("float32", MIXED), "runtimes": ("ort",), **wants}
    calibrated = model(data=False, calibration=file("c.npz"), calibration_arrays=CALIBRATION)
    return planned(calibrated, world=world, **asked)


def in_float(run: Run, step: PlannedStep) -> int:
    """Count what the file that a step looks at keeps in float: the first round's own choice is one operator."""
    seen = step
    while "keep_float" not in seen.options or not seen.stage.startswith("mix"):
        seen = run.plan.steps[next(given.step for given in seen.inputs if given.role == "model" and given.step)]
    return len(seen.options["keep_float"]) or 1


def finished(plan: Plan, reached: Callable[[int], float], fails: int | None = None) -> Run:
    """Run it; `reached` gives the SQNR in dB for a number of operators in float."""

    def end(run: Run, step: PlannedStep) -> None:
        is_mixed = step.title.endswith(MIXED)
        if step.stage == "mix-onnx":
            if fails is not None and len(step.options["keep_float"]) == fails:
                run.fail(step, ConversionFailed("It ran out of patience.").failure)
                return
            kept = list(step.options["keep_float"]) or OPERATORS[:1]
            ranking = [{"operator": name, "sqnr_db": 10.0} for name in OPERATORS]
            run.succeed_with(step, {"keep_float": kept, "sensitivity": ranking})
        elif step.kind == "compare" and step.target is not None and is_mixed:
            run.succeed(step, sqnr_db=reached(in_float(run, step)))
        else:
            run.succeed(step)

    return Run(plan).finish(end)


def tried(run: Run) -> list[int]:
    (result,) = (one for one in run.plan.results if one.recipe == MIXED)
    return [1 if branch.in_float is None else branch.in_float for branch in result.branches]


def chosen(run: Run) -> int:
    (index,) = (at for at, one in enumerate(run.plan.results) if one.recipe == MIXED)
    branch = run.plan.results[index].branches[run.progress[index].branch]
    return 1 if branch.in_float is None else branch.in_float


def test_a_round_that_misses_the_constraint_adds_the_next_and_the_fewest_in_float_win() -> None:
    run = finished(plan_of(constraints=("sqnr >= 20dB",)), lambda count: 12.0 + count)

    assert tried(run) == [1, 6, 8, 7]
    assert chosen(run) == 8
    (told,) = answers_of(run.plan, [run.bodies[index] for index in range(len(run.plan.results))])
    assert MIXED not in {loser["recipe"] for loser in told["losers"] if "asked for" in loser["reason"]}


def test_only_the_round_that_counts_is_measured() -> None:
    run = finished(plan_of(constraints=("sqnr >= 20dB",)), lambda count: 12.0 + count)

    measured = [
        step
        for step in run.plan.steps.values()
        if step.kind == "measure" and step.title.endswith(MIXED) and run.states[step.key].phase is StepPhase.SUCCEEDED
    ]
    assert [in_float(run, step) for step in measured] == [8]
    assert run.body("ort", MIXED)["numerics"]["sqnr_db"] == 20.0


def test_a_first_round_that_keeps_it_needs_no_other() -> None:
    assert tried(finished(plan_of(constraints=("sqnr >= 20dB",)), lambda count: 30.0)) == [1]


def test_when_no_round_keeps_it_the_most_faithful_one_is_the_nearest_miss() -> None:
    run = finished(plan_of(constraints=("sqnr >= 50dB",)), {1: 9.0, 6: 19.0, 8: 15.0, 9: 11.0, 10: 12.0}.__getitem__)

    assert chosen(run) == 6
    assert run.body("ort", MIXED)["dropped"] == "sqnr 19 dB, asked for sqnr >= 50dB"


def test_the_quantizer_is_told_which_sqnr_is_asked_for() -> None:
    asked = {"sqnr >= 17.2dB": 17.2, "accuracy >= 0.9": 20.0}
    for constraint, enough_db in asked.items():
        steps = plan_of(constraints=(constraint,)).steps.values()
        assert {step.options["enough_db"] for step in steps if step.stage == "mix-onnx"} == {enough_db}


def test_a_round_that_fails_is_one_that_missed() -> None:
    run = finished(plan_of(constraints=("sqnr >= 20dB",)), lambda count: 12.0 + count, fails=6)

    assert tried(run)[:3] == [1, 6, 8]
    assert chosen(run) == 8
    assert run.body("ort", MIXED)["state"] == "succeeded"


def test_rounds_have_keys_of_their_own_and_the_same_for_the_same_plan() -> None:
    one, other = (finished(plan_of(constraints=("sqnr >= 20dB",)), lambda count: 12.0 + count) for _ in range(2))

    assert set(one.plan.steps) == set(other.plan.steps)
    (result,) = (one for one in one.plan.results if one.recipe == MIXED)
    assert len({branch.compare for branch in result.branches}) == len(result.branches)
    assert len({branch.artifact.step for branch in result.branches}) == len(result.branches)


@pytest.mark.parametrize("wants", [{"searched": ()}, {"constraints": ("size <= 5MB",), "searched": ("float32",)}])
def test_without_a_fidelity_to_keep_the_quantizers_choice_stands(wants: dict[str, Any]) -> None:
    assert tried(finished(plan_of(**wants), lambda count: 5.0)) == [1]


@given(st.integers(1, 200), st.integers(0, 250), st.integers(0, 30))
def test_bisection_ends_and_finds_the_fewest_where_fidelity_grows(most: int, enough: int, first: int) -> None:
    rounds = [Round(0, first, keeps=first >= enough, sqnr_db=0.0)]
    while (count := next_count(rounds, most)) is not None:
        assert count not in {one.count for one in rounds}
        rounds.append(Round(len(rounds), count, keeps=count >= enough, sqnr_db=float(count)))

    assert len(rounds) <= ROUNDS
    best = best_of(rounds)
    assert best.keeps == any(one.keeps for one in rounds)
    if best.keeps:
        assert best.count == min(one.count for one in rounds if one.keeps)


def test_what_leaves_nothing_in_float_is_int8_static_and_not_measured_again() -> None:
    def end(run: Run, step: PlannedStep) -> None:
        if step.stage == "mix-onnx":
            run.succeed_with(step, {"keep_float": [], "sensitivity": [{"operator": "conv0", "sqnr_db": 40.0}]})
        else:
            run.succeed(step, sqnr_db=40.0)

    run = Run(plan_of(recipes=("float32", "int8-static", MIXED), searched=("float32", "int8-static", MIXED))).finish(
        end
    )

    assert run.body("ort", MIXED)["dropped"] == "no operator has to stay in float: it is int8-static"
    assert "dropped" not in run.body("ort", "int8-static")


def test_nothing_waits_when_all_is_concluded() -> None:
    run = finished(plan_of(constraints=("sqnr >= 20dB",)), lambda count: 12.0 + count)

    assert not [state.stage for state in run.states.values() if state.phase is StepPhase.WAITING]


def test_a_first_round_that_is_lost_has_no_others() -> None:
    def end(run: Run, step: PlannedStep) -> None:
        if step.stage == "mix-onnx":
            run.succeed_with(step, {"keep_float": OPERATORS[:1], "sensitivity": [{"operator": n} for n in OPERATORS]})
        elif step.kind == "compare" and step.target is not None and step.title.endswith(MIXED):
            run.fail(step, ArtifactBroken("The file does not load.").failure)
        else:
            run.succeed(step)

    run = Run(plan_of(constraints=("sqnr >= 20dB",))).finish(end)

    assert tried(run) == [1]
    assert run.body("ort", MIXED)["message"] == "The file does not load."


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_whatever_steps_do_a_search_with_rounds_ends(data: st.DataObject) -> None:
    tried = ("float32", "int8-static", MIXED)
    run = Run(plan_of(recipes=tried, searched=tried, runtimes=("ort", "lite"), constraints=("sqnr >= 20dB",)))
    for _ in range(400):
        if not run.ready:
            break
        step = data.draw(st.sampled_from(run.ready), label="step")
        if data.draw(st.sampled_from((False, False, False, True)), label="fails"):
            run.fail(
                step, data.draw(st.sampled_from((ArtifactBroken, ConversionFailed, HostLost)))("It failed.").failure
            )
        elif step.stage == "mix-onnx":
            kept = OPERATORS[: len(step.options["keep_float"]) or 1]
            run.succeed_with(step, {"keep_float": kept, "sensitivity": [{"operator": name} for name in OPERATORS]})
        else:
            run.succeed(step, sqnr_db=data.draw(st.sampled_from((15.0, 19.0, 25.0, 90.0)), label="sqnr_db"))

    assert not run.ready
    assert sorted(run.concluded) == list(range(len(run.plan.results)))
    answers_of(run.plan, [run.bodies[index] for index in range(len(run.plan.results))])


def test_where_accuracy_is_asked_for_the_best_of_those_that_miss_it_is_the_most_accurate() -> None:
    near = Round(0, 4, keeps=False, sqnr_db=18.0, score=0.90)
    accurate = Round(1, 8, keeps=False, sqnr_db=12.0, score=0.93)
    lost = Round(2, 6, keeps=False, sqnr_db=None)

    assert best_of([near, accurate, lost]) is accurate
    assert best_of([replace(near, score=None), replace(accurate, score=None), lost]).branch == near.branch
