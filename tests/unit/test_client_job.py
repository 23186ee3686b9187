"""The Python client against a scripted farm: waiting across faults, typed results, safe repetition."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from farm.client import Client, Job, Model
from farm.client.address import Address
from farm.client.connection import Connection
from farm.client.events import datas
from farm.domain.errors import BadRequest, FarmUnreachable, NoLiveHost, UnknownName
from farm.wire.jobs import JobView
from tests import report_samples as samples
from tests.farm_double import TOKEN, FarmDouble, event, farm_double, job_view, problem, target


@pytest.fixture
def double() -> Iterator[FarmDouble]:
    with farm_double() as made:
        yield made


@pytest.fixture
def client(double: FarmDouble) -> Iterator[Client]:
    with Client(double.url, TOKEN) as made:
        yield made


def scripted(*answers: httpx.Response | Exception) -> Connection:
    """Make a connection whose requests get these answers in turn, and that never really sleeps."""
    left = iter(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        given = next(left)
        if isinstance(given, Exception):
            raise given
        return given

    address = Address("http://farm.test", TOKEN, "arguments")
    return Connection(address, transport=httpx.MockTransport(answer), sleep=lambda _: None)


def test_results_are_typed(double: FarmDouble, client: Client) -> None:
    double.answers["GET /v1/jobs/j-1"] = (200, job_view(state="partial"))
    double.answers["GET /v1/jobs/j-1/report"] = (200, samples.full_report())

    job = client.job("j-1")
    measured = next(result for result in job.results if result.verdict == "ok")

    assert (job.id, job.state, job.ended) == ("j-1", "partial", True)
    assert measured.execution_summary is not None
    assert measured.execution_summary.p50 == 812.4
    assert measured.is_valid
    assert [result.is_valid for result in job.results if result.verdict == "invalid-measurement"] == [False, False]


def test_arrays_are_uploaded_as_calibration(double: FarmDouble, client: Client, tmp_path: Path) -> None:
    double.answers["POST /v1/jobs"] = (201, job_view())
    (tmp_path / "m.onnx").write_bytes(b"model")
    models: list[Path | Model] = [tmp_path / "m.onnx", Model(tmp_path / "m.onnx", name="again", metric="top1")]

    client.submit(models, ["x86-64-v3"], calibration={"x": np.zeros((4, 2), np.float32)}, max_measurement_age="24h")

    (request,) = double.requests("POST /v1/jobs")
    first, second = request["models"]
    assert first["calibration"]["name"] == "calibration.npz"
    assert double.store[first["calibration"]["sha256"]].startswith(b"PK")
    assert (second["name"], second["metric"]) == ("again", "top1")
    assert request["max_measurement_age_s"] == 86_400


def test_one_target_may_be_a_plain_string(double: FarmDouble, client: Client, tmp_path: Path) -> None:
    double.answers["POST /v1/jobs"] = (201, job_view())
    (tmp_path / "m.onnx").write_bytes(b"model")

    client.submit(str(tmp_path / "m.onnx"), "x86-64-v3")

    assert double.requests("POST /v1/jobs")[0]["targets"] == ["x86-64-v3"]


def test_no_model_and_no_target(client: Client) -> None:
    with pytest.raises(BadRequest, match="No model"):
        client.submit([], ["x"])
    with pytest.raises(BadRequest, match="No target"):
        client.submit(["m.onnx"], [])


def test_an_argument_that_there_is_not_uploads_nothing(double: FarmDouble, client: Client, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"model")
    misspelt: dict[str, Any] = {"recipess": ["float32"]}

    with pytest.raises(TypeError, match="takes no recipess; it takes co_compile, constraints, formats"):
        client.submit([tmp_path / "m.onnx"], "x86-64-v3", **misspelt)

    assert double.store == {}


def test_an_unknown_target_names_the_nearest(double: FarmDouble, client: Client) -> None:
    double.answers["GET /v1/targets"] = (200, [target("raspberry-pi-5"), target("raspberry-pi-4")])

    with pytest.raises(UnknownName) as raised:
        client.target("rasberry-pi-5")

    assert "raspberry-pi-5" in (raised.value.remedy or "")


def test_wait_hears_the_end_from_the_stream(double: FarmDouble, client: Client) -> None:
    views = iter([job_view(), job_view()])
    double.answers["GET /v1/jobs/j-1"] = lambda _: (200, next(views, job_view(state="succeeded")))
    double.streams = [[": keep-alive\n\n", event(1, "step", {}), event(2, "job", {"state": "succeeded"})]]
    heard: list[str] = []
    seen: list[str] = []

    job = client.job("j-1").wait(
        on_event=lambda one: heard.append(one.event), on_view=lambda view: seen.append(view.state)
    )

    assert (job.state, heard) == ("succeeded", ["step", "job"])
    assert seen[-1] == "succeeded"


def test_wait_polls_where_there_is_no_stream(double: FarmDouble, client: Client) -> None:
    client.connection.sleep = lambda _: None
    views = iter([job_view(), job_view(), job_view()])
    double.answers["GET /v1/jobs/j-1"] = lambda _: (200, next(views, job_view(state="failed")))

    assert client.job("j-1").wait().state == "failed"


def test_wait_ends_in_time(double: FarmDouble, client: Client) -> None:
    double.answers["GET /v1/jobs/j-1"] = (200, job_view())
    began = time.monotonic()

    with pytest.raises(TimeoutError, match="j-1 is running"):
        client.job("j-1").wait(timeout=0.2)
    assert time.monotonic() - began < 5


def test_a_farm_that_went_away_is_waited_for() -> None:
    connection = scripted(
        httpx.Response(200, json=[]),
        httpx.ConnectError("refused"),
        httpx.Response(502, text="bad gateway"),
        httpx.Response(200, json={"back": True}),
    )
    connection.get("/v1/jobs")

    assert connection.get("/v1/health") == {"back": True}


def test_a_farm_that_never_answered_is_not_waited_for() -> None:
    connection = scripted(httpx.ConnectError("refused"))

    with pytest.raises(FarmUnreachable, match=r"farm\.test"):
        connection.get("/v1/jobs")


def test_a_farm_that_says_no_is_not_asked_again() -> None:
    status, body = problem(503, "no-live-host", "Nobody serves coral-usb.", who="operator")
    connection = scripted(httpx.Response(200, json=[]), httpx.Response(status, json=body))
    connection.get("/v1/jobs")

    with pytest.raises(NoLiveHost, match="coral-usb"):
        connection.get("/v1/jobs")


def test_patience_has_an_end() -> None:
    connection = scripted(httpx.Response(200, json=[]), *[httpx.ReadError("reset")] * 3)
    connection.get("/v1/jobs")
    connection.patience_s = 0.0

    with pytest.raises(FarmUnreachable, match="reset"):
        connection.get("/v1/jobs")


def test_a_submission_is_repeated_under_the_same_key() -> None:
    keys = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json=[])
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) == 1:
            raise httpx.ReadTimeout("no answer")
        return httpx.Response(201, json={})

    address = Address("http://farm.test", TOKEN, "arguments")
    connection = Connection(address, transport=httpx.MockTransport(answer), sleep=lambda _: None)
    connection.get("/v1/jobs")

    connection.post("/v1/jobs", {}, key="k-1")

    assert keys == ["k-1", "k-1"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["data: a", ""], ["a"]),
        (["event: x", "data: a", "data: b", "", ": comment", "", "data:c", ""], ["a\nb", "c"]),
        (["data: broken off"], []),
    ],
)
def test_event_streams_are_read_as_specified(lines: list[str], said: list[str]) -> None:
    assert list(datas(lines)) == said


def test_a_job_shows_itself_in_a_notebook(double: FarmDouble, client: Client) -> None:
    double.answers["GET /v1/jobs/j-1"] = (200, job_view())
    double.answers["GET /v1/jobs/j-1/report"] = (200, samples.full_report())

    html = client.job("j-1")._repr_html_()

    assert "<table>" in html
    assert "<script>" not in html


def test_a_client_serves_many_threads(double: FarmDouble, client: Client) -> None:
    double.answers["GET /v1/jobs/j-1"] = (200, job_view())
    states: list[str] = []
    threads = [threading.Thread(target=lambda: states.append(client.job("j-1").state)) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert states == ["running"] * 8


def test_a_job_says_what_it_is() -> None:
    view = JobView.model_validate(job_view())

    assert repr(Job(scripted(), view)) == "<Job j-1 running>"
