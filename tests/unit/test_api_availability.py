"""Which edges and chains can be taken, why not, and the way out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from farm.api.availability import Availability
from farm.cli.routes import WIDTH, chain_lines, edge_lines
from farm.domain.errors import Incompatible, UnknownName
from farm.domain.routes import choose, find_routes
from farm.wire.jobs import ChainView, RouteView
from tests.domain_world import CATALOGUE, HOSTS, LOCKS

AVAILABLE = Availability(CATALOGUE, HOSTS, {})
ENVIRONMENT = next(iter(spec.environment for spec in CATALOGUE.specs.values() if spec.name == "onnx-to-tflite"))


def with_hosts(**environments: str) -> Availability:
    builder = replace(HOSTS[0], environments={**LOCKS, **environments})
    return Availability(CATALOGUE, [builder], {})


def edge(available: Availability, stage: str = "onnx-to-tflite") -> RouteView:
    return next(view for view in available.edges(None, None) if view.stage == stage)


def test_an_edge_names_the_hosts_and_versions_that_have_it() -> None:
    view = edge(AVAILABLE)

    assert (view.available, view.why_not, view.hosts) == (True, None, ["one", "shed"])
    assert set(view.tools) == {"converter"}


def test_edges_are_chosen_by_source_by_target_and_by_runtime() -> None:
    assert {view.source for view in AVAILABLE.edges("onnx", None)} == {"onnx"}
    assert {view.target for view in AVAILABLE.edges(None, "tflite")} == {"tflite"}
    assert AVAILABLE.edges(None, "lite") == AVAILABLE.edges(None, "tflite")


@pytest.mark.parametrize("named", ["onnx", "model.onnx", "some/Model.ONNX", ".onnx"])
def test_a_format_is_named_by_itself_by_a_file_or_by_an_ending(named: str) -> None:
    assert AVAILABLE.edges(named, ".tflite") == AVAILABLE.edges("onnx", "tflite") != []
    assert AVAILABLE.edges("pt2", None) == AVAILABLE.edges("torch-exported-program", None)


def test_what_is_no_ending_either_says_that_one_would_do() -> None:
    with pytest.raises(UnknownName, match=r"No format is called 'model\.caffe'") as caught:
        AVAILABLE.edges("model.caffe", None)
    assert "--from model.pt2" in (caught.value.remedy or "")


def test_without_a_live_builder_the_way_out_is_to_start_one() -> None:
    view = edge(Availability(CATALOGUE, HOSTS[1:2], {}))

    assert (view.available, view.why_not, view.hosts) == (False, "No live host builds.", [])
    assert "farm worker" in (view.way_out or "")


def test_an_environment_of_another_lock_is_told_apart_from_a_missing_one() -> None:
    stale = edge(with_hosts(**{ENVIRONMENT: "an older lock"}))
    bare = replace(HOSTS[0], environments={})
    missing = edge(Availability(CATALOGUE, [bare], {ENVIRONMENT: "3.12"}))

    assert stale.why_not == f"Environment {ENVIRONMENT} on one is of another lock than this farm's."
    assert "restart its worker" in (stale.way_out or "")
    assert missing.why_not == (
        f"Environment {ENVIRONMENT} is on no live build host (one). It needs Python 3.12 on the host."
    )
    assert f"workers.environments install {ENVIRONMENT}" in (missing.way_out or "")


def test_chains_are_ranked_as_the_planner_ranks_them() -> None:
    chains = [view for view in AVAILABLE.chains("torch-exported-program", "lite") if view.recipe == "float32"]
    accepts = CATALOGUE.accepts["lite"]
    source = next(spec.source for spec in CATALOGUE.specs.values() if spec.source == "torch-exported-program")
    assert source is not None
    ranked = find_routes(source, accepts, "float32", CATALOGUE.specs.values())

    assert [view.stages for view in chains] == [list(route.names) for route in ranked]
    assert [view.place for view in chains] == list(range(1, len(ranked) + 1))
    assert [view.stages for view in chains if view.tried] == [list(r.names) for r in ranked if r in choose(ranked)]
    assert [view.place for view in chains if view.used] == [1]


def test_a_chain_that_cannot_be_taken_says_which_stage_is_missing_and_the_next_is_used() -> None:
    edges = {spec.name: spec for spec in CATALOGUE.specs.values()}
    edges["onnx-to-tflite"] = replace(edges["onnx-to-tflite"], environment="elsewhere")
    catalogue = replace(CATALOGUE, specs=edges, locks={**LOCKS, "elsewhere": "1"})
    first, second = [v for v in Availability(catalogue, HOSTS, {}).chains("onnx", "tflite") if v.recipe == "float32"]

    assert (first.available, first.used) == (False, False)
    assert (first.why_not or "").startswith("onnx-to-tflite: Environment elsewhere is on no live build host")
    assert (second.stages, second.used) == (["onnx-to-tflite-slowly"], True)


def test_a_format_that_is_accepted_as_it_is_has_an_empty_chain() -> None:
    view = AVAILABLE.chains("tflite", "lite")[0]

    assert (view.recipe, view.stages, view.format, view.used) == ("float32", [], "tflite", True)


def test_unknown_names_tell_near_ones() -> None:
    with pytest.raises(UnknownName, match="did you mean onnx"):
        AVAILABLE.edges("onx", None)
    with pytest.raises(UnknownName, match="No format or runtime is called 'tflight'; did you mean tflite"):
        AVAILABLE.chains("onnx", "tflight")


def test_formats_that_nothing_connects_say_what_the_source_leads_to() -> None:
    with pytest.raises(Incompatible, match="from tflite stages lead to tflite"):
        AVAILABLE.chains("tflite", "executorch")


def test_everything_fits_eighty_columns_without_a_broken_word() -> None:
    edges = Availability(CATALOGUE, [replace(HOSTS[0], environments={})], {}).edges(None, None)
    chains = [
        ChainView(
            recipe="int8-static",
            place=place,
            stages=["torch-exported-program-to-onnx", "onnx-to-tflite-via-torch", "quantize-tflite-int8-full-integer"],
            format="tflite",
            available=place != 3,
            tried=place < 3,
            used=place == 1,
            why_not="Environment builder is on no live build host (one, two)." if place == 3 else None,
        )
        for place in (1, 2, 3)
    ]
    lines = [*edge_lines(edges), *chain_lines(chains)]
    words = {word for view in edges for word in (view.stage, view.environment)} | set(chains[0].stages)

    assert max(len(line) for line in lines) <= WIDTH
    assert words <= {word.strip(",();:") for line in lines for word in line.split()}
    assert [line.split()[0] for line in lines if line.startswith("  ") and line.strip()[1:3] == " 1"] == ["*"]
    assert any(line.startswith("  ! 3.") for line in lines)
