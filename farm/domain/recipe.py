"""Recipes: named ways to optimize, and what each result must reach. One file each in farm/domain/recipes."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from pathlib import Path

from farm.domain.errors import UnknownName

BASELINE = "float32"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named way to optimize.

    Attributes:
        summary: what it does, in one line.
        formula: the arithmetic, in one line.
        refused_when: when no stage applies it.
        needs_calibration: refused without calibration data.
        degraded_below_db: SQNR (dB) under which the verdict is `degraded`.
        failed_below_db: SQNR (dB) under which it is `failed`; only float32 has one.
        place: its place in the search of `--recipe auto`, cheap and promising ones first; None when only asked for.
        note: what a reader of a result must know, for results that are often misread.
        stays_float: converters may follow it, since they keep what it did.
        weights_dtype, activations_dtype: what the operators it is for hold; others keep float32.
    """

    name: str
    summary: str
    formula: str
    refused_when: str
    degraded_below_db: float
    needs_calibration: bool = False
    failed_below_db: float | None = None
    place: int | None = None
    note: str | None = None
    stays_float: bool = False
    weights_dtype: str = "float32"
    activations_dtype: str = "float32"

    @property
    def needs(self) -> str:
        return "calibration data" if self.needs_calibration else "the model alone"

    @property
    def in_integers(self) -> bool:
        return "int" in self.weights_dtype or "int" in self.activations_dtype


def holding(weights_dtype: str | None, activations_dtype: str | None) -> list[str]:
    """Name the recipes whose operators hold weights and activations of these types; None asks for nothing.

    Of those that leave weights in float32 only the recipe of that name is meant.

    Raises:
        UnknownName: there is none; the message lists what there is.
    """
    asked = {"weights": weights_dtype, "activations": activations_dtype}
    typed = [one for one in RECIPES.values() if one.weights_dtype != BASELINE or one.name == BASELINE]
    found = [
        recipe.name
        for recipe in typed
        if weights_dtype in (None, recipe.weights_dtype) and activations_dtype in (None, recipe.activations_dtype)
    ]
    if not found:
        wanted = " and ".join(f"{what} in {dtype}" for what, dtype in asked.items() if dtype is not None)
        known = "; ".join(f"{r.name}: {r.weights_dtype}, {r.activations_dtype}" for r in typed)
        raise UnknownName(f"No recipe has {wanted}; recipes have (weights, activations) {known}.")
    return found


def _load() -> dict[str, Recipe]:
    """Find every recipe, float32 first, then as the search takes them, then by name.

    Raises:
        TypeError: two share a name.
    """
    found: dict[str, Recipe] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).with_name("recipes"))]):
        recipe: Recipe = importlib.import_module(f"farm.domain.recipes.{module.name}").RECIPE
        if recipe.name in found:
            raise TypeError(f"recipe {recipe.name!r} is declared twice")
        found[recipe.name] = recipe
    last = len(found)
    ranked = sorted(found.values(), key=lambda r: (last if r.place is None else r.place, r.name))
    return {recipe.name: recipe for recipe in ranked}


RECIPES = _load()
SEARCHED = tuple(name for name, recipe in RECIPES.items() if recipe.place is not None)
"""What `--recipe auto` tries."""
