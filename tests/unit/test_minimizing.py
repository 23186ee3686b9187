"""What drives a minimization: which tests it asks for, what it takes for an answer, and what it passes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from farm.domain.artifact import Artifact
from farm.domain.errors import (
    BadRequest,
    ConversionFailed,
    CorruptModel,
    EnvironmentMissing,
    FarmBug,
    FarmError,
    JobCancelled,
    ToolTimedOut,
)
from farm.domain.signature import Signature
from farm.transfer import hash_file
from tests.unit import test_worker_outcomes as outcomes
from workers.minimizing import (
    HANG_S,
    LEAST_WALL_S,
    ORIGINAL_SHARE,
    QUANTIZING_S,
    failing_of,
    hints,
    minimize,
)
from workers.results import Made
from workers.stage_runs import Place, StageCall
from workers.stages import load_specs

farm = outcomes.farm
NODES = ("Conv", "Relu", "Conv", "Relu", "Conv", "Relu", "Det", "Relu")
CUTTER = load_specs()["minimize-onnx"]
Answer = Callable[[tuple[int, ...] | None], FarmError | None]
"""How the failing stage ends with a part of NODES, or (None) with the submitted model."""


@dataclass
class ScriptedPlace:
    """Stands in for a sandbox: cuts by writing the part's numbers, and asks `answer` how the stage ends."""

    answer: Answer
    cut: Callable[[tuple[int, ...]], FarmError | None] = lambda part: None
    walls_s: list[float] = field(default_factory=list)
    parts: list[tuple[int, ...]] = field(default_factory=list)

    def run(self, asked: StageCall, work: Path, stop: threading.Event) -> Made:
        work.mkdir(parents=True)
        if asked.spec is not CUTTER:
            return self._stage(asked)
        part = asked.options.get("part")
        if part is None:
            facts = {"nodes": len(NODES), "original_nodes": 9, "operators": list(NODES)}
            return _made(work, "skeleton", "", facts | {"message": asked.options["message"]})
        if error := self.cut(tuple(part)):
            raise error
        return _made(work, "model", ",".join(map(str, part)), {"inputs": [], "outputs": []})

    def _stage(self, asked: StageCall) -> Made:
        self.walls_s.append(asked.wall_s)
        text = asked.files["model"].read_text()
        part = None if text == "submitted" else tuple(map(int, text.split(",")))
        if part is not None:
            self.parts.append(part)
        if error := self.answer(part):
            raise error
        return Made()


def _made(work: Path, name: str, text: str, facts: Mapping[str, Any]) -> Made:
    path = work / f"{name}.onnx"
    path.write_text(text)
    ref = hash_file(path)
    return Made({name: Artifact((ref,))}, {ref.sha256: path}, facts)


def run(place: ScriptedPlace, folder: Path, **options: Any) -> Made:
    (folder / "submitted.onnx").write_text("submitted")
    told = {"stage": "onnx-to-tflite", "options": {}, **options}
    failing = failing_of(CUTTER, told, {"model": folder / "submitted.onnx"}, None)
    return minimize(failing, cast(Place, place), folder / "run-0", threading.Event())


def needs(*wanted: int, error: FarmError | None = None) -> Answer:
    failure = error or ConversionFailed("No form of this graph is known.")
    return lambda part: failure if part is None or set(wanted) <= set(part) else None


def test_what_matters_is_left_and_bundled(tmp_path: Path) -> None:
    made = run(ScriptedPlace(needs(2, 6)), tmp_path)

    assert (made.facts["operators"], made.facts["original_nodes"]) == (["Conv", "Det"], 9)
    assert list(made.outputs) == ["repro"]
    assert made.facts["reproduced"]
    assert made.facts["minimal"]
    assert "2 of 8 nodes are left" in (tmp_path / "run-0" / "log.txt").read_text()


def test_candidates_that_are_not_the_best_leave_no_files(tmp_path: Path) -> None:
    run(ScriptedPlace(needs(2, 6)), tmp_path)

    assert len([path for path in (tmp_path / "run-0").rglob("model.onnx") if path.read_text() == "2,6"]) == 1
    assert len(list((tmp_path / "run-0").rglob("model.onnx"))) == 1


def test_another_failure_does_not_count(tmp_path: Path) -> None:
    """Given parts that fail for being cut; then the search does not slip to them."""
    wanted = needs(2, 6)
    place = ScriptedPlace(lambda part: wanted(part) or ConversionFailed("A graph needs more nodes than that."))

    assert run(place, tmp_path).facts["operators"] == ["Conv", "Det"]


def test_an_operator_that_the_failure_names_is_tried_first(tmp_path: Path) -> None:
    place = ScriptedPlace(needs(6, error=ConversionFailed("Unresolved custom op: ONNX_DET.")))
    made = run(place, tmp_path)

    assert place.parts == [tuple(range(8)), (6,)]
    assert made.facts["attempts"] == 1


def test_words_that_hold_an_operators_name_are_no_hint() -> None:
    said = Signature("conversion-failed", None, "an error, normalized: no Conv# here; Add to it")

    assert hints(["Or", "Conv", "Norm"], said) == []
    assert hints(["Or", "Add", "Conv3"], said)[:2] == [(2,), (1,)]


@pytest.mark.parametrize(
    "error", [EnvironmentMissing("Not installed."), JobCancelled("Stop."), CorruptModel("Cut off.")]
)
def test_what_is_no_toolchains_failure_is_passed_on(tmp_path: Path, error: FarmError) -> None:
    with pytest.raises(type(error)):
        run(ScriptedPlace(lambda part: error), tmp_path)


@pytest.mark.parametrize("kind", [EnvironmentMissing, CorruptModel])
def test_what_a_tool_complains_of_is_searched_whoever_must_act(tmp_path: Path, kind: type[FarmError]) -> None:
    """Given a known message of a tool; then it is reproduced, though its remedy is not the toolchain's."""
    error = kind("The tool lacks a library.", tool="onnx2tf", version="2.6.9")

    assert run(ScriptedPlace(needs(2, 6, error=error)), tmp_path).facts["operators"] == ["Conv", "Det"]


def test_a_host_that_fails_midway_ends_the_search(tmp_path: Path) -> None:
    wanted = needs(2, 6)

    with pytest.raises(EnvironmentMissing):
        run(
            ScriptedPlace(lambda part: wanted(part) if part is None or len(part) > 4 else EnvironmentMissing("Gone.")),
            tmp_path,
        )


def test_a_part_that_can_not_be_cut_is_left_alone(tmp_path: Path) -> None:
    place = ScriptedPlace(needs(6), cut=lambda part: FarmBug("The cutter fails.") if len(part) < 3 else None)
    made = run(place, tmp_path)

    assert made.facts["nodes"] == 3
    assert made.facts["impossible_cuts"] > 0


def test_a_failure_that_random_weights_do_not_show_gives_its_reason(tmp_path: Path) -> None:
    first = ConversionFailed("The weights are too large.")
    gone = run(ScriptedPlace(lambda part: first if part is None else None), tmp_path)

    assert gone.facts["reason"].startswith("With random weights and neutral names the stage succeeds")
    assert gone.outputs == {}


def test_limits_of_time_follow_the_original(tmp_path: Path) -> None:
    """Given a hang; then the original gets a share of the budget, and every test what counts as a hang."""
    place = ScriptedPlace(needs(6, error=ToolTimedOut("It did not end within 48 s.")))
    made = run(place, tmp_path)

    assert made.facts["signature"] == "tool-timed-out: timed out"
    assert (made.facts["code"], made.facts["limit_s"]) == ("tool-timed-out", 48.0)
    assert place.walls_s[0] == pytest.approx(48.0)
    assert set(place.walls_s[1:]) == {HANG_S}


def test_a_cut_that_the_budget_stops_does_not_hang(tmp_path: Path) -> None:
    """Given a hang, and a budget that leaves each test less than what counts as one; then nothing is taken for it."""
    place = ScriptedPlace(needs(6, error=ToolTimedOut("It did not end.")))
    made = run(place, tmp_path, budget_s=HANG_S / 2)

    assert max(place.walls_s[2:]) < HANG_S
    assert made.facts["nodes"] == len(NODES)


def test_a_quantizers_search_does_not_hold_its_result_for_long(tmp_path: Path) -> None:
    """Given a quantizer that takes longer than its share; then that is said, and nothing is searched."""
    place = ScriptedPlace(needs(6, error=ToolTimedOut("It did not end within 12 s.")))
    made = run(place, tmp_path, stage="quantize-onnx-int8-static")

    assert place.walls_s == [pytest.approx(ORIGINAL_SHARE * QUANTIZING_S)]
    assert made.outputs == {}
    assert made.facts["reason"].startswith("Repeating the failure of a quantizer took longer than")


def test_a_quantizer_that_fails_at_once_is_searched(tmp_path: Path) -> None:
    assert run(ScriptedPlace(needs(2, 6)), tmp_path, stage="quantize-onnx-int8-static").facts["nodes"] == 2


def test_a_quick_failure_still_gets_some_seconds(tmp_path: Path) -> None:
    place = ScriptedPlace(needs(6))
    run(place, tmp_path)

    assert set(place.walls_s[1:]) == {LEAST_WALL_S}


def test_tries_end_the_search(tmp_path: Path) -> None:
    made = run(ScriptedPlace(needs(6)), tmp_path, tries=1)

    assert made.facts["attempts"] == 1
    assert not made.facts["minimal"]


def test_an_unknown_stage_and_unknown_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="No stage is called 'nothing'"):
        run(ScriptedPlace(needs(6)), tmp_path, stage="nothing")
    with pytest.raises(BadRequest, match="do not fit"):
        failing_of(CUTTER, {"budget": 3}, {}, None)


def test_the_runner_hands_a_minimizing_step_to_its_driver(farm: outcomes.Farm, tmp_path: Path) -> None:
    """Given a step that names no stage; then its driver says so, and no child ran."""
    farm.stage = CUTTER.name
    told = outcomes.outcome_of(farm, tmp_path, outcomes.tells(facts={"ran": True}))

    assert (told["state"], told["failure"]["code"]) == ("failed", "bad-request")
    assert "can't be minimized" in told["failure"]["message"]
