"""The user's samples: who calibrates, who selects, who reports, and what is poor about them.

Samples go by the digest of their values, so that equal ones never stand on two sides, whatever their order in the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from farm.domain.errors import BadData, Incompatible
from farm.domain.facts import TensorSpec
from farm.domain.inputs import LABELS
from farm.domain.recipe import BASELINE, RECIPES

ENOUGH_ALONE = 16
"""Different samples that calibration data needs when it must also select and report."""
ENOUGH_BESIDE = 8
"""Different samples that calibration data needs when evaluation data reports."""
FEW = 64
"""Under so many different samples the report notes that they are few."""
ROUNDING = 1e-5
"""Share of a declared range by which values may leave it."""
DATA_FREE = {"int8-static": "int8-dynamic", "int8-mixed": "int8-dynamic"}
"""What takes the place of a recipe that calibrates where data is poor: its weights are of the same width."""

ArrayFacts = Mapping[str, Mapping[str, Any]]
"""What inspection found in a data file, by array: dtype, shape, minimum, maximum, constant, rows (digests), classes."""


SELECTS = "selects"
"""The array of a reference run that marks, with 1, the samples by which is chosen; the others, 0, are reported on."""
CHOSEN_BY = "selection"
"""Where figures tell those of the samples by which is chosen; without it the ones that are reported decide too."""


class Part(StrEnum):
    """What a sample is for; no sample is for two."""

    CALIBRATION = "calibration"
    SELECTION = "selection"
    REPORT = "report"


@dataclass(frozen=True, slots=True)
class Split:
    """Rows of a file by what they are for, in the file's order; every row is in exactly one."""

    calibration: tuple[int, ...]
    selection: tuple[int, ...]
    report: tuple[int, ...]

    def rows(self, part: Part) -> tuple[int, ...]:
        return {Part.CALIBRATION: self.calibration, Part.SELECTION: self.selection, Part.REPORT: self.report}[part]


def split(digests: Sequence[str], *, reports: bool) -> Split:
    """Give half of the different samples to calibration, a quarter to selection, a quarter to the report.

    Without `reports` (evaluation data does that) selection gets both quarters' place: half and half. A digest's place
    among the sorted ones decides, so shares are exact and equal samples stay together.
    """
    turn = (Part.CALIBRATION, Part.SELECTION, Part.CALIBRATION, Part.REPORT if reports else Part.SELECTION)
    part = {digest: turn[place % len(turn)] for place, digest in enumerate(sorted(set(digests)))}
    chosen = {each: tuple(row for row, digest in enumerate(digests) if part[digest] is each) for each in Part}
    return Split(chosen[Part.CALIBRATION], chosen[Part.SELECTION], chosen[Part.REPORT])


def joined(rows: Sequence[Sequence[str]]) -> list[str]:
    """Make one digest per sample of the digests of its arrays' rows."""
    return [hashlib.sha256("".join(parts).encode()).hexdigest()[:16] for parts in zip(*rows, strict=True)]


def sample_digests(arrays: ArrayFacts, inputs: Sequence[TensorSpec]) -> list[str]:
    """Return a digest per sample over the model's inputs; none when inspection kept none (very many rows)."""
    rows = [arrays.get(spec.name, {}).get("rows") or () for spec in inputs]
    return joined(rows) if rows and all(rows) else []


def reports(calibration: ArrayFacts, inputs: Sequence[TensorSpec], *, evaluated: bool) -> bool:
    """Tell whether a part of the calibration data is kept for the report.

    It is when no evaluation data does that. Of very many samples inspection kept no digests: they are enough.
    """
    digests = sample_digests(calibration, inputs)
    return not evaluated and (not digests or len(set(digests)) >= ENOUGH_ALONE)


def without_calibration() -> str:
    """Name the recipes that need no data, for refusals of data that is missing or too little."""
    return ", ".join(name for name, recipe in RECIPES.items() if not recipe.needs_calibration and name != BASELINE)


def calibration_missing(recipe: str, model: str) -> Incompatible:
    """Refuse a recipe that calibrates where there is nothing to calibrate with."""
    return Incompatible(
        f"Recipe {recipe} needs calibration data, and {model} has none.",
        remedy="Add --calibration FILE.npz with samples in the tens, arrays by input name, or take recipes "
        f"that need none: {without_calibration()}.",
    )


def already_quantized(recipe: str, model: str) -> Incompatible:
    """Refuse a recipe that calibrates for a model that is integer already: no data would help."""
    return Incompatible(
        f"{model} is quantized already, and recipe {recipe} takes float models.",
        remedy=f"Choose recipe {BASELINE}, which leaves a model as it is, or submit the float model.",
    )


def data_errors(
    calibration: ArrayFacts | None, evaluation: ArrayFacts | None, inputs: Sequence[TensorSpec]
) -> list[BadData]:
    """Refuse too few calibration samples, and samples that are in both files."""
    ours = sample_digests(calibration, inputs) if calibration else []
    theirs = sample_digests(evaluation, inputs) if evaluation else []
    errors = []
    least = ENOUGH_BESIDE if evaluation else ENOUGH_ALONE
    if calibration and ours and len(set(ours)) < least:
        why = "" if evaluation else ", since half of them calibrate, a quarter selects and a quarter reports"
        errors.append(
            BadData(
                f"The calibration data holds {len(set(ours))} different samples; {least} are needed{why}.",
                remedy="Add samples of what the model meets in use (some tens are better), or take recipes that need "
                f"none: {without_calibration()}.",
            )
        )
    if shared := set(ours) & set(theirs):
        errors.append(
            BadData(
                f"{len(shared)} samples are both calibration and evaluation data; a score on them would flatter.",
                remedy="Take them out of one of the two.",
            )
        )
    return errors


def data_notes(
    arrays: ArrayFacts,
    inputs: Sequence[TensorSpec],
    *,
    what: str,
    ranges: Mapping[str, Sequence[float]] = MappingProxyType({}),
    classes: int | None = None,
) -> list[str]:
    """Say what is poor about a data file, in sentences for the report.

    `ranges` are the ends, both included, that the model or the preprocessing declares for an input's values; `classes`
    is how many the scored output tells apart.
    """
    digests = sample_digests(arrays, inputs)
    different = len(set(digests))
    notes = []
    if 0 < different < FEW:
        notes.append(f"The {what} data holds {different} different samples, which is few.")
    if different < len(digests):
        notes.append(f"{len(digests) - different} of {len(digests)} {what} samples repeat another one.")
    notes += [
        f"The {what} array {name!r} holds one value only, {facts.get('minimum')}."
        for name, facts in arrays.items()
        if facts.get("constant") and name != LABELS
    ]
    for name, (low, high) in ranges.items():
        least, most = arrays.get(name, {}).get("minimum"), arrays.get(name, {}).get("maximum")
        slack = ROUNDING * (high - low)
        if least is not None and most is not None and not (low - slack <= least and most <= high + slack):
            notes.append(
                f"The {what} array {name!r} holds values from {least:g} to {most:g}; {low:g} to {high:g} is declared."
            )
    return notes + _coverage(arrays.get(LABELS, {}).get("classes"), classes, what=what)


def _coverage(labelled: int | None, classes: int | None, *, what: str) -> list[str]:
    """Say which share of the classes the labels reach."""
    if labelled == 1:
        return [f"All labels of the {what} data are the same class."]
    if labelled is not None and classes is not None and labelled < classes:
        return [f"The labels of the {what} data cover {labelled} of {classes} classes."]
    return []


def data_free_note(recipe: str, notes: Sequence[str]) -> list[str]:
    """Name the recipe to fall back to where poor data calibrates: the one that quantizes likewise without any."""
    other = DATA_FREE.get(recipe)
    if other is None or not any(" calibration " in note for note in notes):
        return []
    return [f"{recipe} rests on that calibration data; {other} needs none, so compare the two."]
