"""The plain script gets the farm's own calls, in an order that works."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.conversions import in_order
from benchmarks.steps import StepTime, runs_in
from farm.domain.errors import FarmBug
from farm.domain.plan import Input, PlannedStep

STEP = PlannedStep(
    key="", stage="any", version="1", kind="convert", environment="builder", environment_digest="", options={},
    profile={}, inputs=(), queue="build.x86_64", title="any", max_runtime_seconds=1.0, memory_bytes=1,
)  # fmt: skip


def step(key: str, *needs: str) -> PlannedStep:
    return replace(STEP, key=key, inputs=tuple(Input(f"role-{need}", step=need) for need in needs))


def test_steps_come_behind_what_they_need() -> None:
    # Given steps in the worst order
    given = [step("compare", "quantize", "reference"), step("quantize", "export"), step("export"), step("reference")]
    # When they are put in order
    keys = [one.key for one in in_order(given)]
    # Then every need stands before its step
    assert sorted(keys) == ["compare", "export", "quantize", "reference"]
    assert all(keys.index(need) < keys.index(one.key) for one in given for need in one.needs)


def test_needs_outside_the_list_do_not_count() -> None:
    assert [one.key for one in in_order([step("convert", "inspect")])] == ["convert"]


def test_a_circle_is_a_bug_and_not_an_endless_loop() -> None:
    with pytest.raises(FarmBug, match="need one another"):
        in_order([step("a", "b"), step("b", "a")])


def test_runs_are_read_from_the_workers_log(tmp_path: Path) -> None:
    # Given a log with a run between other lines
    log = tmp_path / "worker.log"
    log.write_text(
        "HTTP Request: POST http://127.0.0.1/v1/claims\n"
        "2026-11-24 [info] A run of the stage ended.  action=run end=exit run_time_ms=12.5 stage=inspect-npz"
        " start_ms=31.0 step_id=step-abc2\n"
    )
    # When it is read, then the step's times are there
    assert list(runs_in(log)) == [("step-abc2", 12.5, 31.0)]


def test_overhead_is_what_the_child_did_not_run() -> None:
    assert StepTime(total_ms=80.0, run_ms=12.5, start_ms=31.0).overhead_ms == 67.5
