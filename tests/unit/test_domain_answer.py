"""The answer: who wins, who stands on the Pareto front, and why each of the others lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.domain.answer import Candidate, Objective, choose, pareto
from farm.domain.constraint import parse_constraint
from tests.domain_answers import result

FLOAT = result(p90=10_000.0, size=4_000_000, accuracy=0.89)
INT8 = result("int8-static", p90=4_000.0, size=1_000_000, accuracy=0.885)
ROUGH = result("int8-dynamic", p90=2_000.0, size=1_000_000, accuracy=0.60)
SLOW = result("float16", p90=12_000.0, size=2_000_000, accuracy=0.89)
BROKEN = result("int16x8", failed="the tool said no")


def answer(bodies: list[dict[str, Any]], *constraints: str, objective: Objective = "latency") -> dict[str, Any]:
    candidates = [Candidate(body, FLOAT) for body in bodies]
    return choose(candidates, [parse_constraint(text) for text in constraints], objective)


def recipe_of(ref: dict[str, str] | None) -> str | None:
    return ref["recipe"] if ref else None


def reasons(told: dict[str, Any]) -> dict[str, str]:
    return {loser["recipe"]: loser["reason"] for loser in told["losers"]}


def test_the_fastest_that_is_good_enough_wins_and_every_loser_has_its_reason() -> None:
    told = answer([FLOAT, INT8, ROUGH, SLOW, BROKEN], "accuracy >= 0.99*float")

    assert recipe_of(told["winner"]) == "int8-static"
    assert reasons(told) == {
        "float32": "p90 10 ms; the winner has 4 ms",
        "int8-dynamic": "accuracy 0.6, asked for accuracy >= 0.99*float (0.8811)",
        "float16": "p90 12 ms; the winner has 4 ms",
        "int16x8": "failed: the tool said no",
    }
    assert told["nearest_miss"] is None


@pytest.mark.parametrize(
    ("objective", "recipe"), [("latency", "int8-dynamic"), ("size", "int8-static"), ("accuracy", "float32")]
)
def test_each_objective_has_its_winner(objective: Objective, recipe: str) -> None:
    """Among equally small files the more faithful one wins; among equally faithful ones the one that is smaller."""
    told = answer([FLOAT, INT8, ROUGH], objective=objective)

    assert recipe_of(told["winner"]) == recipe


def test_within_the_noise_the_more_faithful_one_wins() -> None:
    close = result("int8-static", p90=4_100.0, accuracy=0.889)
    told = answer([result("int8-dynamic", p90=4_000.0, accuracy=0.885), close])

    assert recipe_of(told["winner"]) == "int8-static"
    assert "as good as the winner's" in reasons(told)["int8-dynamic"]


def test_a_noisy_host_widens_what_counts_as_equal() -> None:
    close = result("int8-static", p90=4_300.0, accuracy=0.889)

    assert recipe_of(answer([result("int8-dynamic", p90=4_000.0, accuracy=0.885), close])["winner"]) == "int8-dynamic"
    noisy = result("int8-dynamic", p90=4_000.0, accuracy=0.885, noise_floor_ratio=0.09)
    assert recipe_of(answer([noisy, close])["winner"]) == "int8-static"


def board(recipe: str, host: str, p90: float, reference: float | None, runtime: str = "onnxruntime") -> dict[str, Any]:
    return result(recipe, p90=p90, host=host, reference_median_us=reference, runtime=runtime)


def test_a_faster_board_of_the_same_profile_makes_no_winner() -> None:
    fair = board("int8-static", "old", 4_000.0, 400.0)
    lucky = board("int8-dynamic", "new", 3_000.0, 200.0)
    told = answer([board("float32", "old", 9_000.0, 400.0), fair, lucky])

    assert recipe_of(told["winner"]) == "int8-static"
    assert reasons(told)["int8-dynamic"] == (
        "p90 3 ms (on host new, which takes 0.50x the time of old for the reference model); the winner has 4 ms"
    )


def test_a_bound_on_a_time_is_held_at_one_boards_pace_and_says_what_was_measured() -> None:
    """The fast board's 3 ms are 6 ms on the board of the others, the slow one's 7 ms are 3.5 ms there."""
    base = [board("float32", "old", 9_000.0, 400.0), board("int16x8", "old", 8_000.0, 400.0)]
    told = answer([*base, board("int8-dynamic", "new", 3_000.0, 200.0)], "p90 <= 5ms")

    assert told["winner"] is None
    assert reasons(told)["int8-dynamic"] == (
        "p90 6 ms, asked for p90 <= 5ms (measured as 3 ms on host new, which takes 0.50x the time of old "
        "for the reference model)"
    )

    told = answer([*base, board("int8-static", "worn", 7_000.0, 800.0)], "p90 <= 5ms")
    assert recipe_of(told["winner"]) == "int8-static"
    assert told["winner"]["reason"] == (
        "p90 3.5 ms keeps p90 <= 5ms at the pace of host old (measured as 7 ms on host worn, which takes 2.00x the "
        "time of old for the reference model)"
    )


def test_a_share_of_floats_time_is_asked_at_one_boards_pace() -> None:
    """Float on the fast board takes 4.5 ms, which is 9 ms on the board of the others: half of it is kept by 4 ms."""
    slow = [board("int8-static", "old", 4_000.0, 400.0), board("int8-dynamic", "old", 5_000.0, 400.0)]
    baseline = board("float32", "new", 4_500.0, 200.0)
    candidates = [Candidate(body, baseline) for body in (baseline, *slow)]

    told = choose(candidates, [parse_constraint("p90 <= 0.5*float")], "latency")

    assert recipe_of(told["winner"]) == "int8-static"
    assert reasons(told)["int8-dynamic"] == "p90 5 ms, asked for p90 <= 0.5*float (4.5 ms)"


def test_a_board_that_shares_no_reference_with_the_others_is_not_compared() -> None:
    alone = board("int8-dynamic", "new", 3_000.0, 200.0, runtime="litert")
    told = answer([board("float32", "old", 9_000.0, 400.0), board("int8-static", "old", 4_000.0, 400.0), alone])

    assert recipe_of(told["winner"]) == "int8-static"
    assert "no reference model ran on its host new" in reasons(told)["int8-dynamic"]


def test_nothing_satisfies_this_comes_with_the_nearest_miss() -> None:
    told = answer([FLOAT, INT8, ROUGH], "p90 <= 1ms", "accuracy >= 0.99*float")

    assert told["winner"] is None
    assert recipe_of(told["nearest_miss"]) == "int8-dynamic"
    assert {loser["recipe"] for loser in told["losers"]} == {"float32", "int8-static", "int8-dynamic"}


def test_an_invalid_measurement_never_wins_by_its_speed() -> None:
    told = answer([FLOAT, result("int8-static", p90=10.0, reasons=("loaded", "steal"))])

    assert recipe_of(told["winner"]) == "float32"
    assert reasons(told)["int8-static"] == "its latency is not known: no valid measurement (loaded, steal)"


def test_what_nothing_beats_is_on_the_front_though_its_measurement_does_not_count_and_says_so() -> None:
    """Slower than the winner and far nearer to the source: losing it to a drift would lose what a user may want."""
    fast = result("int8-static", p90=4_000.0, size=1_000_000, accuracy=None, sqnr=30.0)
    near = result("int8-dynamic", p90=5_000.0, size=1_000_000, accuracy=None, sqnr=50.0, reasons=("reference-drift",))
    behind = result("float16", p90=6_000.0, size=2_000_000, accuracy=None, sqnr=45.0, reasons=("unstable",))
    emulated = result("int4-weights", p90=1.0, size=1, accuracy=None, sqnr=90.0, reasons=("emulated",))

    told = answer([fast, near, behind, emulated])

    assert {one["recipe"]: one.get("reason") for one in told["pareto"]} == {
        "int8-static": None,
        "int8-dynamic": "its p90 of 5 ms does not count (reference-drift); if it did, nothing would beat this",
    }
    assert recipe_of(told["winner"]) == "int8-static"


def test_without_labels_fidelity_is_the_sqnr() -> None:
    near, far = (result(name, accuracy=None, sqnr=db) for name, db in (("float16", 60.0), ("int8-static", 12.0)))

    assert recipe_of(answer([far, near], objective="accuracy")["winner"]) == "float16"


def test_a_small_error_is_a_good_score() -> None:
    bodies = [result(name, metric="mae", accuracy=value) for name, value in (("float16", 0.9), ("int8-static", 1.3))]

    assert recipe_of(answer(bodies, objective="accuracy")["winner"]) == "float16"


def test_what_was_dropped_early_is_a_loser_with_that_reason() -> None:
    told = choose([Candidate(FLOAT), Candidate(ROUGH, FLOAT, dropped="sqnr 3 dB, asked for 10 dB")], [], "latency")

    assert recipe_of(told["winner"]) == "float32"
    assert reasons(told) == {"int8-dynamic": "sqnr 3 dB, asked for 10 dB"}


bodies = st.builds(
    result,
    st.sampled_from(["float32", "float16", "int8-static", "int8-dynamic"]),
    runtime=st.sampled_from(["onnxruntime", "litert"]),
    p90=st.floats(1, 1e6),
    size=st.integers(1, 10**8),
    accuracy=st.floats(0, 1),
    reasons=st.sampled_from([(), ("loaded",)]),
    failed=st.sampled_from([None, None, None, "no"]),
)


@given(st.lists(bodies, max_size=8), st.sampled_from(["latency", "size", "accuracy", "memory"]))
def test_everyone_is_the_winner_or_a_loser_and_no_winner_is_beaten_in_everything(
    found: list[dict[str, Any]], objective: Objective
) -> None:
    told = answer(found, objective=objective)
    candidates = [Candidate(body, FLOAT) for body in found]

    assert len(told["losers"]) + (told["winner"] is not None) == len(found)
    assert all(loser["reason"] for loser in told["losers"])
    assert told == answer(found, objective=objective)
    if objective == "latency" and told["winner"]:
        best = min(body["execution_summary"]["p90"] for body in found if body.get("conditions", {}).get("valid"))
        assert any(
            one.ref == told["winner"] and one.body["execution_summary"]["p90"] <= 1.03 * best
            for one in candidates
            if one.body["verdict"] != "failed"
        )
    assert bool(pareto(candidates)) == any(body.get("conditions", {}).get("valid") for body in found)
