"""The report: one contract, and figures that never look better than they are."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from rich.console import Console

from farm.report import text
from farm.report.measured import sentences
from farm.report.model import Report, Result
from farm.report.page import render_fragment, render_html
from farm.report.row import row
from farm.report.schema import schema, violations
from farm.report.spent import operator_bars, step_bars
from farm.report.table import print_report
from tests import report_samples as samples


def printed(report: dict[str, Any], width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_report(Report.model_validate(report), console)
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


def test_samples_conform_and_survive_the_typed_model() -> None:
    report = samples.full_report()

    assert violations(report) == []
    assert violations(Report.model_validate(report).model_dump(mode="json")) == []


def test_a_score_comes_with_its_interval_the_source_s_and_how_pictures_became_inputs() -> None:
    score = {"metric": "f1", "value": 0.8, "float_value": 0.81, "samples": 90, "ci95": [0.7, 0.9]}
    declared = {"input": "image", "resize": [224, 224], "mean": [], "crop": None, "classes": ["<cat>"]}
    result = samples.result(accuracy=score | {"float_ci95": [0.71, 0.91]}, preprocessing=declared, labels=["<cat>"])
    page = render_html(samples.report(result))

    assert violations(samples.report(result)) == []
    assert "f1 0.8000 (0.7000 … 0.9000), float 0.8100 (0.7100 … 0.9100), 90 samples" in page
    assert "input image, resize [224, 224], classes [&#39;&lt;cat&gt;&#39;]" in page


GENERATION = {"prompt_tokens": 16, "new_tokens": 32, "time_to_first_token": 12_345.0, "tokens_per_second": 41.7}


def test_a_decoder_s_speed_is_a_sentence() -> None:
    result = Result.model_validate(samples.result(execution_summary=samples.summary(generation=GENERATION)))

    assert "Text: first token after 12.3 ms with a prompt of 16 tokens, then 41.7 tokens per second." in sentences(
        result
    )


def test_violations_name_the_place() -> None:
    report = samples.report(samples.result(verdict="fine"))

    assert violations(report) == [
        "results/0/verdict: 'fine' is not one of "
        "['ok', 'degraded', 'slower-than-float', 'invalid-measurement', 'failed', None]"
    ]


def test_the_typed_model_knows_every_field_and_word_of_the_schema() -> None:
    theirs, ours = _words(schema(), schema()), _words(model := Report.model_json_schema(), model)

    assert set(theirs) - set(ours) == set()
    assert {path: words for path, words in ours.items() if words and path in theirs} == {
        path: words for path, words in theirs.items() if words
    }


def _words(node: dict[str, Any], root: dict[str, Any], path: str = "") -> dict[str, set[str]]:
    """Map each field's path, at every depth, to the words it may hold where they are listed."""
    found: dict[str, set[str]] = {}
    for leaf in _leaves(node, root):
        found.setdefault(path, set()).update(set(leaf.get("enum", [leaf.get("const")])) - {None})
        for field in {*leaf.get("properties", ()), *leaf.get("required", ())}:
            below = _words(leaf.get("properties", {}).get(field, {}), root, f"{path}.{field}")
            for name, words in below.items():
                found.setdefault(name, set()).update(words)
    return found


def _leaves(node: dict[str, Any], root: dict[str, Any]) -> list[dict[str, Any]]:
    """Follow references, alternatives and lists down to plain nodes."""
    nested = [*node.get("anyOf", ()), *node.get("allOf", ())]
    if isinstance(node.get("items"), dict):
        nested.append(node["items"])
    if "$ref" in node:
        nested.append(root["$defs"][node["$ref"].rpartition("/")[2]])
    return [leaf for one in nested for leaf in _leaves(one, root)] if nested else [node]


def test_an_emulated_measurement_can_not_be_valid() -> None:
    for emulated in (True, None):
        false_claim = samples.conditions(valid=True, emulated=emulated)
        with pytest.raises(ValidationError, match="never valid"):
            Report.model_validate(samples.report(samples.result(conditions=false_claim)))
        assert violations(samples.report(samples.result(conditions=false_claim)))


@pytest.mark.parametrize("predicted", [True, "by rules", None])
def test_the_schema_lets_no_predicted_result_carry_a_valid_measurement(predicted: object) -> None:
    told = samples.summary(predicted=predicted)
    claimed = samples.result(execution_summary=told, conditions=samples.conditions(valid=True, emulated=False))
    honest = samples.result(execution_summary=told, conditions=samples.conditions(valid=False, emulated=False))

    assert violations(samples.report(claimed)) == ["results/0/conditions/valid: False was expected"]
    assert violations(samples.report(honest)) == []
    assert violations(samples.report(samples.result(execution_summary=samples.summary(predicted=False)))) == []


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160, 200])
def test_tables_fit_their_terminal(width: int) -> None:
    assert max(len(line.rstrip()) for line in printed(samples.full_report(), width).splitlines()) <= width


@pytest.mark.parametrize("width", [80, 120, 160])
def test_figures_that_do_not_count_are_marked_and_explained(width: int) -> None:
    shown = printed(samples.report(samples.invalid_result(), samples.emulated_result()), width)

    assert "✗(0.533" in shown
    assert "✗(1.52x)" in shown
    assert re.search(r"(?<!\()0\.533", shown) is None
    assert "emulated" in shown
    flowed = " ".join(shown.split())
    assert "loaded (other work loaded the host), steal (the hypervisor took CPU time away)" in flowed


def test_failures_say_who_must_act_and_what_to_do() -> None:
    flowed = " ".join(printed(samples.report(samples.failed_result())).split())

    for part in ("conversion-failed", "GridSample", "ask for runtime onnxruntime", "toolchain must act"):
        assert part in flowed


def test_a_disagreement_of_hosts_is_told_under_every_table() -> None:
    told = "The hosts disagree about one file: 3.1 dB on pi-5, 31.0 dB on builder-1."
    report = samples.report(samples.disagreeing_result())

    assert told in " ".join(printed(report).split())
    page = render_html(report)
    assert told in page
    assert "not checked: no live build host has environment onnxruntime." in page
    assert page.count("under 20 dB") == 1


def test_the_page_lists_the_five_worst_layers() -> None:
    page = render_html(samples.report(samples.poor_layers_result()))

    (section,) = re.findall(r"<details open><summary>Layers furthest.*?</details>", page, re.DOTALL)
    assert re.findall(r'<th scope="row"><code>(.*?)</code>', section) == [
        *("conv6", "conv5", "conv4", "conv3", "/act2/Relu_output_0")
    ]
    assert "The worst 5 of 6, on one sample" in section
    assert "Of its layers: 7 of 9 tensors are compared" in section


def test_the_page_says_why_there_are_no_layers_and_nothing_of_a_float_result() -> None:
    without = samples.poor_layers_result(per_layer=None, per_layer_note="no stage reads them.")

    assert "Its layers are not compared: no stage reads them." in render_html(samples.report(without))
    assert "Layers furthest" not in render_html(samples.report(samples.result()))


def test_what_was_left_out_is_told_under_the_results() -> None:
    left = {"model": "digits", "target": "x86-64-v3", "target_runtime": "executorch", "recipe": "float32"}
    reason = "No route leads from onnx to executorch with recipe float32 for digits."
    report = samples.report(samples.result(), left_out=[left | {"reason": reason}])

    assert f"left out digits/x86-64-v3/executorch/float32: {reason}" in " ".join(printed(report).split())
    assert reason in render_html(report)


def test_where_numerics_first_fall_is_told_under_the_table() -> None:
    numerics = {
        **samples.disagreeing_result()["numerics"],
        **{"by_stage": [samples.stage_numerics("onnx-to-tflite", 12.0, limit_db=60.0)], "disagreement": None},
        **{"first_bad_stage": "onnx-to-tflite"},
    }

    flowed = " ".join(printed(samples.report(samples.result(verdict="degraded", numerics=numerics))).split())

    assert "numerics first fall at onnx-to-tflite in output 'logits': 12.0 dB, 60 dB are needed." in flowed


def test_slower_and_worse_results_say_so() -> None:
    shown = printed(samples.report(samples.slow_result(), samples.invalid_result()))

    assert "slower-than-float" in shown
    assert "degraded" in shown
    assert "measurement reused: 2 h old, from host bench-1" in shown


def test_unknown_is_said_as_unknown() -> None:
    cells = row(Result.model_validate(samples.result(accuracy=None, numerics=None)))

    assert (cells.accuracy, cells.sqnr_db) == ("–", "–")


class _Page(HTMLParser):
    """Collects what matters for safety and structure."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.struck = ""
        self.plain = ""
        self.attributes: list[tuple[str, str | None]] = []
        self._inside: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "s" in self._inside:
            self.struck += data
        elif "style" not in self._inside:
            self.plain += data


def test_the_page_stands_alone_and_runs_nothing() -> None:
    page = _Page(render_html(samples.full_report()))

    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    links = [value for name, value in page.attributes if name in ("href", "src")]
    assert links
    assert all(value is not None and value.startswith("#") for value in links)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "style"]


def test_hostile_names_are_text_on_the_page() -> None:
    html = render_html(samples.report(samples.result(model=samples.HOSTILE)))

    assert "<script>" not in html
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert "\\x1b[31m\\u202e" in html


def test_figures_that_do_not_count_are_struck_on_the_page() -> None:
    page = _Page(render_html(samples.report(samples.invalid_result())))

    assert "0.533 / 0.990" in page.struck
    for figure in ("0.533", "0.990", "1.52x", "21.0 ms"):
        assert figure not in page.plain
    assert "not valid" in page.plain


def test_a_refused_job_has_a_page_with_every_reason() -> None:
    html = render_html(samples.refused_report())

    for part in ("Why it was refused", "unknown-name", "open-axis", "SIZE"):
        assert part in html


def test_what_is_said_of_several_results_is_told_once() -> None:
    few, own = "The calibration data holds 16 different samples, which is few.", "As fast as float32 within 2 %."
    results = [samples.result(recipe="float32", notes=[few]), samples.result(recipe="float16", notes=[few, own])]
    shown = printed(samples.report(*results))

    assert shown.count(few) == 1
    assert f"digits: {few}" in shown
    assert "[1]" in shown
    assert "[2]" not in shown


def test_a_notebook_gets_the_table_alone() -> None:
    page = _Page(render_fragment(samples.full_report()))

    assert page.tags.count("table") == 1
    assert "html" not in page.tags


def test_steps_lie_end_to_end() -> None:
    bars = step_bars(Result.model_validate(samples.result()))

    assert [(bar.label, bar.value) for bar in bars] == [
        ("torch-to-onnx, waiting", "0.4 s"),
        ("torch-to-onnx", "3.1 s"),
        ("measure-onnxruntime, waiting", "0.4 s"),
        ("measure-onnxruntime", "6.2 s"),
    ]
    assert abs(bars[-1].start + bars[-1].length - 1000) <= 2


def test_reused_steps_took_no_time_of_this_job() -> None:
    steps = [samples.step("torch-to-onnx", reused=True), samples.step("measure-onnxruntime")]

    bars = step_bars(Result.model_validate(samples.result(steps=steps)))

    assert {bar.label for bar in bars} == {"measure-onnxruntime, waiting", "measure-onnxruntime"}


def test_operators_are_ranked_and_the_rest_is_one_bar() -> None:
    bars = operator_bars(Result.model_validate(samples.slow_result()))

    assert bars[0].label == "conv_15 (CONV_2D, CPU)"
    assert bars[-1].label == "3 others"
    assert abs(sum(bar.length for bar in bars) - 1000) <= len(bars)


@given(st.text())
def test_plain_text_has_no_control_characters(given_text: str) -> None:
    shown = text.plain(given_text)

    assert shown.isprintable() or all(ord(character) >= 32 for character in shown)
    assert "\x1b" not in shown
    assert "\u202e" not in shown


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (text.size(0), "0 B"),
        (text.size(1023), "1023 B"),
        (text.size(4_928_307), "4.7 MiB"),
        (text.size(219_432), "214 KiB"),
        (text.size(3 << 40), "3.0 TiB"),
        (text.milliseconds(20), "0.0200"),
        (text.milliseconds(1_234), "1.23"),
        (text.milliseconds(12_340), "12.3"),
        (text.milliseconds(1_234_000), "1234"),
        (text.decibels(200.0), "exact"),
        (text.decibels(None), "–"),
        (text.seconds(0.42), "0.4 s"),
        (text.seconds(86_400), "24 h"),
        (text.seconds(10 * 86_400), "10 days"),
    ],
)
def test_values_read_one_way(shown: str, expected: str) -> None:
    assert shown == expected


def measured_result(**changes: Any) -> Result:
    window = {"start_s": 0.0, "p50": 1000.0, "p90": 1100.0, "temperature_c": 48.0}
    told = {
        "scenario": "server",
        "target_qps": 50.0,
        "samples_per_s": 49.2,
        "latency_bound_ms": 20.0,
        "met": False,
        "p99": 25_000.0,
        "distribution": {
            "named": ["two-modes", "drift"],
            "modes_us": [1e3, 3e3],
            "mode_shares": [0.7, 0.3],
            "drift_ratio": 1.2,
        },
        "threads_sweep": [
            {"threads": 1, "p50": 2000.0},
            {"threads": 2, "p50": 1000.0},
            {"threads": 64, "why_not": "2 cores."},
        ],
        "sustained": {
            "duration_s": 60.0,
            "windows": [window, {**window, "temperature_c": 81.0}],
            "time_to_throttle_s": 40.0,
            "steady_state_ratio": 0.72,
        },
        "energy": {
            "meter": "hwmon ina226",
            "covers": "whole board",
            "energy_per_inference_mj": 12.3,
            "idle_power_w": 2.1,
        },
        "generation": GENERATION,
    }
    detail = [
        {"name": "tpu", "type": "edgetpu-custom-op", "compute_unit": "NPU", "execution_time": 900.0},
        {"name": "probs", "type": "SOFTMAX", "compute_unit": "CPU", "execution_time": 100.0},
    ]
    conditions = samples.conditions(valid=False, emulated=False, reasons=["hot"]) | {
        "earlier": [{"reasons": ["hot"], "cool_down_s": 30.0}],
        "competing_processes": [{"name": "make", "cores": 0.5}],
    }
    return Result.model_validate(
        samples.result(
            **{
                "execution_summary": samples.summary(**told),
                "execution_detail": detail,
                "conditions": conditions,
                **changes,
            }
        )
    )


FIGURES = [
    "Scenario server: 50 queries per second asked for, 49.2 answered; p99 of 25.0 ms breaks the bound of 20 ms.",
    "The times have two modes, 1.00 and 3.00 ms (30% slow).",
    "The times drift: at the end of a process they are 20% longer than at its beginning.",
    "Threads 1: 2.00 ms (1.00x); 2: 1.00 ms (2.00x).",
    "Sustained for 60 s: 72% of the first speed at the end, slower from 40 s on, 48 to 81 °C.",
    "Text: first token after 12.3 ms with a prompt of 16 tokens, then 41.7 tokens per second.",
    "Energy 12.3 mJ per inference by hwmon ina226 (whole board), 2.1 W of the idle host subtracted.",
    "Where the time goes: edgetpu-custom-op 90%, SOFTMAX 10%.",
]
UNMARKED = [
    "Left on the CPU: probs (SOFTMAX).",
    "Measured again after a pause of 30 s: the first time the conditions were hot.",
]


def test_what_was_measured_beside_the_latencies_is_said_in_sentences() -> None:
    valid = samples.conditions() | {"earlier": [{"reasons": ["hot"], "cool_down_s": 30.0}]}

    assert sentences(measured_result(conditions=valid)) == [*_with_cores(FIGURES), *UNMARKED]


def test_every_figure_that_does_not_count_is_marked_with_its_reason() -> None:
    said = sentences(measured_result())

    assert [one for one in said if one not in UNMARKED] == [
        *(f"Not valid (hot): {figure}" for figure in FIGURES[:4]),
        "Threads 64: 2 cores.",
        *(f"Not valid (hot): {figure}" for figure in FIGURES[4:]),
        "Beside it ran make (0.50 cores).",
    ]


def test_an_emulated_host_has_no_energy_and_each_of_its_times_says_so() -> None:
    conditions = samples.conditions(valid=False, emulated=True, reasons=("emulated",))
    said = sentences(measured_result(conditions=conditions))

    assert not any("Energy" in one for one in said)
    assert {f"Not valid (emulated): {figure}" for figure in FIGURES if "Energy" not in figure} <= set(said)


def test_what_was_taken_later_counts_or_not_by_its_own_conditions() -> None:
    loaded, calm = {"valid": False, "reasons": ["loaded"]}, {"valid": True, "reasons": []}
    sweep = [{"threads": 1, "p50": 2000.0, "conditions": calm}, {"threads": 2, "p50": 1000.0, "conditions": loaded}]
    summary = samples.summary(threads_sweep=sweep, generation=GENERATION | {"conditions": loaded})
    said = sentences(Result.model_validate(samples.result(execution_summary=summary)))

    assert said == [
        "Threads 1: 2.00 ms (1.00x).",
        "Not valid (loaded): Threads 2: 1.00 ms.",
        f"Not valid (loaded): {FIGURES[5]}",
    ]


def _with_cores(figures: list[str]) -> list[str]:
    """Name the count of threads that the host does not have beside the others."""
    return [one.replace("(2.00x).", "(2.00x); 64: 2 cores.") for one in figures]


def test_pages_and_terminals_say_the_same_and_the_page_what_could_not_be_told() -> None:
    result = measured_result(execution_detail_note="No profiler here.")
    report = samples.report(result.model_dump(mode="json"))
    page, shown = _Page(render_html(report)).plain, printed(report, 200)

    for sentence in sentences(result):
        assert sentence in page
        assert sentence in " ".join(shown.split())
    assert "No profiler here." in page


def test_a_plain_measurement_says_nothing_further() -> None:
    assert sentences(Result.model_validate(samples.result())) == []


def test_the_memory_that_a_file_takes_of_an_edge_tpu_is_said() -> None:
    told = samples.result(edgetpu={"predicted": False, "memory": {"cached_bytes": 1280, "streamed_bytes": 0}})
    said = sentences(Result.model_validate(told))

    assert "Edge TPU: 1.2 KiB of parameters stay on the chip, 0 B are sent with each inference." in said


@pytest.mark.parametrize("edgetpu", [{"predicted": True}, {}])
def test_memory_that_is_not_known_to_be_a_files_own_is_marked(edgetpu: dict[str, bool]) -> None:
    told = samples.result(edgetpu={**edgetpu, "memory": {"cached_bytes": 1280, "streamed_bytes": 0}})
    (said,) = (one for one in sentences(Result.model_validate(told)) if "Edge TPU" in one)

    assert said.startswith("Predicted, not measured: Edge TPU: 1.2 KiB")
