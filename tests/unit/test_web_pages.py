"""The pages: who may see them, what they say, what they never do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from farm.web.session import local_path
from tests import report_samples as samples
from tests.farm_double import TOKEN
from tests.web_double import ViewsDouble, app_of, filled

PAGES = ("/", "/hosts", "/submit", "/jobs/j-run", "/jobs/j-done", "/jobs/j-refused", "/jobs/j-done/live")
SAME_SITE = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def views() -> ViewsDouble:
    return filled()


@pytest.fixture
def stranger(views: ViewsDouble) -> Iterator[TestClient]:
    with TestClient(app_of(views), follow_redirects=False) as client:
        yield client


@pytest.fixture
def user(stranger: TestClient) -> TestClient:
    answer = stranger.post("/login", content=f"token={TOKEN}&next=/hosts", headers=SAME_SITE)
    assert (answer.status_code, answer.headers["location"]) == (303, "/hosts")
    return stranger


@pytest.mark.parametrize("path", [page for page in PAGES if not page.endswith("/live")])
def test_strangers_are_led_to_the_sign_in(stranger: TestClient, path: str) -> None:
    answer = stranger.get(path)

    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login?next=/")


def test_parts_of_pages_say_401(stranger: TestClient) -> None:
    assert stranger.get("/jobs/j-run/live").status_code == 401
    assert stranger.get("/jobs/j-run/events").status_code == 401


def test_the_cookie_is_out_of_reach(stranger: TestClient) -> None:
    cookie = stranger.post("/login", content=f"token={TOKEN}").headers["set-cookie"].lower()

    assert "httponly" in cookie
    assert "samesite=strict" in cookie


def test_a_wrong_token_is_said_and_sets_nothing(stranger: TestClient) -> None:
    answer = stranger.post("/login", content="token=guess")

    assert answer.status_code == 401
    assert "does not know that token" in answer.text
    assert "set-cookie" not in answer.headers


def test_signing_out_ends_it(user: TestClient) -> None:
    user.post("/logout", headers=SAME_SITE)

    assert user.get("/").status_code == 303


@pytest.mark.parametrize(
    "foreign", ["https://evil.test", "//evil.test", "/\\evil.test", "javascript:alert(1)", "", None]
)
def test_signing_in_leads_nowhere_else(foreign: str | None) -> None:
    assert local_path(foreign) == "/"
    assert local_path("/jobs/j-1") == "/jobs/j-1"


@pytest.mark.parametrize("path", PAGES)
def test_every_page_runs_only_our_own_script(user: TestClient, path: str) -> None:
    answer = user.get(path)

    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert " style=" not in answer.text
    assert "<style" not in answer.text
    assert answer.text.count("<script") == answer.text.count('<script src="/assets/farm.js"')


@pytest.mark.parametrize("path", ["/", "/jobs/j-evil"])
def test_hostile_names_are_text(user: TestClient, path: str) -> None:
    html = user.get(path).text

    assert "<script>alert" not in html
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_the_list_shows_jobs_and_their_verdicts(user: TestClient) -> None:
    html = user.get("/").text

    for part in ("nightly", "/jobs/j-done", "2 ok", "1 failed", "team=vision", "7/18"):
        assert part in html


def test_a_running_job_shows_its_steps_and_can_be_cancelled(user: TestClient, views: ViewsDouble) -> None:
    html = user.get("/jobs/j-run").text
    assert "onnx-to-tflite of digits" in html
    assert 'data-live="/jobs/j-run"' in html

    answer = user.post("/jobs/j-run/cancel", headers=SAME_SITE)

    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs/j-run")
    assert views.cancelled == ["j-run"]


def test_an_ended_job_can_be_submitted_again(user: TestClient) -> None:
    assert "data-live" not in user.get("/jobs/j-done").text

    assert user.post("/jobs/j-done/retry", headers=SAME_SITE).headers["location"] == "/jobs/j-again"


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.test"}])
def test_forms_of_other_sites_do_nothing(user: TestClient, views: ViewsDouble, headers: dict[str, str]) -> None:
    answer = user.post("/jobs/j-run/cancel", headers=headers)

    assert answer.status_code == 400
    assert "another site" in answer.text
    assert views.cancelled == []


def test_a_long_form_is_refused(stranger: TestClient) -> None:
    answer = stranger.post("/login", content="token=" + "x" * 20_000)

    assert answer.status_code == 400


def test_a_missing_job_is_a_page_that_says_so(user: TestClient) -> None:
    answer = user.get("/jobs/j-none")

    assert answer.status_code == 404
    assert "There is no job" in answer.text
    assert "See the list of jobs" in answer.text


def test_the_event_stream_ends_with_the_job(user: TestClient, views: ViewsDouble) -> None:
    views.views["j-run"]["state"] = "succeeded"

    answer = user.get("/jobs/j-run/events")

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("event: end\ndata: {}\n\n")


def test_reports_are_handed_out(user: TestClient) -> None:
    assert user.get("/jobs/j-done/report.json").json()["schema_version"] == "1"
    page = user.get("/jobs/j-done/report.html")
    assert page.headers["content-disposition"] == 'attachment; filename="report-j-done.html"'


def test_hosts_say_what_they_are(user: TestClient) -> None:
    html = user.get("/hosts").text

    for part in ("bench-1", "emulated", "away", "raspberry-pi-5", "none"):
        assert part in html


def test_assets_are_ours_alone(stranger: TestClient) -> None:
    assert stranger.get("/assets/farm.css").headers["content-type"].startswith("text/css")
    assert stranger.get("/assets/farm.js").headers["content-type"].startswith("text/javascript")
    assert stranger.get("/assets/..%2Frouter.py").status_code == 404
    assert stranger.get("/assets/none").status_code == 404


def test_figures_that_do_not_count_are_struck(user: TestClient, views: ViewsDouble) -> None:
    views.add("j-invalid", "succeeded", samples.report(samples.invalid_result()))

    html = user.get("/jobs/j-invalid").text

    assert '<s aria-label="not valid">0.533 / 0.990</s>' in html
