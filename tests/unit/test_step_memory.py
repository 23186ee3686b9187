"""How much memory a transform took: from the sandbox to the step's entry in the report."""

from __future__ import annotations

from farm.domain.progress import StepPhase, StepState
from farm.domain.stage import Kind
from farm.domain.step_entry import PEAK, step_entry
from workers.results import Made
from workers.stage_runs import with_peak


def test_a_transform_s_peak_is_a_fact_and_others_facts_stay_as_they_are() -> None:
    made = Made(facts={"opset": 20})

    assert with_peak(made, 5_000, Kind.EXPORT).facts == {"opset": 20, PEAK: 5_000}
    assert with_peak(made, None, Kind.EXPORT) is made
    assert with_peak(made, 5_000, Kind.INSPECT) is made
    assert with_peak(made, 5_000, Kind.MEASURE) is made


def test_the_report_s_step_tells_it_where_it_is_known() -> None:
    state = StepState("k", "s-1", "torch-exported-program-to-onnx", StepPhase.SUCCEEDED, facts={PEAK: 5_000})

    assert step_entry(state, None, {})[PEAK] == 5_000
    assert PEAK not in step_entry(StepState("k", "s-1", "inspect-onnx", StepPhase.SUCCEEDED), None, {})
