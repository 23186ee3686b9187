"""What a profile bounds is refused before any conversion, and what it does not bound is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from farm import catalog
from farm.domain.artifact import Artifact, FileRef
from farm.domain.errors import TooLarge
from farm.domain.plan import Plan
from farm.domain.planner import make_plan
from farm.domain.wanted import Submitted, World
from tests.domain_world import TARGETS, WORLD, model, planned, wanted

MB = 1_000_000
SMALL = replace(
    TARGETS["plain-box"],
    fields={**TARGETS["plain-box"].fields, "limits": {"max_model_bytes": 80 * MB, "max_process_bytes": 300 * MB}},
)
BOUNDED = World(WORLD.catalogue, {**WORLD.targets, "plain-box": SMALL}, WORLD.hosts)


def sized(megabytes: int, parameters: int | None) -> Submitted:
    made = model("big")
    assert made.facts is not None
    artifact = Artifact((FileRef("big.onnx", "0" * 64, megabytes * MB),))
    return replace(made, artifact=artifact, facts=replace(made.facts, parameters=parameters))


def results(big: Submitted, *recipes: str, world: World = BOUNDED) -> dict[str, str | None]:
    made = make_plan(wanted(recipes=recipes, runtimes=("ort",)), [big], world)
    assert isinstance(made, Plan), [reason.failure.message for reason in made]
    return {one.recipe: one.failure.code if one.failure else None for one in made.results if one.listed}


def test_a_model_over_the_targets_limit_is_refused_with_its_size_the_limit_and_a_way_out() -> None:
    refused = make_plan(wanted(recipes=("float32",)), [sized(100, 25 * MB)], BOUNDED)
    assert isinstance(refused, list)
    reason, *others = refused

    assert reason.failure.code == TooLarge.code
    assert reason.failure.message == (
        "big holds 100.0 MB of weights at least by recipe float32; target plain-box takes models up to 80 MB."
    )
    assert "Choose another target" in (reason.failure.remedy or "")
    assert {one.failure.code for one in others} <= {TooLarge.code}


def test_a_recipe_that_makes_it_small_enough_is_planned_beside_one_that_does_not() -> None:
    assert results(sized(100, 25 * MB), "float32", "int8-static") == {"float32": "too-large", "int8-static": None}
    assert results(sized(100, 25 * MB), "float32", world=WORLD) == {"float32": None}, "no limit, no refusal"


@pytest.mark.parametrize(
    ("megabytes", "parameters", "refused"),
    [
        (400, 10 * MB, False),
        (30, 25 * MB, False),
        (100, None, True),
        (79, None, False),
    ],
    ids=["an optimizer's state beside 40 MB", "already in integers", "unknown parameters", "under the limit"],
)
def test_a_files_size_alone_condemns_no_model(megabytes: int, parameters: int | None, refused: bool) -> None:
    big = sized(megabytes, parameters)
    made = make_plan(wanted(recipes=("float32",), runtimes=("ort",)), [big], BOUNDED)

    assert isinstance(made, list) is refused


def test_a_process_on_the_target_has_the_memory_that_its_profile_gives_and_builders_have_theirs() -> None:
    steps = planned(world=BOUNDED).steps.values()

    assert {step.memory_bytes for step in steps if step.target} == {300 * MB}
    assert all(step.memory_bytes > 300 * MB for step in steps if not step.target)
    assert all(step.memory_bytes > 300 * MB for step in planned().steps.values())


def test_the_limits_of_a_real_profile_are_read() -> None:
    assert catalog.targets()["raspberry-pi-zero-2-w"].read("limits.max_model_bytes") == 80 * MB
