"""Stories of failed and poor results."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.report.explain import Story, explain
from farm.report.model import InvalidReason, Report, Result, StepState
from tests import report_samples as samples

FALLEN = samples.step(
    "onnx-to-tflite",
    state="failed",
    failure_type="conversion-failed",
    message="litert-torch 0.10.0 did not convert the model: RuntimeError: Lowering not found: aten.foo.default",
)


def told(*results: dict[str, Any], **changes: Any) -> list[Story]:
    return explain(Report.model_validate(samples.report(*results, **changes)))


def failed(**changes: Any) -> dict[str, Any]:
    return samples.failed_result() | {"message": FALLEN["message"], "remedy": None, "steps": [FALLEN]} | changes


def test_a_good_result_has_no_story() -> None:
    assert told(samples.result()) == []


def test_a_known_failure_is_told_with_operator_meaning_and_what_to_do() -> None:
    (story,) = told(failed())

    assert (story.stage, story.operator, story.entry) == ("onnx-to-tflite", "aten.foo", "litert-torch-lowering")
    assert "Stage onnx-to-tflite failed on host bench-1 (conversion-failed): litert-torch" in story.told[0]
    assert "The message names operator aten.foo." in story.told
    assert "What it means: litert-torch has no lowering for this operator." in story.told
    assert story.action.startswith("Rewrite the operator")
    assert story.command == "farm logs j-7f3a9c --step onnx-to-tflite"
    assert story.who_must_act == "toolchain"


def test_the_failures_own_remedy_and_operator_come_first() -> None:
    (story,) = told(failed(remedy="Turn it off.", evidence={"operator": "Foo", "tensor": "x"}))

    assert (story.operator, story.tensor, story.action) == ("Foo", "x", "Turn it off.")


def test_an_unknown_failure_is_said_to_be_unknown_and_shows_the_telling_lines() -> None:
    message = "tool 1.0 did not convert the model: Odd: the lamp is out"
    log = "\x1b[1mstep 1\n 50%|█████     | 1/2 [00:00<00:00, 9.9it/s]\nlamp error: no current\nbye\n"
    (story,) = told(failed(message=message, steps=[], evidence={"tool": "lamp", "log_tail": log}))

    assert story.entry is None
    assert any("No entry of the knowledge base knows this message" in sentence for sentence in story.told)
    assert story.telling == ("lamp error: no current",)
    assert "before any stage ran" in story.told[0]


def test_every_route_is_told_in_order_with_its_reason() -> None:
    second = samples.step("onnx-to-tflite-via-torch", state="failed", message="no way")
    routes = [["onnx-to-tflite"], ["onnx-to-tflite-via-torch"]]
    (story,) = told(failed(steps=[FALLEN, second], routes=routes, refused_routes=["x → y: needs calibration data."]))

    listed = [sentence for sentence in story.told if sentence.startswith(("Route", "Not tried"))]
    assert listed[0] == "Route 1, onnx-to-tflite: failed as told above."
    assert listed[1] == "Route 2, onnx-to-tflite-via-torch: failed at onnx-to-tflite-via-torch: no way"
    assert listed[2] == "Not tried: x → y: needs calibration data."


def test_two_routes_that_end_in_one_stage_tell_each_its_own_reason() -> None:
    """Given the first failed in the shared stage, the second there for another reason and the third in comparing."""
    again = FALLEN | {"message": "no space for the weights"}
    routes = [["onnx-to-tflite"], ["simplify", "onnx-to-tflite"], ["export", "onnx-to-tflite"]]
    reasons = [FALLEN["message"], again["message"], "It gives 3.1 dB against the source."]
    (story,) = told(failed(steps=[FALLEN, again], routes=routes, route_failures=reasons))

    assert [sentence for sentence in story.told if sentence.startswith("Route")] == [
        "Route 1, onnx-to-tflite: failed as told above.",
        "Route 2, simplify → onnx-to-tflite: failed at onnx-to-tflite: no space for the weights",
        "Route 3, export → onnx-to-tflite: failed: It gives 3.1 dB against the source.",
    ]


def test_a_small_reproduction_is_told_with_its_size() -> None:
    found = {"stage": "onnx-to-tflite", "file": "repro.zip", "nodes": 1, "original_nodes": 101, "signature": "x"}
    (story,) = told(failed(steps=[FALLEN], reproduction=found))

    (sentence,) = (each for each in story.told if "repro.zip" in each)
    assert "holds 1 of the model's 101 nodes with random weights, fails alike in onnx-to-tflite" in sentence


def test_why_there_is_no_small_reproduction_is_told() -> None:
    found = {"stage": "onnx-to-tflite", "file": None, "reason": "With random weights it succeeds."}
    (story,) = told(failed(steps=[FALLEN], reproduction=found))

    assert "There is no small reproduction of the failure in onnx-to-tflite: With random weights it succeeds." in (
        story.told
    )


def test_a_float_result_that_is_not_the_source_says_at_which_stage_it_fell() -> None:
    numerics = samples.poor_layers_result(per_layer=None, per_layer_note=None, tensor="logits")["numerics"]
    (story,) = told(failed(failure_type="numerics-broken", message="It leaves its source.", numerics=numerics))

    assert "The first stage that falls is quantize-onnx-int8-static in output logits: 9.0 dB." in story.told


def test_a_comparison_that_failed_is_told_in_our_own_words_alone() -> None:
    numerics = samples.disagreeing_result()["numerics"]
    evidence = {"stage": "compare on raspberry-pi-5", "tensor": "logits"}
    result = failed(failure_type="numerics-broken", message="It gives 3.1 dB.", numerics=numerics, evidence=evidence)
    (story,) = told(result)

    assert story.told[0] == "It fell at compare on raspberry-pi-5 (numerics-broken): It gives 3.1 dB."
    assert story.telling == ()
    assert not any("knowledge base" in sentence for sentence in story.told)
    assert any("after 31.0 dB at quantize-tflite-int8-static" in sentence for sentence in story.told)
    assert any(sentence.startswith("The hosts disagree") for sentence in story.told)


def test_a_hosts_failure_is_run_again() -> None:
    (story,) = told(failed(failure_type="host-lost", who_must_act="host", message="The lease ran out."))

    assert story.command == "farm retry j-7f3a9c --wait"


def test_the_first_stage_that_falls_is_named_with_what_was_before() -> None:
    good = samples.stage_numerics("torch-to-onnx", 120.0, limit_db=60.0)
    bad = samples.stage_numerics("quantize-onnx-int8-static", 9.0)
    numerics = {"sqnr_db": 9.0, "cosine": 0.9, "max_abs_error": 1.0, "by_stage": [good, bad]}
    (story,) = told(
        samples.result(
            "int8-static",
            "degraded",
            numerics=numerics | {"first_bad_stage": "quantize-onnx-int8-static", "first_bad_tensor": "logits"},
            accuracy={"metric": "top1", "value": 0.8, "float_value": 0.9733, "samples": 450},
        )
    )

    assert story.told == (
        "Its outputs reach 9.0 dB against the source; 20 dB are needed.",
        "The first stage that falls is quantize-onnx-int8-static in output logits: 9.0 dB, after 120.0 dB at "
        "torch-to-onnx.",
        "Its top1 is 0.800 where the float source has 0.973, over 450 samples.",
    )
    assert (story.stage, story.tensor) == ("quantize-onnx-int8-static", "logits")
    assert "calibration" in story.action


def test_a_stage_before_the_first_bad_one_that_was_not_compared_is_named() -> None:
    unseen = samples.stage_numerics("torch-to-onnx", 0.0) | {"sqnr_db": None, "not_checked": "nothing opens it."}
    figures = {"sqnr_db": 9.0, "cosine": 0.9, "max_abs_error": 1.0, "first_bad_stage": "quantize"}
    bad = samples.stage_numerics("quantize", 9.0)
    (story,) = told(samples.result("int8-static", "degraded", numerics=figures | {"by_stage": [unseen, bad]}))

    assert "The first stage that falls is quantize: 9.0 dB (torch-to-onnx before it was not compared)." in story.told


def test_the_first_bad_layer_is_named_and_the_five_worst_are_told() -> None:
    (story,) = told(samples.poor_layers_result())

    first, falls, worst, left_out = story.told[:4]
    assert first == "Its outputs reach 9.0 dB against the source; 20 dB are needed."
    assert falls == "The first stage that falls is quantize-onnx-int8-static in layer /act2/Relu_output_0: 9.0 dB."
    assert worst == (
        "The layers furthest from the float model's, on one sample: conv6 (Conv) 7.0 dB, conv5 (Conv) 8.0 dB, "
        "conv4 (Conv) 9.0 dB, conv3 (Conv) 10.0 dB, /act2/Relu_output_0 (Relu) 12.0 dB."
    )
    assert left_out == "Of its layers: 7 of 9 tensors are compared: the others have no counterpart."
    assert story.tensor == "/act2/Relu_output_0"


def test_values_that_are_cut_off_are_told_of_the_first_bad_layer() -> None:
    layers = samples.poor_layers_result()["numerics"]["per_layer"]
    (story,) = told(samples.poor_layers_result(per_layer=[one | {"clipped_share": 0.43} for one in layers]))

    assert story.told[3].startswith("43% of the values of /act2/Relu_output_0 are cut off")
    assert sum("cut off" in sentence for sentence in story.told) == 1


def test_a_bad_file_is_mended_before_it_is_measured_again() -> None:
    (story,) = told(samples.invalid_result() | {"numerics": samples.poor_layers_result()["numerics"]})

    assert story.told[0].startswith("Its outputs reach 9.0 dB")
    assert any("do not count" in sentence for sentence in story.told)
    assert (story.who_must_act, story.verdict) == ("submitter", "invalid-measurement")
    assert "calibration" in story.action


def test_why_no_layer_is_named_is_told() -> None:
    (story,) = told(samples.poor_layers_result(per_layer=None, per_layer_note="no stage reads them.", tensor="logits"))

    assert "in output logits" in story.told[1]
    assert story.told[2] == "Its layers are not compared: no stage reads them."


def test_hosts_that_disagree_are_told() -> None:
    (story,) = told(samples.disagreeing_result())

    assert "The hosts disagree about one file: 3.1 dB on pi-5, 31.0 dB on builder-1." in story.told
    assert "another host" in story.action
    assert "integer kernels saturate: take int8-mixed" in story.action


@pytest.mark.parametrize(("reason", "profile"), [("governor", "raspberry-pi-4"), ("clock-low", "no-such-profile")])
def test_a_wrong_governor_comes_with_the_line_that_sets_it(reason: str, profile: str) -> None:
    conditions = samples.conditions(valid=False, reasons=(reason,)) | {"profile": profile}
    (story,) = told(samples.result("float32", "invalid-measurement", conditions=conditions))

    line = "echo performance | tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
    assert story.action.endswith(f"As root on the host: {line}")
    assert "the worker set" not in story.action


def test_int8_slower_than_float_names_the_fastest_instead() -> None:
    stories = told(samples.result(), samples.slow_result())

    (story,) = stories
    assert "It takes 2.38x the time of float32 under litert on the same host (median 1.91 ms)." in story.told
    assert "onnxruntime float32" in story.action


def test_an_invalid_measurement_says_why_and_how_to_get_a_valid_one() -> None:
    (story,) = told(samples.invalid_result() | {"verdicts": ["invalid-measurement"]})

    assert "do not count: other work loaded the host, the hypervisor took CPU time away" in story.told[0]
    assert story.command == "farm retry j-7f3a9c --wait"


def test_a_refused_job_tells_every_reason() -> None:
    (story,) = explain(Report.model_validate(samples.refused_report()))

    assert story.verdict == "refused"
    assert story.command == "farm targets"
    assert len(story.told) == 3
    assert story.action == "See `farm targets`."


def test_a_refused_file_does_not_send_its_reader_to_the_targets() -> None:
    report = samples.refused_report()
    report["reasons"] = report["reasons"][1:]

    assert explain(Report.model_validate(report))[0].command == "farm submit --help"


TEXTS = st.one_of(st.none(), st.text(max_size=40), st.just("Lowering not found: aten.foo"), st.just(samples.HOSTILE))
NUMBERS = st.one_of(st.none(), st.floats(-50, 250))
STEPS = st.builds(
    lambda stage, state, message: samples.step(stage, state=state, message=message),
    st.sampled_from(["onnx-to-tflite", "quantize", "measure"]),
    st.sampled_from(StepState.__args__),
    TEXTS,
)
FIGURES = st.builds(
    lambda stage, db, limit, where: (
        samples.stage_numerics(stage, 0.0) | {"sqnr_db": db, "limit_db": limit, "where": where}
    ),
    st.text(max_size=9),
    NUMBERS,
    st.one_of(st.none(), st.floats(1, 90)),
    st.sampled_from(["build", "target"]),
)
NUMERICS = st.fixed_dictionaries(
    {"sqnr_db": NUMBERS, "cosine": NUMBERS, "max_abs_error": NUMBERS},
    optional={
        "by_stage": st.lists(FIGURES, max_size=3),
        "first_bad_stage": TEXTS,
        "first_bad_tensor": TEXTS,
        "disagreement": TEXTS,
    },
)
EVIDENCE = st.one_of(
    st.none(),
    st.just("odd"),
    st.dictionaries(
        st.sampled_from(["tool", "operator", "tensor", "log_tail", "cause", "knowledge"]),
        st.one_of(TEXTS, st.integers(), st.lists(TEXTS, max_size=2)),
    ),
)
RESULTS = st.fixed_dictionaries(
    {
        "model": st.text(min_size=1, max_size=9),
        "target": st.just("board"),
        "target_runtime": st.sampled_from(["litert", "onnxruntime"]),
        "recipe": st.sampled_from(["float32", "int8-static", "int8-static+percentile", "of-tomorrow"]),
        "verdict": st.sampled_from([None, "ok", "failed", "degraded", "slower-than-float", "invalid-measurement"]),
        "state": st.sampled_from(["waiting", "running", "succeeded", "failed", "cancelled"]),
        "steps": st.lists(STEPS, max_size=4),
    },
    optional={
        "verdicts": st.lists(
            st.sampled_from(["degraded", "slower-than-float", "invalid-measurement", "new"]), max_size=3
        ),
        "message": TEXTS,
        "remedy": TEXTS,
        "failure_type": TEXTS,
        "who_must_act": st.sampled_from([None, "submitter", "toolchain", "host", "operator", "us"]),
        "evidence": EVIDENCE,
        "routes": st.one_of(st.none(), st.lists(st.one_of(TEXTS, st.lists(TEXTS, max_size=3)), max_size=3)),
        "route_failures": st.one_of(st.none(), st.lists(TEXTS, max_size=3)),
        "refused_routes": st.one_of(st.none(), st.lists(TEXTS, max_size=2)),
        "numerics": st.one_of(st.none(), NUMERICS),
        "accuracy": st.one_of(st.none(), st.just({"metric": "top1", "value": 0.1, "float_value": 0.9, "samples": 3})),
        "execution_summary": st.one_of(st.none(), NUMBERS.map(lambda ratio: samples.summary(versus_float=ratio))),
        "conditions": st.one_of(
            st.none(),
            st.lists(st.sampled_from(InvalidReason.__args__), max_size=3).map(
                lambda reasons: samples.conditions(valid=False, reasons=tuple(reasons))
            ),
        ),
    },
)


@settings(max_examples=150, deadline=None)
@given(st.lists(RESULTS, max_size=4))
def test_every_failed_or_poor_result_has_a_story_with_one_action(results: list[dict[str, Any]]) -> None:
    report = Report.model_validate(samples.report(*results))
    stories = explain(report)

    assert len(stories) == sum(poor(result) for result in report.results)
    for story in stories:
        fields = dataclasses.asdict(story).values()
        texts = [text for field in fields if field for text in ((field,) if isinstance(field, str) else field)]
        assert story.result
        assert story.action
        assert story.command.startswith("farm ")
        assert not any(character in text for text in texts for character in "\x1b\u202e\x00")


def poor(result: Result) -> bool:
    return result.state == "failed" or result.verdict in (
        "failed",
        "degraded",
        "slower-than-float",
        "invalid-measurement",
    )
