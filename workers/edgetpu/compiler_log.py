"""Read what `edgetpu_compiler` prints, and the log that it writes.

Source: Coral documentation, Edge TPU Compiler; output of 16.0.384591198 and older versions in issues of
google-coral/edgetpu. With --search_delegate many tries fail before one succeeds: only the last outcome counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from workers.edgetpu.limits import Status
from workers.edgetpu.messages import Diagnosis, MessageStage, diagnose

_UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_SIZE = r"(?P<number>\d+(?:\.\d+)?)(?P<unit>B|KiB|MiB|GiB)"
_VERSION = re.compile(r"^Edge TPU Compiler version (\S+)", re.MULTILINE)
_TIMER = re.compile(r"^Started a compilation timeout timer of (\d+) seconds", re.MULTILINE)
_COMPILED = re.compile(r"^Models? compiled successfully in (\d+) ms", re.MULTILINE)
_OUTCOME = re.compile(r"^Compilation (succeeded|failed)!", re.MULTILINE)
_TRIES = re.compile(r"^Try to compile segment with (\d+) ops", re.MULTILINE)
_MODEL = re.compile(r"^Input(?: model)?: (?P<name>.+?)\s*$", re.MULTILINE)
_TABLE = re.compile(r"^Operator\s+Count\s+Status\s*$", re.MULTILINE)
_ROW = re.compile(r"(?P<type>\S+)\s+(?P<count>\d+)\s+(?P<status>\S.*)")


@dataclass(frozen=True, slots=True)
class OperatorRow:
    """One line of the mapping table: how many operators of a type share a status."""

    type: str
    count: int
    status: str

    @property
    def mapped(self) -> bool:
        return self.status == Status.MAPPED


@dataclass(frozen=True, slots=True)
class ModelReport:
    """What the compiler says of one model, or of a segment of one; None where it says nothing.

    `operators` is its own mapping table.
    """

    input_name: str
    output_name: str | None
    log_name: str | None
    input_bytes: int | None
    output_bytes: int | None
    cached_bytes: int | None
    remaining_bytes: int | None
    streamed_bytes: int | None
    edge_tpu_subgraphs: int | None
    total_operators: int | None
    edge_tpu_operators: int | None
    cpu_operators: int | None
    operators: tuple[OperatorRow, ...] = ()


@dataclass(frozen=True, slots=True)
class CompilerReport:
    """Everything that one run of the compiler says.

    `succeeded` is the compiler's word alone: a success may map nothing and may leave an empty file, so look at
    `edge_tpu_subgraphs` and at the file too. `diagnoses` are known messages with cause and remedy; those of failed
    tries before a success are left out. `operators` are the rows of all tables, each of which is one model's.
    """

    compiler_version: str | None
    timeout_s: int | None
    compiled_ms: int | None
    tries: int
    succeeded: bool
    models: tuple[ModelReport, ...]
    operators: tuple[OperatorRow, ...]
    diagnoses: tuple[Diagnosis, ...]

    @property
    def mapped_count(self) -> int:
        return sum(row.count for row in self.operators if row.mapped)

    @property
    def cpu_count(self) -> int:
        return sum(row.count for row in self.operators if not row.mapped)


def parse_compiler_log(text: str) -> CompilerReport:
    """Read the compiler's standard output and error in one text, or its log file."""
    text = text.replace("\r\n", "\n")
    succeeded = _succeeded(text)
    stages = (MessageStage.MAPPING,) if succeeded else (MessageStage.COMPILE, MessageStage.MAPPING)
    return CompilerReport(
        compiler_version=_first(_VERSION, text),
        timeout_s=_count(_TIMER, text),
        compiled_ms=_count(_COMPILED, text),
        tries=len(_TRIES.findall(text)),
        succeeded=succeeded,
        models=tuple(_models(text)),
        operators=tuple(_rows(text)),
        diagnoses=diagnose(text, stages),
    )


def with_logs(report: CompilerReport, logs: Mapping[str, str]) -> CompilerReport:
    """Take the tables that were not printed from the logs of operations, which are named by their compiled files."""
    rows = {name: tuple(_rows(text)) for name, text in logs.items()}
    models = tuple(
        replace(model, operators=model.operators or rows.get(Path(model.output_name or "").name, ()))
        for model in report.models
    )
    told = tuple(row for model in models for row in model.operators)
    logged = tuple(row for table in rows.values() for row in table)
    return replace(report, models=models, operators=told or report.operators or logged)


def _succeeded(text: str) -> bool:
    """Return the last outcome; compilers before 16 print none and say "compiled successfully"."""
    outcomes = _OUTCOME.findall(text)
    return outcomes[-1] == "succeeded" if outcomes else _COMPILED.search(text) is not None


def _models(text: str) -> Iterator[ModelReport]:
    starts = list(_MODEL.finditer(text))
    ends = [*(start.start() for start in starts[1:]), len(text)]
    for start, end in zip(starts, ends, strict=False):
        part = text[start.start() : end]
        yield ModelReport(
            input_name=start["name"],
            output_name=_first(re.compile(r"^Output(?: model)?: (.+?)\s*$", re.MULTILINE), part),
            log_name=_first(re.compile(r"^Operation log: (.+?)\s*$", re.MULTILINE), part),
            input_bytes=_bytes("Input size", part),
            output_bytes=_bytes("Output size", part),
            cached_bytes=_bytes("On-chip memory used for caching model parameters", part),
            remaining_bytes=_bytes("On-chip memory (?:remaining|available) for caching model parameters", part),
            streamed_bytes=_bytes("Off-chip memory used for streaming uncached model parameters", part),
            edge_tpu_subgraphs=_labelled("Number of Edge TPU subgraphs", part),
            total_operators=_labelled("Total number of operations", part),
            edge_tpu_operators=_labelled("Number of operations that will run on Edge TPU", part),
            cpu_operators=_labelled("Number of operations that will run on CPU", part),
            operators=tuple(_rows(part)),
        )


def _rows(text: str) -> Iterator[OperatorRow]:
    """Yield the lines of every mapping table; a table ends at the first line that is neither empty nor a row."""
    for table in _TABLE.finditer(text):
        for line in text[table.end() :].split("\n"):
            row = _ROW.fullmatch(line.strip())
            if row:
                yield OperatorRow(row["type"], int(row["count"]), row["status"].strip())
            elif line.strip():
                break


def _first(pattern: re.Pattern[str], text: str) -> str | None:
    found = pattern.search(text)
    return found[1] if found else None


def _count(pattern: re.Pattern[str], text: str) -> int | None:
    found = _first(pattern, text)
    return None if found is None else int(found)


def _labelled(label: str, text: str) -> int | None:
    return _count(re.compile(rf"^{label}: (\d+)", re.MULTILINE), text)


def _bytes(label: str, text: str) -> int | None:
    found = re.search(rf"^{label}: {_SIZE}", text, re.MULTILINE)
    return round(float(found["number"]) * _UNITS[found["unit"]]) if found else None
