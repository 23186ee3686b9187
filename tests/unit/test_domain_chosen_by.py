"""What the farm chooses by are other samples than those that it reports on, where the data reaches for both."""

from __future__ import annotations

from typing import Any

import pytest

from farm.domain.answer import Candidate, choose
from farm.domain.answers import answers_of, decided_on
from farm.domain.constraint import QUANTITIES, parse_constraint
from farm.domain.data import CHOSEN_BY
from farm.domain.plan import Plan
from farm.domain.stage import Kind
from farm.domain.told import unusable_fact
from tests.domain_answers import result
from tests.domain_run import Run, facts_of
from tests.domain_world import LABELLED, file, model, planned

ROWS = {"image": {"dtype": "float32", "shape": [16, 3, 32, 32], "rows": [f"{number:016x}" for number in range(16)]}}
OTHERS = {"image": ROWS["image"] | {"rows": [f"{number:016x}" for number in range(100, 116)]}}
ASKED: dict[str, Any] = {"constraints": ("sqnr >= 20dB",), "runtimes": ("ort",)}


def plan_of(*, wants: dict[str, Any] = ASKED, **given: Any) -> Plan:
    calibrated = {"data": False, "calibration": file("calibration.npz"), "calibration_arrays": ROWS}
    return planned(model(**(calibrated | given)), **wants)


def references(plan: Plan) -> list[tuple[bool, int, set[str]]]:
    """Tell of each run of the source whether it marks what selects, its samples, and what it reads."""
    found = [step for step in plan.steps.values() if step.kind == Kind.REFERENCE]
    return [(step.options["selects"], step.options["samples"], {one.role for one in step.inputs}) for step in found]


def chosen(body: dict[str, Any], **selection: Any) -> dict[str, Any]:
    """Add figures of the samples that select to a result's."""
    return body | {
        part: (body[part] or {}) | {CHOSEN_BY: (body[part] or {}) | {name: value}}
        for part, name, value in (
            ("numerics", "sqnr_db", selection.get("sqnr")),
            ("accuracy", "value", selection.get("accuracy")),
        )
        if value is not None
    }


def test_one_run_of_the_source_serves_the_choice_and_the_report() -> None:
    assert references(plan_of()) == [(True, 8, {"model", "samples"})]


def test_nothing_is_run_for_a_choice_that_nobody_asks_for() -> None:
    assert references(plan_of(wants={"runtimes": ("ort",)})) == [(False, 8, {"model", "samples"})]


def test_beside_evaluation_data_the_calibration_data_selects() -> None:
    found = references(plan_of(evaluation=file("evaluation.npz"), evaluation_arrays=OTHERS, metric="agreement"))

    assert sorted(count for _, count, _ in found) == [8, 100_000]
    assert all(selects and roles == {"model", "samples", CHOSEN_BY} for selects, _, roles in found)


def test_labels_decide_and_are_reported() -> None:
    labelled = {**OTHERS, "labels": LABELLED["labels"] | {"shape": [16]}}
    found = references(plan_of(evaluation=file("evaluation.npz"), evaluation_arrays=labelled, metric="top1"))

    assert {count: selects for selects, count, _ in found} == {8: True, 100_000: False}


def test_a_constraint_is_held_against_the_samples_that_select() -> None:
    asked = parse_constraint("sqnr >= 20dB")

    assert asked.broken_by(chosen(result(sqnr=19.0), sqnr=21.0), None) is None
    broken = asked.broken_by(chosen(result(sqnr=21.0), sqnr=19.0), None)
    assert broken == "sqnr 19 dB on the samples that select, asked for sqnr >= 20dB"
    assert asked.broken_by(result(sqnr=19.0), None) == "sqnr 19 dB, asked for sqnr >= 20dB"


def test_a_share_of_the_float_accuracy_is_of_the_same_samples() -> None:
    body = result(accuracy=0.5, metric="agreement")
    body["accuracy"] |= {CHOSEN_BY: {"value": 0.995, "float_value": 1.0, "samples": 4}}

    assert parse_constraint("accuracy >= 0.99*float").broken_by(body, None) is None
    assert QUANTITIES["accuracy"].read(body) == 0.995


def test_the_more_faithful_of_equals_is_so_on_the_samples_that_select() -> None:
    one = chosen(result("a", sqnr=50.0, accuracy=None), sqnr=30.0)
    other = chosen(result("b", sqnr=30.0, accuracy=None), sqnr=31.0)

    told = choose([Candidate(one), Candidate(other)], [], "latency")

    assert told["winner"]["recipe"] == "b"


def searched(selection_db: float | None, report_db: float) -> Run:
    """Run a search in which int8-static reaches these figures on its host."""
    wants = {**ASKED, "recipes": ("float32", "int8-static"), "searched": ("float32", "int8-static")}
    plan = plan_of(wants=wants)

    def end(run: Run, step: Any) -> None:
        if step.kind != Kind.COMPARE:
            return run.succeed(step)
        quantized = "int8-static" in step.title
        facts = facts_of(step, sqnr_db=report_db if quantized else 120.0)
        if selection_db is not None:
            facts["numerics"][CHOSEN_BY] = {"sqnr_db": selection_db if quantized else 120.0, "samples": 8}
        return run.succeed_with(step, facts)

    return Run(plan).finish(end)


def answer(run: Run) -> dict[str, Any]:
    (told,) = answers_of(run.plan, [run.bodies[index] for index in range(len(run.plan.results))])
    return told


@pytest.mark.parametrize(("selection_db", "report_db", "given_up"), [(25.0, 15.0, False), (15.0, 25.0, True)])
def test_a_search_gives_up_by_what_selects_and_shows_what_it_did_not_see(
    selection_db: float, report_db: float, given_up: bool
) -> None:
    run = searched(selection_db, report_db)
    body = run.body("ort", "int8-static")

    assert (body["state"] == "cancelled") is given_up
    assert body["numerics"]["sqnr_db"] == report_db
    assert body["numerics"][CHOSEN_BY]["sqnr_db"] == selection_db
    assert answer(run)["decided_on"] == ("The samples that decided neither calibrated nor are shown in the results.")


def test_figures_of_the_samples_that_decided_are_said_to_flatter() -> None:
    assert answer(searched(None, 25.0))["decided_on"] == (
        "Accuracy and SQNR decided on the samples that they are shown of, so the winner's flatters a little."
    )


def test_a_labelled_metric_is_said_to_decide_on_what_is_shown() -> None:
    body = chosen(result(sqnr=40.0), sqnr=39.0)

    assert decided_on([body]) == (
        "The samples that decided neither calibrated nor are shown in the results, but for top1: it decided on the "
        "evaluation data that it is shown of, so the winner's flatters a little."
    )
    assert decided_on([result(failed="no")]) == "No output was compared."


@pytest.mark.parametrize("selection", ["none", {"sqnr_db": "20"}, {"cosine": True}])
def test_figures_to_choose_by_that_are_none_are_broken(selection: Any) -> None:
    facts = {
        "numerics": {"sqnr_db": 20.0, CHOSEN_BY: selection},
        "artifact": {"inputs": [], "outputs": [], "contract_changes": []},
    }

    assert str(unusable_fact(Kind.COMPARE, facts)).startswith("numerics")


@pytest.mark.parametrize("selection", ["none", {"value": 1.0}, {"value": None, "float_value": 1.0}])
def test_scores_to_choose_by_that_are_none_are_broken(selection: Any) -> None:
    accuracy = {"metric": "agreement", "value": 0.9, "float_value": 1.0, "samples": 4, CHOSEN_BY: selection}

    assert str(unusable_fact(Kind.EVALUATE, {"accuracy": accuracy})).startswith("accuracy")
