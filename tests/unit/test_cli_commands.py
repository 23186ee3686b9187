"""The command line against a scripted farm: what it sends, prints and exits with."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from farm import __version__
from farm.cli.main import run
from farm.report.schema import violations
from tests import report_samples as samples
from tests.farm_double import TOKEN, FarmDouble, event, farm_double, host, job_view, problem, target


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Farm = Callable[..., Ran]


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FarmDouble]:
    with farm_double() as made:
        monkeypatch.setenv("FARM_URL", made.url)
        monkeypatch.setenv("FARM_TOKEN", TOKEN)
        monkeypatch.chdir(tmp_path)
        yield made


@pytest.fixture
def farm(capsys: pytest.CaptureFixture[str]) -> Farm:
    def call(*arguments: str) -> Ran:
        code = run(arguments)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return Ran(code, captured.out, captured.err)

    return call


def accepts_jobs(double: FarmDouble, report: dict[str, Any]) -> None:
    """Let the farm take a job that ends at once with `report`."""
    double.answers["POST /v1/jobs"] = (201, job_view(state="inspecting"))
    double.answers["GET /v1/jobs/j-1"] = (200, job_view(state=report["state"]))
    double.answers["GET /v1/jobs/j-1/report"] = (200, report)


def model_file(folder: Path, name: str = "digits.onnx", content: bytes = b"model bytes") -> str:
    (folder / name).write_bytes(content)
    return str(folder / name)


def test_submit_uploads_and_prints_the_job(double: FarmDouble, farm: Farm, tmp_path: Path) -> None:
    accepts_jobs(double, samples.report(samples.result()))

    ran = farm(
        "submit", model_file(tmp_path), "--target", "x86-64-v3", "--label", "team=vision", "--format", "ort", "--json"
    )

    assert (ran.code, ran.json) == (0, {"job": "j-1"})
    (request,) = double.requests("POST /v1/jobs")
    (sent,) = request["models"][0]["artifact"]["files"]
    assert double.store[sent["sha256"]] == b"model bytes"
    assert (request["targets"], request["labels"], request["recipes"]) == (["x86-64-v3"], {"team": "vision"}, None)
    assert request["formats"] == ["ort"]
    assert double.headers("POST /v1/jobs")[0]["Idempotency-Key"]


def test_options_of_stages_are_sent_as_they_were_written(double: FarmDouble, farm: Farm, tmp_path: Path) -> None:
    accepts_jobs(double, samples.report(samples.result()))
    job = tmp_path / "job.toml"
    job.write_text('[option.int8-static]\npreset = "mixed"\nsubset_size = 9\n[[model]]\npath = "digits.onnx"\n')
    model_file(tmp_path)
    flags = ("--option", "int8-static.preset=performance", "--option", "int8-mixed.keep_float=a.b=c,d")

    assert farm("submit", "-f", str(job), "-t", "x86-64-v3", *flags).code == 0

    (request,) = double.requests("POST /v1/jobs")
    assert request["options"] == {
        "int8-static": {"preset": "performance", "subset_size": 9},
        "int8-mixed": {"keep_float": "a.b=c,d"},
    }


def test_edges_and_types_are_asked_for_by_flags_of_their_own(double: FarmDouble, farm: Farm, tmp_path: Path) -> None:
    accepts_jobs(double, samples.report(samples.result()))
    edges = ("--force-channel-last-input", "image", "--force-channel-last-input", "mask", "--narrow-64-bit")
    types = ("--weights-dtype", "int8", "--activations-dtype", "int16")

    assert farm("submit", model_file(tmp_path), "-t", "x86-64-v3", *edges, *types).code == 0

    (request,) = double.requests("POST /v1/jobs")
    assert request["recipes"] == ["int16x8"]
    assert request["options"] == {"optimize-onnx-edges": {"channel_last_inputs": "image,mask", "narrow_64_bit": "true"}}


def test_models_are_compiled_together_where_that_is_asked_for(double: FarmDouble, farm: Farm, tmp_path: Path) -> None:
    accepts_jobs(double, samples.report(samples.result()))

    assert farm("submit", model_file(tmp_path), "-t", "coral-usb", "--co-compile").code == 0

    (request,) = double.requests("POST /v1/jobs")
    assert request["co_compile"] is True


def test_types_that_no_recipe_has_are_refused_with_the_list(farm: Farm, tmp_path: Path) -> None:
    ran = farm("submit", model_file(tmp_path), "-t", "x86-64-v3", "--weights-dtype", "int3")

    assert ran.code != 0
    assert "No recipe has weights in int3; recipes have (weights, activations)" in ran.err
    assert "int16x8: int8, int16" in ran.err


@pytest.mark.parametrize("text", ["preset=mixed", "int8-static.preset", "int8-static.=mixed", ".preset=mixed"])
def test_an_option_of_another_form_is_refused(farm: Farm, tmp_path: Path, text: str) -> None:
    ran = farm("submit", model_file(tmp_path), "-t", "x86-64-v3", "--option", text)

    assert ran.code != 0
    assert "is not of the form RECIPE.NAME=VALUE" in ran.err


def test_flags_say_how_results_are_measured(double: FarmDouble, farm: Farm, tmp_path: Path) -> None:
    accepts_jobs(double, samples.report(samples.result()))
    flags = ("--scenario", "server", "--target-qps", "50", "--latency-bound-ms", "20", "--threads", "1,2")

    assert farm("submit", model_file(tmp_path), "-t", "x86-64-v3", *flags, "--sustained", "2m").code == 0

    (request,) = double.requests("POST /v1/jobs")
    assert (request["scenario"], request["target_qps"], request["latency_bound_ms"]) == ("server", 50.0, 20.0)
    assert (request["threads"], request["sustained_s"], request["samples_per_query"]) == ([1, 2], 120.0, None)


def test_nothing_is_uploaded_twice(double: FarmDouble, farm: Farm, tmp_path: Path) -> None:
    accepts_jobs(double, samples.report(samples.result()))
    model = model_file(tmp_path)

    farm("submit", model, "-t", "x86-64-v3")
    farm("submit", model, "-t", "x86-64-v3")

    assert len(double.requests("PUT /store/")) == 1


@pytest.mark.parametrize(
    ("report", "code"),
    [
        (samples.report(samples.result()), 0),
        (samples.report(samples.invalid_result()), 0),
        (samples.report(samples.result(), samples.failed_result(), state="partial"), 1),
        (samples.report(samples.failed_result(), state="failed"), 1),
        (samples.refused_report(), 2),
        (samples.report(state="cancelled"), 4),
        (samples.report(samples.result(), answer={"winner": None, "pareto": [], "losers": []}), 1),
    ],
)
def test_wait_prints_the_report_and_exits_as_the_job_ended(
    double: FarmDouble, farm: Farm, tmp_path: Path, report: dict[str, Any], code: int
) -> None:
    accepts_jobs(double, report)

    ran = farm("submit", model_file(tmp_path), "-t", "x86-64-v3", "--wait", "--json")

    assert (ran.code, ran.json) == (code, report)


def test_a_winner_counts_although_other_candidates_failed(double: FarmDouble, farm: Farm) -> None:
    winner = {"model": "digits", "target": "x86-64-v3", "target_runtime": "onnxruntime", "recipe": "float32"}
    answer = {"winner": winner, "pareto": [winner], "losers": [], "nearest_miss": None}
    report = samples.report(samples.result(), samples.failed_result(), state="partial", answer=answer)
    accepts_jobs(double, report)

    ran = farm("report", "j-1")

    assert ran.code == 0
    assert "Answer: digits on x86-64-v3, onnxruntime float32" in ran.out


def test_watch_survives_a_restarting_api(double: FarmDouble, farm: Farm) -> None:
    # Given a stream that breaks after one event, then a proxy's 503, then a stream that tells the end.
    double.streams = [[event(1, "step", {"state": "running"})], [event(2, "job", {"state": "succeeded"})]]
    views: Iterator[Any] = iter([job_view(), job_view(), (503, {}), job_view()])
    done = job_view(state="succeeded")
    double.answers["GET /v1/jobs/j-1"] = lambda _: _answer(next(views, done))
    double.answers["GET /v1/jobs/j-1/report"] = (200, samples.report(samples.result()))

    ran = farm("watch", "j-1", "--json")

    assert (ran.code, ran.json["state"]) == (0, "succeeded")
    assert double.headers("GET /v1/jobs/j-1/events")[1]["Last-Event-ID"] == "1"


def _answer(view: Any) -> tuple[int, Any]:
    return view if isinstance(view, tuple) else (200, view)


def test_ctrl_c_detaches_and_says_how_to_resume(
    double: FarmDouble, farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    double.answers["GET /v1/jobs/j-1"] = (200, job_view())

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("farm.client.job.Job.wait", interrupt)

    ran = farm("watch", "j-1")

    assert ran.code == 130
    assert "farm watch j-1" in ran.err


def test_refusals_show_every_reason(double: FarmDouble, farm: Farm, tmp_path: Path) -> None:
    accepts_jobs(double, samples.refused_report())

    ran = farm("submit", model_file(tmp_path), "-t", "x86-64-v33", "--wait")

    assert ran.code == 2
    for part in ("unknown-name", "did you mean x86-64-v3", "open-axis", "det: ", "Who must act: submitter", "SIZE"):
        assert part in ran.err


def test_a_job_refused_at_once_is_told_without_waiting(double: FarmDouble, farm: Farm, tmp_path: Path) -> None:
    accepts_jobs(double, samples.refused_report())
    reasons = samples.refused_report()["reasons"]
    double.answers["GET /v1/jobs/j-1"] = (200, job_view(state="refused", reasons=reasons))
    submit = ("submit", model_file(tmp_path), "-t", "x86-64-v33")

    shown, machine = farm(*submit), farm(*submit, "--json")

    assert (shown.code, shown.out.strip()) == (2, "j-1")
    assert "did you mean x86-64-v3" in shown.err
    assert (machine.code, machine.json) == (2, {"job": "j-1", "state": "refused", "reasons": reasons})


@pytest.mark.parametrize("arguments", [("missing.onnx", "-t", "x86-64-v3"), (), ("-f", "missing.toml")])
def test_what_is_refused_before_there_is_a_job_is_json_too(
    double: FarmDouble, farm: Farm, arguments: tuple[str, ...]
) -> None:
    ran = farm("submit", *arguments, "--json")

    assert (ran.code, ran.json["state"], ran.json["job"]) == (2, "refused", None)
    (reason,) = ran.json["reasons"]
    assert reason["code"] in ran.err
    assert (reason["who_must_act"], set(reason)) == ("submitter", {"code", "message", "who_must_act", "remedy"})


def test_a_submission_refused_by_the_api_is_json_too(double: FarmDouble, farm: Farm, tmp_path: Path) -> None:
    double.answers["POST /v1/jobs"] = problem(422, "bad-request", "labels: too many.", remedy="Give fewer.")

    ran = farm("submit", model_file(tmp_path), "-t", "x86-64-v3", "--json")

    assert (ran.code, ran.json["state"]) == (2, "refused")
    assert [(r["code"], r["remedy"]) for r in ran.json["reasons"]] == [("bad-request", "Give fewer.")]


def test_problems_of_the_api_show_code_remedy_and_actor(double: FarmDouble, farm: Farm) -> None:
    double.answers["GET /v1/jobs/j-9"] = problem(404, "not-found", "There is no job j-9.", remedy="See `farm jobs`.")

    ran = farm("status", "j-9", "--json")

    assert (ran.code, ran.out) == (2, "")
    assert "[not-found] There is no job j-9." in ran.err
    assert "What to do: See `farm jobs`." in ran.err


def test_a_wrong_token_is_said(double: FarmDouble, farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARM_TOKEN", "other")

    ran = farm("jobs")

    assert ran.code == 2
    assert "[unauthorized]" in ran.err


def test_no_farm_at_all(farm: Farm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FARM_URL", raising=False)
    monkeypatch.delenv("FARM_DATA", raising=False)
    monkeypatch.chdir(tmp_path)

    ran = farm("jobs", "--json")

    assert (ran.code, ran.out) == (3, "")
    assert "farm up" in ran.err


def test_a_farm_that_does_not_listen(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARM_URL", "http://127.0.0.1:9")

    ran = farm("targets")

    assert ran.code == 3
    assert "http://127.0.0.1:9" in ran.err


def test_the_running_stack_is_found_from_a_folder_below(
    double: FarmDouble, farm: Farm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("FARM_URL")
    monkeypatch.delenv("FARM_TOKEN")
    (tmp_path / ".farm").mkdir()
    (tmp_path / ".farm/stack.json").write_text(json.dumps({"api": double.url, "token": TOKEN}))
    (tmp_path / "deep/er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep/er")
    double.answers["GET /v1/targets"] = (200, [target("x86-64-v3", "bench-1")])

    ran = farm("targets")

    assert ran.code == 0
    assert "x86-64-v3" in ran.out


def test_target_auto_is_the_profile_of_this_machine(double: FarmDouble, farm: Farm, tmp_path: Path) -> None:
    accepts_jobs(double, samples.report(samples.result()))
    others = [host("far", "raspberry-pi-5"), host("gone", "coral-usb", live=False)]
    double.answers["GET /v1/hosts"] = (200, [*others, host(platform.node(), "x86-64-v3")])

    farm("submit", model_file(tmp_path), "--target", "auto")

    assert double.requests("POST /v1/jobs")[0]["targets"] == ["x86-64-v3"]


def test_target_auto_without_a_host_here(double: FarmDouble, farm: Farm, tmp_path: Path) -> None:
    double.answers["GET /v1/hosts"] = (200, [host(platform.node(), live=False)])

    ran = farm("submit", model_file(tmp_path), "--target", "auto")

    assert ran.code == 2
    assert "[no-live-host]" in ran.err
    assert not double.requests("PUT /store/")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "No model was given"),
        (("m.onnx",), "No target was given"),
        (("missing.onnx", "-t", "x"), "'missing.onnx' does not exist"),
        (("m.onnx", "-t", "x", "--input", "x:float31[1]"), "float31"),
        (("m.onnx", "-t", "x", "--input", "nonsense"), "NAME:DTYPE[D,D,…]"),
        (("m.onnx", "-t", "x", "--calibration", "no.npz"), "'no.npz' does not exist"),
        (("m.onnx", "-t", "x", "--max-measurement-age", "24 hours"), "'24 hours'"),
        (("m.onnx", "-t", "x", "--label", "team"), "KEY=VALUE"),
        (("m.onnx", "-t", "x", "--threads", "1,two"), "Threads '1,two' are not of the form 1,2,4"),
        (("m.onnx", "-t", "x", "--sustained", "long"), "'long' is not of the form"),
        (("-f", "no.toml", "-t", "x"), "'no.toml' does not exist"),
    ],
)
def test_usage_errors_name_the_value_and_exit_2(
    double: FarmDouble, farm: Farm, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    model_file(tmp_path, "m.onnx")

    ran = farm("submit", *arguments)

    assert ran.code == 2
    assert said in ran.err
    assert not double.requests("POST /v1/jobs")


def test_several_mistakes_are_said_at_once(double: FarmDouble, farm: Farm, tmp_path: Path) -> None:
    ran = farm("submit", "a.onnx", "b.onnx", "-t", "x86-64-v3")

    assert ran.code == 2
    assert "'a.onnx'" in ran.err
    assert "'b.onnx'" in ran.err


def test_input_names_may_hold_colons_and_slashes(double: FarmDouble, farm: Farm, tmp_path: Path) -> None:
    accepts_jobs(double, samples.report(samples.result()))

    farm("submit", model_file(tmp_path), "-t", "x", "--input", "serving/x:0:float32[1, 3,8]")

    assert double.requests("POST /v1/jobs")[0]["models"][0]["inputs"] == ["serving/x:0:float32[1,3,8]"]


def test_unknown_commands_and_options_exit_2(farm: Farm) -> None:
    assert farm("sumbit").code == 2
    assert "submit" in farm("sumbit").err
    assert farm("jobs", "--colour").code == 2


def test_status_json_is_the_report_without_results(double: FarmDouble, farm: Farm) -> None:
    accepts_jobs(double, samples.report(samples.result()))

    ran = farm("status", "j-1", "--json")

    assert "results" not in ran.json
    assert violations(ran.json | {"results": []}) == []
    assert ran.json["progress"]["steps_total"] == 3


def test_hostile_names_reach_the_terminal_as_text(double: FarmDouble, farm: Farm) -> None:
    accepts_jobs(double, samples.full_report())
    double.answers["GET /v1/jobs"] = (200, [job_view(name=samples.HOSTILE)])

    for command in (("report", "j-1"), ("jobs",)):
        ran = farm(*command)
        assert "\x1b" not in ran.out + ran.err
        assert "\u202e" not in ran.out + ran.err
        assert "evil</a>" in ran.out
    assert "\\x1b[31m\\u202e../" in farm("jobs", "--json").out.replace("\\u001b", "\\x1b").replace("\u202e", "\\u202e")


def test_report_html_writes_a_page(double: FarmDouble, farm: Farm, tmp_path: Path) -> None:
    accepts_jobs(double, samples.full_report())

    ran = farm("report", "j-1", "--html", str(tmp_path / "report.html"))

    assert ran.code == 0
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_report_html_into_a_missing_folder(double: FarmDouble, farm: Farm) -> None:
    accepts_jobs(double, samples.full_report())

    ran = farm("report", "j-1", "--html", "no/where/report.html")

    assert ran.code == 2
    assert "no/where/report.html" in ran.err


def test_cancel_and_retry(double: FarmDouble, farm: Farm) -> None:
    accepts_jobs(double, samples.report(samples.result()))
    double.answers["POST /v1/jobs/j-1/cancel"] = (200, job_view(state="cancelled"))
    double.answers["POST /v1/jobs/j-1/retry"] = (201, job_view("j-2", retry_of="j-1"))

    assert "cancelled" in farm("cancel", "j-1").out
    assert farm("retry", "j-1", "--json").json == {"job": "j-2", "retry_of": "j-1"}


def test_logs_show_what_tools_said(double: FarmDouble, capsys: pytest.CaptureFixture[str]) -> None:
    double.answers["GET /v1/jobs/j-1"] = (200, job_view())
    log = double.put(b"\x1b[31mTraceback is allowed here\x1b[0m\nsecond line\n", "log")
    shared = {"step": "s-1", "stage": "onnx-to-tflite", "attempt": 1, "host": "bench-1", "state": "failed"}
    double.answers["GET /v1/jobs/j-1/logs"] = (
        200,
        [{**shared, "url": log["url"]}, {**shared, "step": "s-2", "url": None}],
    )

    code, printed = run(["logs", "j-1", "--step", "s-1"]), capsys.readouterr().out

    assert code == 0
    assert "== onnx-to-tflite (s-1), attempt 1 on bench-1: failed" in printed
    assert "\\x1b[31mTraceback is allowed here\\x1b[0m\nsecond line" in printed
    assert "s-2" not in printed


def test_inspect_prints_facts(double: FarmDouble, farm: Farm, tmp_path: Path) -> None:
    facts = {
        "format": "onnx",
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 1, 8, 8], "scale": None, "zero_point": None}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", 10], "scale": None, "zero_point": None}],
        "operators": {"Conv": 2, "Relu": 2, "Gemm": 1},
        "parameters": 54_000,
        "opset": 20,
    }
    view = {"model": "m-1", "digest": "d", "state": "inspecting", "facts": None, "failure": None}
    double.answers["POST /v1/models"] = (201, view)
    double.answers["GET /v1/models/m-1"] = (200, view | {"state": "inspected", "facts": facts})

    ran = farm("inspect", model_file(tmp_path))

    assert ran.code == 0
    for part in ("onnx", "x:float32[batch,1,8,8]", "54,000", "2 Conv, 2 Relu, 1 Gemm"):
        assert part in ran.out


def test_inspect_for_an_edge_tpu_tells_the_predicted_mapping(double: FarmDouble, farm: Farm, tmp_path: Path) -> None:
    prediction = {
        "predicted": True,
        "operators": [
            {"index": 0, "type": "CONV_2D", "mapped": True, "reason": None},
            {"index": 1, "type": "ARG_MAX", "mapped": False, "reason": "Operation not supported"},
        ],
        "memory": {"cached_bytes": 4096, "remaining_bytes": 4096, "streamed_bytes": 0},
        "refusal": None,
    }
    facts = {"format": "tflite", "inputs": [], "outputs": [], "extra": {"edgetpu": prediction}}
    view = {"model": "m-1", "digest": "d", "state": "inspected", "facts": facts, "failure": None}
    double.answers["POST /v1/models"] = double.answers["GET /v1/models/m-1"] = (200, view)
    coral = target("coral-usb") | {"runtimes": ["edgetpu", "litert"]}
    double.answers["GET /v1/targets/coral-usb"] = (200, coral)
    double.answers["GET /v1/targets/x86-64-v3"] = (200, target("x86-64-v3"))
    double.answers["GET /v1/targets"] = (200, [coral, target("x86-64-v3")])
    model = model_file(tmp_path, "m.tflite")

    with_edge_tpu = farm("inspect", model, "--target", "coral-usb", "--json")
    without = farm("inspect", model, "--target", "x86-64-v3", "--json")
    told = farm("inspect", model, "--target", "coral-usb")

    assert with_edge_tpu.json["edgetpu"] == prediction
    assert "edgetpu" not in without.json
    assert "predicted: 1 of 2 operators mapped" in told.out
    assert "1 ARG_MAX: Operation not supported" in told.out


def test_inspect_of_a_broken_model(double: FarmDouble, farm: Farm, tmp_path: Path) -> None:
    failure = problem(422, "corrupt-model", "digits.onnx ends after 11 bytes.")[1]
    failure = {key: failure[key] for key in ("code", "message", "who_must_act", "retryable")}
    view = {"model": "m-1", "digest": "d", "state": "failed", "facts": None, "failure": failure}
    double.answers["POST /v1/models"] = (201, view)

    ran = farm("inspect", model_file(tmp_path))

    assert ran.code == 2
    assert "[corrupt-model] digits.onnx ends after 11 bytes." in ran.err


def test_lists_print_tables_and_json(double: FarmDouble, farm: Farm) -> None:
    route = {
        "stage": "onnx-to-tflite",
        "kind": "convert",
        "source": "onnx",
        "target": "tflite",
        "recipe": None,
        "environment": "builder",
        "tools": {"onnx2tf": "2.6.9"},
        "available": False,
        "why_not": "Python 3.12 is missing",
        "way_out": "Install it.",
        "hosts": [],
    }
    double.answers["GET /v1/hosts"] = (200, [host("bench-1", emulated=None)])
    double.answers["GET /v1/routes"] = (200, [route])
    double.answers["GET /v1/jobs"] = (200, [])

    assert "bench-1" in farm("hosts").out
    assert "no: Python 3.12 is missing" in farm("routes", "--from", "onnx").out
    assert double.asked[-1][0] == "GET /v1/routes?source=onnx"
    assert farm("routes", "--json").json == [route]
    assert "No such job yet" in farm("jobs").err

    double.answers["GET /v1/routes"] = (200, [])
    nothing = farm("routes", "--from", "executorch").out
    assert nothing.startswith("No stage leads from executorch.")
    assert "`farm routes --all` lists every stage" in nothing


def test_routes_start_with_what_leads_where(double: FarmDouble, farm: Farm) -> None:
    made = {"kind": "convert", "recipe": None, "environment": "builder", "tools": {"onnx": "1.2"}, "hosts": ["box"]}
    other = {"environment": "onnx2tf", "tools": {"onnx2tf": "3"}, "hosts": []}
    missing = {"available": False, "why_not": "No live build host has onnx2tf.", "way_out": "Install it."}
    routes = [
        made | {"stage": "onnx-to-ort", "source": "onnx", "target": "ort", "available": True},
        made | {"stage": "onnx-to-tflite", "source": "onnx", "target": "tflite"} | other | missing,
        made | {"stage": "quantize-onnx", "source": "onnx", "target": "onnx", "available": True},
    ]
    double.answers["GET /v1/routes"] = (200, routes)

    shown = farm("routes").out.splitlines()

    assert shown[0] == "onnx -> ort, tflite"
    assert shown[2:5] == ["Toolchains:", "  builder: onnx 1.2; on box", "  onnx2tf: onnx2tf 3; on no live host"]
    assert shown[6:8] == [
        "Not available now, of 3 stages:",
        "  onnx-to-tflite: No live build host has onnx2tf. Install it.",
    ]
    assert "farm routes --from model.pt2 --to litert" in shown[9]
    assert "quantize-onnx" in farm("routes", "--all").out


def test_jobs_say_how_to_see_more(double: FarmDouble, farm: Farm) -> None:
    double.answers["GET /v1/jobs"] = (200, [job_view(job=f"j-{number}") for number in range(3)])

    cut = farm("jobs", "--limit", "2")

    assert "limit=3" in double.asked[-1][0]
    assert "j-1" in cut.out
    assert "j-2" not in cut.out
    assert "the newest 2. See more: --limit N (at most 500), or --before 20" in cut.err
    assert len(farm("jobs", "--limit", "2", "--json").json) == 2
    assert "See more" not in farm("jobs", "--limit", "3").err


def test_the_version_is_told_without_a_farm(farm: Farm) -> None:
    ran = farm("--version")

    assert (ran.code, ran.out) == (0, f"farm {__version__}\n")
