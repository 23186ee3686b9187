"""Options of stages that a job sets itself: by recipe, for every stage that applies it, or by one stage's name."""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from farm.domain.catalogue import Catalogue, near_misses
from farm.domain.codec import decode
from farm.domain.errors import BadRequest, FarmError, UnknownName
from farm.domain.recipe import RECIPES
from farm.domain.stage import TRANSFORMS, Options, StageSpec

Tuned = Mapping[str, Mapping[str, Any]]
"""A recipe's or a stage's name -> option -> value: JSON, or text as a command line has it."""

THE_FARMS = frozenset(("recipe", "reports", "enough_db", "keep_float_count", "together"))
"""Options that follow from the job: which recipe, what its samples are kept for, the SQNR it asks for, its models."""
THE_OPERATORS = frozenset(("compiler",))
"""Options that name a program of the host; a stage's `programs` are such too."""


def options_of(spec: StageSpec) -> dict[str, type[Any]]:
    """List what a job may set of a stage: option -> type."""
    hints = typing.get_type_hints(spec.options)
    common = {one.name for one in dataclasses.fields(Options)}
    closed = common | THE_FARMS | THE_OPERATORS | {name for name, _ in spec.programs}
    return {one.name: hints[one.name] for one in dataclasses.fields(spec.options) if one.name not in closed}


def tuned_by(spec: StageSpec, tuned: Tuned) -> dict[str, Any]:
    """Read what a job sets of a stage; what is told of the stage itself wins over what is told of its recipe.

    Raises:
        ValueError: a value is of another type.
    """
    named = {**tuned.get(spec.recipe or "", {}), **tuned.get(spec.name, {})}
    known = options_of(spec) if named and spec.kind in TRANSFORMS else {}
    return {name: read_value(known[name], value) for name, value in named.items() if name in known}


def unused(stages: Iterable[StageSpec], tuned: Tuned) -> list[str]:
    """Say which options of a route's recipe none of its stages has."""
    return [
        f"Option {spec.recipe}.{name} had no effect: {spec.name} has none of that name."
        for spec in stages
        for name in tuned.get(spec.recipe or "", ())
        if name not in options_of(spec)
    ]


def tuning_errors(tuned: Tuned, catalogue: Catalogue) -> list[FarmError]:
    """Find what is wrong with the options of a job, each with what there is instead."""
    stages = {name: spec for name, spec in catalogue.specs.items() if spec.kind in TRANSFORMS}
    errors: list[FarmError] = []
    for section, options in tuned.items():
        applying = [spec for spec in stages.values() if section in (spec.recipe, spec.name)]
        if not applying:
            errors.append(_nobody(section, stages))
        for name, value in options.items() if applying else ():
            errors += _errors_of(f"{section}.{name}", name, value, applying)
    return errors


def read_value(kind: Any, value: Any) -> Any:
    """Read an option's value: JSON of its type, or text: true, 3, 0.5, a name; lists with commas between.

    Raises:
        ValueError: it is of another type.
    """
    if not isinstance(value, str):
        return _finite(decode(kind, value))
    if typing.get_origin(kind) is tuple:
        return decode(kind, [read_value(typing.get_args(kind)[0], part.strip()) for part in value.split(",") if part])
    for form in (value, _as_json(value)):
        try:
            return _finite(decode(kind, form))
        except ValueError:
            continue
    raise ValueError(f"{value!r} is not {told(kind)}")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no finite number")
    return value


def told(kind: Any) -> str:
    """Say an option's type in words."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return f"a list with commas between, each {told(arguments[0])}"
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if arguments:
        return " or ".join(told(one) for one in arguments if one is not type(None))
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text"}.get(kind, str(kind))


def _as_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _nobody(section: str, stages: Collection[str]) -> FarmError:
    known = sorted({*stages, *RECIPES})
    if section in RECIPES:
        return BadRequest(f"Recipe {section} has no options: no stage applies it.")
    return UnknownName(f"There is no recipe or stage {section!r} to set options of: {near_misses(section, known)}")


def _errors_of(shown: str, name: str, value: Any, applying: Collection[StageSpec]) -> list[FarmError]:
    """Say why an option can't be set of the stages that a section names."""
    having = [spec for spec in applying if name in options_of(spec)]
    if not having:
        programs = {option for spec in applying for option, _ in spec.programs}
        if any(spec.asks(name) for spec in applying):
            who = "this farm's operator" if name in programs | THE_OPERATORS else "the farm"
            return [BadRequest(f"Option {shown} is set by {who}, not by a job.")]
        known = sorted({option for spec in applying for option in options_of(spec)})
        return [UnknownName(f"There is no option {shown}: {near_misses(name, known)}")]
    try:
        for spec in having:
            read_value(options_of(spec)[name], value)
    except ValueError:
        return [BadRequest(f"Option {shown} is {value!r}; it has to be {told(options_of(having[0])[name])}.")]
    return []
