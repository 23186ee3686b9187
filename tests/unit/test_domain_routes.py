"""Routes through the format graph: simple, the recipe once, cheapest first."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from farm.catalog import catalogue
from farm.domain.facts import Format
from farm.domain.recipe import RECIPES
from farm.domain.routes import LONGEST, MOST_BRANCHES, Route, choose, find_routes
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


def test_the_format_a_runtime_likes_best_comes_first_and_is_not_left_for_another() -> None:
    saved = stage_of("compile-ort", Kind.COMPILE, source=Format.ONNX, target=Format.ORT, cost=1)
    specs = {**SPECS, "saved": saved}.values()

    def found(source: Format, *accepts: Format, recipe: str = "float32") -> list[tuple[str, ...]]:
        return [route.names for route in find_routes(source, accepts, recipe, specs)]

    assert found(Format.ONNX, Format.ONNX, Format.ORT) == [()]
    assert found(Format.ONNX, Format.ORT, Format.ONNX) == [("compile-ort",), ()]
    assert found(Format.ONNX, Format.ORT) == [("compile-ort",)]
    assert found(Format.ONNX, Format.ORT, recipe="int8-static") == [("quantize-onnx", "compile-ort")]
    assert found(Format.ORT, Format.ONNX, Format.ORT) == [()]


def test_the_longest_useful_chain_is_found() -> None:
    chain = [Format.HUGGING_FACE, Format.TORCH_EXPORTED_PROGRAM, Format.ONNX, Format.TFLITE, Format.EDGETPU_TFLITE]
    load = stage_of("load", Kind.EXPORT, source=chain[0], target=chain[1])
    compiler = stage_of("compile-edgetpu", Kind.COMPILE, source=chain[3], target=chain[4])

    first, *_ = routes(chain[0], chain[4], "int8-static", {**SPECS, "load": load, "compile": compiler})

    assert first == ("load", "export-onnx", "onnx-to-tflite", "quantize-tflite", "compile-edgetpu")
    assert len(first) <= LONGEST


def chain_of(*names: str) -> Route:
    return Route(tuple(stage_of(name, Kind.CONVERT) for name in names))


def test_the_best_routes_are_tried_and_one_that_avoids_what_they_share() -> None:
    alike = [chain_of("export", f"convert-{number}") for number in range(6)]
    other = chain_of("script", "convert-0")

    assert choose(alike[:3]) == alike[:3]
    assert choose(alike) == alike[:MOST_BRANCHES]
    assert choose([*alike, other]) == [*alike[: MOST_BRANCHES - 1], other]
    assert choose([other, *alike]) == [other, *alike[: MOST_BRANCHES - 1]]


def test_the_real_graph_is_small_and_without_detours() -> None:
    known = catalogue()
    for runtime, accepts in known.accepts.items():
        for source in Format:
            for recipe in RECIPES:
                found = find_routes(source, accepts, recipe, known.specs.values())
                assert len(found) <= 40, (source, runtime, recipe)
                for route in found:
                    plain = [source, *(s.target for s in route.stages if s.recipe is None)]
                    assert len(set(plain)) == len(plain), f"{route.names} comes back"


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

    assert [route.rank for route in found] == sorted(route.rank for route in found)
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
