"""Recipes: each says in a line what it does, its formula and when it is refused; the search takes cheap ones first."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.domain.recipe import BASELINE, RECIPES, SEARCHED, Recipe

DOCUMENT = Path(__file__).parents[2] / "docs" / "recipes.md"
each = pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)


@each
def test_it_says_in_a_line_each_what_it_does_how_and_when_not(recipe: Recipe) -> None:
    for line in (recipe.summary, recipe.formula, recipe.refused_when):
        assert 1 < len(line) <= 110
        assert "\n" not in line
    assert recipe.summary.endswith(".")


def test_the_baseline_is_first_and_always_searched() -> None:
    assert next(iter(RECIPES)) == SEARCHED[0] == BASELINE
    assert len({RECIPES[name].place for name in SEARCHED}) == len(SEARCHED)


def test_what_needs_calibration_says_so() -> None:
    assert all("calibration" in r.refused_when for r in RECIPES.values() if r.needs_calibration)


def test_only_the_baseline_fails_by_its_numerics() -> None:
    assert [r.name for r in RECIPES.values() if r.failed_below_db is not None] == [BASELINE]


@each
def test_the_document_says_what_each_recipe_says(recipe: Recipe) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith(f"| `{recipe.name}`"))

    for told in (recipe.summary, recipe.formula.replace("|", "&#124;"), recipe.needs, recipe.refused_when):
        assert told in row
    assert ("(searched)" in row) is (recipe.place is not None)


@each
def test_a_name_with_bits_means_the_types_it_says(recipe: Recipe) -> None:
    """int8 quantizes activations ahead, -dynamic and -weights leave them; AxW is activations by weights."""
    if recipe.name.startswith("int8-") and recipe.name != "int8-dynamic":
        assert (recipe.weights_dtype, recipe.activations_dtype) == ("int8", "int8")
    elif recipe.name in ("int8-dynamic", "int4-weights", "float16"):
        assert recipe.weights_dtype == recipe.name.partition("-")[0]
        assert recipe.activations_dtype == "float32"
    elif recipe.name == "int16x8":
        assert (recipe.weights_dtype, recipe.activations_dtype) == ("int8", "int16")
    else:
        assert (recipe.weights_dtype, recipe.activations_dtype) == ("float32", "float32")
