"""job.toml: one submission as a file."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from farm.cli.measuring import measuring_of, thread_counts
from farm.client.client import Measuring, Objective
from farm.client.durations import parse_duration
from farm.client.models import Model
from farm.domain.errors import BadRequest, MissingFile
from farm.domain.inputs import parse_input
from farm.wire.jobs import ScenarioName

EXAMPLE = 'target = ["auto"]\n\n[[model]]\npath = "model.onnx"\n'
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
SCENARIOS: tuple[ScenarioName, ...] = get_args(ScenarioName)


@dataclass(frozen=True, slots=True)
class JobFile:
    """What a job.toml asks for; None where it is silent."""

    models: tuple[Model, ...]
    target: tuple[str, ...] = ()
    runtime: tuple[str, ...] = ()
    recipe: tuple[str, ...] = ()
    format: tuple[str, ...] = ()
    constraint: tuple[str, ...] = ()
    objective: Objective | None = None
    name: str | None = None
    label: Mapping[str, str] = field(default_factory=dict)
    host: str | None = None
    option: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    max_measurement_age: str | float | None = None
    max_runtime_seconds: float | None = None
    co_compile: bool = False
    measuring: Measuring = field(default_factory=lambda: Measuring())


def read(path: Path) -> JobFile:
    """Read a job file; paths in it are taken from its own folder.

    Raises:
        MissingFile: there is no such file.
        BadRequest: it is no TOML, or keys or values are wrong; every reason, with key, value and way out.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise MissingFile(f"Job file {str(path)!r} does not exist.") from exc
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise BadRequest(f"Job file {str(path)!r} can't be read as TOML: {exc}.") from exc
    reader = _Reader(str(path), path.parent)
    job = reader.job(table)
    if reader.errors or job is None:
        raise BadRequest("\n".join(reader.errors), remedy=f"A job file is, at the least:\n{EXAMPLE}")
    return job


@dataclass(slots=True)
class _Reader:
    """Collects every error, so that one run of the command shows them all."""

    file: str
    folder: Path
    errors: list[str] = field(default_factory=list)

    def job(self, table: Mapping[str, Any]) -> JobFile | None:
        values = self._values(table, _JOB_KEYS | _MEASURING_KEYS, "")
        listed = table.get("model")
        if not isinstance(listed, list) or not listed:
            self._wrong("model", listed, "needs one [[model]] table for each model")
            return None
        models = [self._model(item, f"model[{number}].") for number, item in enumerate(listed, 1)]
        if self.errors:
            return None
        asked = measuring_of({key: values.pop(key) for key in _MEASURING_KEYS if key in values})
        return JobFile(models=tuple(model for model in models if model), measuring=asked, **values)

    def _model(self, table: Any, where: str) -> Model | None:
        if not isinstance(table, Mapping):
            self._wrong(where.rstrip("."), table, "is not a table; write [[model]]")
            return None
        values = self._values(table, _MODEL_KEYS, where)
        if "path" not in table:
            self._wrong(f"{where}path", None, "is missing; it names the model's file or folder")
        if self.errors:
            return None
        for key in ("path", "builder", "calibration", "evaluation"):
            if key in values:
                values[key] = self.folder / values[key]
        values["inputs"] = values.pop("input", ())
        return Model(**values)

    def _values(self, table: Mapping[str, Any], keys: Mapping[str, _Check], where: str) -> dict[str, Any]:
        values = {}
        for key, value in table.items():
            if key == "model" and not where:
                continue
            check = keys.get(key)
            if check is None:
                self._wrong(f"{where}{key}", value, f"is not known{_near(key, keys)}")
            elif (problem := check.problem(value)) is not None:
                self._wrong(f"{where}{key}", value, problem)
            else:
                values[key] = check.read(value)
        return values

    def _wrong(self, key: str, value: Any, problem: str) -> None:
        shown = "" if value is None else f" = {value!r}"
        self.errors.append(f"{self.file}: {key}{shown} {problem}.")


@dataclass(frozen=True, slots=True)
class _Check:
    """How one key is checked and read."""

    problem: Callable[[Any], str | None]
    read: Callable[[Any], Any] = lambda value: value


def _near(key: str, keys: Mapping[str, _Check]) -> str:
    near = difflib.get_close_matches(key, keys, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(keys)}"


def _no_text(value: Any) -> str | None:
    return None if isinstance(value, str) and value else 'is not a text such as "name"'


def _no_texts(value: Any) -> str | None:
    fits = isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))
    return None if fits and value else 'is not a list of texts such as ["a", "b"]'


def _no_inputs(value: Any) -> str | None:
    if (problem := _no_texts(value)) is not None:
        return problem
    try:
        for text in _tuple(value):
            parse_input(text)
    except BadRequest as error:
        return f"is wrong: {error.message.rstrip('.')}"
    return None


def _no_objective(value: Any) -> str | None:
    return None if value in OBJECTIVES else f"is not one of {', '.join(OBJECTIVES)}"


def _no_scenario(value: Any) -> str | None:
    return None if value in SCENARIOS else f"is not one of {', '.join(SCENARIOS)}"


def _no_threads(value: Any) -> str | None:
    counts = value if isinstance(value, list) else [value]
    fits = isinstance(value, str) or all(isinstance(item, int) and not isinstance(item, bool) for item in counts)
    try:
        return None if fits and counts and thread_counts(value) else "is not a list of counts such as [1, 2, 4]"
    except BadRequest:
        return "is not a list of counts such as [1, 2, 4]"


def _no_count(value: Any) -> str | None:
    return None if isinstance(value, int) and not isinstance(value, bool) and value > 0 else "is not a count above 0"


def _no_number(value: Any) -> str | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return None if is_number and value > 0 else "is not a number above 0"


def _no_age(value: Any) -> str | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_number or isinstance(value, str)):
        return 'is not a duration such as "24h"'
    try:
        parse_duration(value)
    except BadRequest:
        return 'is not a duration such as "24h"'
    return None


def _no_seconds(value: Any) -> str | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return None if is_number and value > 0 else "is not a number of seconds above 0"


def _no_labels(value: Any) -> str | None:
    fits = isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
    return None if fits else 'is not a table of texts such as {team = "vision"}'


def _no_options(value: Any) -> str | None:
    fits = isinstance(value, dict) and all(isinstance(section, dict) for section in value.values())
    return None if fits else 'is not a table of tables such as {int8-static = {calibration_method = "Percentile"}}'


def _no_flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "is not true or false"


def _no_table(value: Any) -> str | None:
    return None if isinstance(value, dict) else "is not a table such as {mean = [0.5], std = [0.5]}"


def _tuple(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


_JOB_KEYS = {
    "target": _Check(_no_texts, _tuple),
    "runtime": _Check(_no_texts, _tuple),
    "recipe": _Check(_no_texts, _tuple),
    "format": _Check(_no_texts, _tuple),
    "constraint": _Check(_no_texts, _tuple),
    "objective": _Check(_no_objective),
    "name": _Check(_no_text),
    "label": _Check(_no_labels),
    "host": _Check(_no_text),
    "option": _Check(_no_options),
    "max_measurement_age": _Check(_no_age),
    "max_runtime_seconds": _Check(_no_seconds),
    "co_compile": _Check(_no_flag),
}
_MEASURING_KEYS = {
    "scenario": _Check(_no_scenario),
    "threads": _Check(_no_threads),
    "sustained": _Check(_no_age),
    "samples_per_query": _Check(_no_count),
    "target_qps": _Check(_no_number),
    "latency_bound_ms": _Check(_no_number),
}
_MODEL_KEYS = {
    "path": _Check(_no_text),
    "name": _Check(_no_text),
    "input": _Check(_no_inputs, _tuple),
    "calibration": _Check(_no_text),
    "evaluation": _Check(_no_text),
    "metric": _Check(_no_text),
    "preprocessing": _Check(_no_table),
    "builder": _Check(_no_text),
}
