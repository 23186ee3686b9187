"""A job with a goal: what is refused at once, who takes part, and the answer."""

from __future__ import annotations

from typing import Any

import pytest

from farm.domain.answers import answers_of
from farm.domain.goal import Goal
from farm.domain.plan import PlannedStep
from farm.domain.planner import request_reasons
from farm.report.schema import violations
from tests.domain_run import Run
from tests.domain_world import WORLD, model, planned, refused, wanted, with_specs

KEEP = "sqnr >= 20dB"


def answer(run: Run) -> dict[str, Any]:
    (told,) = answers_of(run.plan, [run.bodies[index] for index in range(len(run.plan.results))])
    return told


def test_everything_wrong_with_a_goal_is_told_at_once() -> None:
    said = wanted(
        constraints=("speed", "beauty >= 3", "size <= 20ms", "p90 >= 9ms", "accuracy >= 0.9", "accuracy <= 0.2"),
        objective="fame",
        unscored=("net",),
    )
    messages = [reason.failure.message for reason in request_reasons(said, WORLD)]

    for about in (
        "'speed' is not of the form",
        "'beauty'",
        "gives size in ms",
        "wrong side",
        "contradict",
        "no objective 'fame'",
    ):
        assert any(about in message for message in messages), (about, messages)
    (scored,) = (reason for reason in request_reasons(said, WORLD) if "samples to score" in reason.failure.message)
    assert "--evaluation" in (scored.failure.remedy or "")


def test_the_smallest_result_that_keeps_its_constraints_wins_and_the_others_say_why_not() -> None:
    plan = planned(constraints=(KEEP, "p90 <= 2ms"), objective="latency", runtimes=("ort",))
    fast = {key for r in plan.results if r.recipe == "int8-static" for key in (r.branches[0].measure,)}

    def end(run: Run, step: PlannedStep) -> None:
        run.succeed(step, median_us=500.0 if step.key in fast else 1000.0)

    told = answer(Run(plan).finish(end))

    assert told["winner"]["recipe"] == "int8-static"
    assert [loser["recipe"] for loser in told["losers"]] == ["float32"]
    assert "the winner has" in told["losers"][0]["reason"]
    report = {"schema_version": "1", "job": "j", "state": "succeeded", "results": [], "answer": told}
    assert violations(report) == []


def test_nothing_that_satisfies_it_comes_with_the_nearest_miss() -> None:
    told = answer(Run(planned(constraints=("size <= 1B",))).finish())

    assert told["winner"] is None
    assert "asked for size <= 1B" in told["nearest_miss"]["reason"]


def test_float32_takes_part_unnamed_and_a_candidate_without_a_route_fails_nothing() -> None:
    plan = planned(
        world=with_specs(quantize_tflite=None),
        recipes=("float32", "int8-static"),
        searched=("float32", "int8-static"),
        runtimes=("ort", "lite"),
    )

    assert all(result.failure is None for result in plan.results)
    assert {result.recipe for result in plan.results if result.listed} == {"float32", "int8-static"}
    told = answer(Run(plan).finish())
    (lost,) = (loser for loser in told["losers"] if loser["target_runtime"] == "lite" and "int8" in loser["recipe"])
    assert "No route" in lost["reason"]


def test_a_searched_recipe_without_its_calibration_data_is_a_loser() -> None:
    bare = model(data=False)
    plan = planned(bare, recipes=("float32", "int8-static"), searched=("int8-static", "float32"), runtimes=("ort",))

    assert [result.recipe for result in plan.results] == ["float32"]
    assert "needs calibration data" in answer(Run(plan).finish())["losers"][0]["reason"]
    assert any("needs calibration data" in said for said in refused(bare, recipes=("int8-static",), runtimes=("ort",)))


def test_named_recipes_that_can_not_be_are_refused_though_float32_could_answer() -> None:
    bare = model(data=False)

    said = refused(bare, recipes=("int8-static", "float32"), searched=("float32",), constraints=(KEEP,))

    assert said
    assert all("Recipe int8-static needs calibration data" in message for message in said)


@pytest.mark.parametrize(("data", "usual"), [(True, "accuracy >= 0.99*float"), (False, "sqnr >= 20dB")])
def test_a_search_without_constraints_gets_those_of_the_house(data: bool, usual: str) -> None:
    plan = planned(model(data=data), recipes=("float32", "int8-static"), searched=("float32", "int8-static"))

    assert plan.goals == {"net": Goal((usual,), "latency")}
    assert planned().goals == {}
