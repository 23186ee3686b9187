"""Recipes: named ways to optimize, and what each result must reach."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named way to optimize.

    Attributes:
        summary: what it does, in one line.
        needs_calibration: refused without calibration data.
        degraded_below_db: SQNR (dB) under which the verdict is `degraded`.
        failed_below_db: SQNR (dB) under which it is `failed`; only float32 has one.
    """

    name: str
    summary: str
    needs_calibration: bool
    degraded_below_db: float
    failed_below_db: float | None = None


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("float32", "Keep weights and activations in float32.", False, 60.0, 30.0),
        Recipe("float16", "Store weights in float16.", False, 40.0),
        Recipe("int8-dynamic", "Weights in int8, activations scaled at run time.", False, 20.0),
        Recipe("int8-static", "Weights and activations in int8 by calibration; float input and output.", True, 20.0),
        Recipe("int8-full-integer", "int8 throughout, integer input and output.", True, 20.0),
        Recipe("int16x8", "Weights in int8, activations in int16.", True, 20.0),
        Recipe("int4-weights", "Weights of matrix products in 4 bits.", False, 20.0),
    )
}
BASELINE = "float32"
