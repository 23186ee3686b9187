"""Mixed precision: operators are ranked by what each costs alone, and as few as needed stay in float."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from farm.domain.artifact import Contract
from farm.domain.errors import ArtifactBroken, BadRequest, ConversionFailed
from farm.report.measured import sentences
from farm.report.model import Result
from tests.report_samples import result
from workers.stages.quantize.mixed import _base, _counts, _refuse_unknown
from workers.stages.quantize.selection import Candidate, Chosen, try_coarsest, try_each
from workers.stages.quantize.sensitivity import rank

COSTS = {"Conv_0": 12.0, "Conv_1": 40.0, "Conv_2": 8.5, "Gemm_3": 31.0}


class Scores:
    """A stand-in for a judge: a file holds the name of an operator, whose figure is known."""

    def __init__(self, folder: Path, costs: dict[str, float]) -> None:
        self._folder, self._costs, self.seen = folder, costs, list[str]()

    def new_path(self) -> Path:
        return self._folder / f"{len(self.seen)}.onnx"

    def judge(self, path: Path) -> tuple[Contract, float]:
        self.seen.append(name := path.read_text())
        if name not in self._costs:
            raise ArtifactBroken("It does not load.")
        return Contract((), ()), self._costs[name]


def ranked(folder: Path, costs: dict[str, float], **more: Any) -> tuple[Scores, Any]:
    scores = Scores(folder, costs)
    return scores, rank(scores, list(COSTS), lambda path, operator: path.write_text(operator) and None, **more)


def test_the_dearest_operator_comes_first(tmp_path: Path) -> None:
    scores, found = ranked(tmp_path, COSTS)

    assert [cost.operator for cost in found.costs] == ["Conv_2", "Conv_0", "Gemm_3", "Conv_1"]
    assert found.worst(2) == ("Conv_2", "Conv_0")
    assert found.facts["sensitivity"][0] == {"operator": "Conv_2", "sqnr_db": 8.5}
    assert scores.seen == ["Conv_0", "Gemm_3", "Conv_1", "Conv_2"]
    assert list(tmp_path.iterdir()) == []


def test_what_fails_alone_is_told_and_not_ranked(tmp_path: Path) -> None:
    _, found = ranked(tmp_path, {name: db for name, db in COSTS.items() if name != "Conv_1"})

    assert found.unmeasured == ("Conv_1",)
    assert len(found.costs) == 3


def test_a_ranking_ends_with_its_budget(tmp_path: Path) -> None:
    scores, found = ranked(tmp_path, COSTS, budget_s=-1.0)

    assert scores.seen == []
    assert found.costs == ()
    assert found.unmeasured == tuple(COSTS)


def test_fidelity_need_not_grow_with_the_number_kept_so_the_best_wins(tmp_path: Path) -> None:
    scores = Scores(tmp_path, {"one": 14.0, "two": 17.0, "three": 16.0})
    chosen = try_each(scores, candidates(["one", "two", "three"]), enough_db=20.0)

    assert (chosen.name, chosen.sqnr_db) == ("two", 17.0)
    assert dict(chosen.tried) == {"one": 14.0, "two": 17.0, "three": 16.0}


def test_the_first_that_is_near_enough_ends_the_search(tmp_path: Path) -> None:
    scores = Scores(tmp_path, {"one": 14.0, "two": 17.0, "three": 40.0})

    assert try_each(scores, candidates(["one", "two", "three"]), enough_db=15.0).name == "two"
    assert scores.seen == ["one", "two"]


def test_what_was_tried_in_vain_is_told_with_the_reasons(tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        raise ArtifactBroken("The quantized file returns values that are not finite.")

    with pytest.raises(ConversionFailed) as caught:
        try_each(Scores(tmp_path, {}), [Candidate("weighted", refuse), Candidate("plain", refuse)], enough_db=20.0)

    assert "of 2 tried" in caught.value.message
    assert "weighted: The quantized file returns values that are not finite; plain: " in caught.value.message
    assert "float16" in (caught.value.remedy or "")
    assert set(caught.value.evidence["tried"]) == {"weighted", "plain"}


@pytest.mark.parametrize(
    ("reached", "kept", "made"),
    [
        ({"fine": 30.0, "coarse": 25.0}, "coarse", ["fine", "coarse"]),
        ({"fine": 30.0, "coarse": 15.0}, "fine", ["fine", "coarse"]),
        ({"fine": 15.0, "coarse": 25.0}, "fine", ["fine"]),
        ({"coarse": 15.0}, "coarse", ["fine", "coarse"]),
    ],
)
def test_ways_that_keep_less_in_float_are_made_while_it_is_enough(
    tmp_path: Path, reached: dict[str, float], kept: str, made: list[str]
) -> None:
    scores = Scores(tmp_path, reached)

    chosen = try_coarsest(scores, candidates(["fine", "coarse"]), enough_db=20.0)

    assert (chosen.name, scores.seen) == (kept, made)
    assert {name: tried for name, tried in chosen.tried.items() if name in reached} == {
        n: reached[n] for n in made if n in reached
    }


def test_no_way_that_works_is_told_with_each_reason(tmp_path: Path) -> None:
    with pytest.raises(ConversionFailed, match="fine: It does not load; coarse: It does not load"):
        try_coarsest(Scores(tmp_path, {}), candidates(["fine", "coarse"]), enough_db=20.0)


def candidates(names: Sequence[str]) -> list[Candidate]:
    return [Candidate(name, lambda path, name=name: path.write_text(name) and None) for name in names]


def test_at_most_half_of_the_operators_are_tried_in_float() -> None:
    assert list(_counts(52)) == [1, 2, 3, 4, 6, 8, 12, 16, 24]
    assert list(_counts(1)) == [1]


def test_a_base_is_known_again_by_the_longest_name_that_fits() -> None:
    class Engine:
        bases = ("weighted", "weighted, 7-bit weights")

    chosen = Chosen(Path("x"), "weighted, 7-bit weights, 3 in float", Contract((), ()), 20.0)
    assert _base(Engine(), chosen) == "weighted, 7-bit weights"


def test_an_operator_that_is_not_there_cannot_stay_in_float() -> None:
    with pytest.raises(BadRequest, match=r"no operator 'Conv_9'.*it has Conv_0, Conv_1"):
        _refuse_unknown(["Conv_0", "Conv_9"], ["Conv_0", "Conv_1"])


def test_the_report_names_what_stayed_in_float_and_the_dearest() -> None:
    told = result(recipe="int8-mixed", keep_float=["Conv_2"], sensitivity=[{"operator": "Conv_2", "sqnr_db": 8.5}])
    said = " ".join(sentences(Result.model_validate(told)))

    assert "Kept in float: Conv_2." in said
    assert "Of 1 operators quantized alone the dearest are Conv_2 8.5 dB." in said
