"""Routes through the format graph: simple, the recipe once, cheapest first."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from farm.domain.facts import Format
from farm.domain.routes import LONGEST, find_routes
from farm.domain.stage import Kind, StageSpec
from tests.domain_world import SPECS, stage_of

NODES = (Format.ONNX, Format.TFLITE, Format.ORT, Format.OPENVINO_IR)


def routes(source: Format, accepts: Format, recipe: str, specs: dict[str, StageSpec] = SPECS) -> list[tuple[str, ...]]:
    return [route.names for route in find_routes(source, (accepts,), recipe, specs.values())]


def test_a_source_that_is_accepted_needs_no_stage() -> None:
    assert routes(Format.ONNX, Format.ONNX, "float32") == [()]


def test_every_way_is_listed_cheapest_first() -> None:
    assert routes(Format.TORCH_EXPORTED_PROGRAM, Format.TFLITE, "float32") == [
        ("export-onnx", "onnx-to-tflite"),
        ("export-onnx", "onnx-to-tflite-slowly"),
    ]


def test_of_equal_cost_the_shorter_is_first() -> None:
    direct = stage_of("direct", Kind.CONVERT, source=Format.TORCH_EXPORTED_PROGRAM, target=Format.TFLITE, cost=20)

    first, *_ = routes(Format.TORCH_EXPORTED_PROGRAM, Format.TFLITE, "float32", {**SPECS, "direct": direct})

    assert first == ("direct",)


def test_a_recipe_is_applied_once_and_in_any_place() -> None:
    converter = stage_of(
        "keras-to-int8", Kind.CONVERT, source=Format.KERAS, target=Format.TFLITE, recipe="int8-static", cost=5
    )
    plain = stage_of("keras-to-tflite", Kind.CONVERT, source=Format.KERAS, target=Format.TFLITE)

    found = routes(Format.KERAS, Format.TFLITE, "int8-static", {**SPECS, "a": converter, "b": plain})

    assert found == [("keras-to-int8",), ("keras-to-tflite", "quantize-tflite")]


def test_stages_of_another_recipe_are_no_way() -> None:
    assert routes(Format.ONNX, Format.ONNX, "float16") == []
    assert routes(Format.ONNX, Format.ONNX, "int8-static") == [("quantize-onnx",)]


def test_after_the_recipe_only_compilers_follow() -> None:
    compiler = stage_of("compile-edgetpu", Kind.COMPILE, source=Format.TFLITE, target=Format.EDGETPU_TFLITE)

    assert routes(Format.ONNX, Format.TFLITE, "int8-static") == [
        ("onnx-to-tflite", "quantize-tflite"),
        ("onnx-to-tflite-slowly", "quantize-tflite"),
    ], "not quantize-onnx, whose result a converter would give back as float32"
    first, *_ = routes(Format.ONNX, Format.EDGETPU_TFLITE, "int8-static", {**SPECS, "compile-edgetpu": compiler})
    assert first == ("onnx-to-tflite", "quantize-tflite", "compile-edgetpu")


def test_a_route_knows_what_it_shares_with_the_float_result() -> None:
    (route, *_) = find_routes(Format.ONNX, (Format.TFLITE,), "int8-static", SPECS.values())

    assert route.names == ("onnx-to-tflite", "quantize-tflite")
    assert route.float_names == ("onnx-to-tflite",)


edges = st.lists(
    st.tuples(
        st.sampled_from(NODES), st.sampled_from(NODES), st.sampled_from((None, "int8-static")), st.integers(0, 50)
    ),
    max_size=9,
)


@given(edges, st.sampled_from(NODES), st.sampled_from(NODES), st.sampled_from(("float32", "int8-static")))
def test_routes_of_any_graph_are_chains_that_apply_the_recipe_once(
    graph: list[tuple[Format, Format, str | None, int]], source: Format, accepts: Format, recipe: str
) -> None:
    specs = [
        stage_of(f"stage-{number}", Kind.CONVERT, source=a, target=b, recipe=applied, cost=cost)
        for number, (a, b, applied, cost) in enumerate(graph)
    ]

    found = find_routes(source, (accepts,), recipe, specs)

    assert [route.cost for route in found] == sorted(route.cost for route in found)
    assert len({route.names for route in found}) == len(found)
    for route in found:
        stages = route.stages
        assert len(stages) <= LONGEST
        assert all(before.target == after.source for before, after in pairwise(stages))
        assert (stages[0].source if stages else source) == source
        assert (stages[-1].target if stages else source) == accepts
        assert [s.recipe for s in stages if s.recipe] == ([] if recipe == "float32" else [recipe])
        states: list[tuple[Format | None, bool]] = [(source, recipe == "float32")]
        for spec in stages:
            states.append((spec.target, states[-1][1] or spec.recipe is not None))
        assert len(set(states)) == len(states), "a route visits nothing twice"
