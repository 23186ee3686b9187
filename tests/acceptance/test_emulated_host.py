"""An aarch64 host, emulated, with an address of its own: it joins a farm and does every step of a TFLite job."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farm.report.schema import violations
from tests.emulated_fixtures import REPOSITORY, SERVICES, Elsewhere, farm_elsewhere, root_of

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]
MODEL = REPOSITORY / "tests" / "edgetpu_pairs" / "bright_16x16.tflite"
ASKED = (str(MODEL), "--target", "emulated-aarch64", "--runtime", "litert")
COMPARED_WITHIN_S = 400.0
ENDED = ("succeeded", "partial", "failed", "refused", "cancelled")


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    """A farm without a host on its own machine, so that the emulated one does everything."""
    with ThreadPoolExecutor(1) as pool:
        root = pool.submit(root_of, "aarch64")
        with farm_elsewhere(*SERVICES) as farm, farm.host(root.result(), "emulated-aarch64"):
            yield farm


@pytest.fixture(scope="module")
def steps(elsewhere: Elsewhere) -> Iterator[dict[str, Any]]:
    """Give the steps of a job, by stage, as soon as the artifact was compared on its target; its times don't count."""
    job = json.loads(elsewhere.command("submit", *ASKED, "--json").stdout)["job"]
    deadline = time.monotonic() + COMPARED_WITHIN_S
    while True:
        report = json.loads(elsewhere.command("report", job, "--json").stdout)
        found = {step["stage"]: step for result in report["results"] for step in result["steps"]}
        if found.get("compare-litert", {}).get("state") == "succeeded":
            break
        assert report["state"] not in ENDED, report
        assert time.monotonic() < deadline, report
        time.sleep(2)
    yield found
    elsewhere.command("cancel", job)


@pytest.fixture(scope="module")
def report(elsewhere: Elsewhere) -> dict[str, Any]:
    data = elsewhere.folder / "spots.npz"
    spots(data)
    return elsewhere.submit(*ASKED, "--evaluation", str(data), "--metric", "top1")


def spots(path: Path) -> None:
    """Write pictures with one bright spot: the model gives its (x, y), and the label says which of them is larger."""
    places = [(row, column) for row in range(1, 16, 2) for column in range(1, 16, 2) if abs(row - column) > 7]
    pictures = np.full((len(places), 16, 16, 1), 10, np.uint8)
    for number, place in enumerate(places):
        pictures[(number, *place)] = 255
    labels = np.array([int(row > column) for row, column in places])
    np.savez(path, **{"serving_default_keras_tensor:0": pictures, "labels": labels})


def test_an_emulated_host_inspects_and_compares(steps: dict[str, Any]) -> None:
    done = {stage for stage, step in steps.items() if step["state"] == "succeeded"}

    assert {"inspect-tflite", "reference-tflite", "compare-litert"} <= done
    assert {steps[stage]["isolation"] for stage in done} == {"outside"}
    assert MODEL.stat().st_size < 100_000


def test_an_emulated_host_says_what_it_is(elsewhere: Elsewhere) -> None:
    (host,) = elsewhere.hosts()

    assert (host["architecture"], host["emulated"], host["isolation"]) == ("aarch64", True, "outside")
    assert "target.emulated-aarch64" in host["serves"]


def test_it_joined_by_a_token_of_its_own(elsewhere: Elsewhere) -> None:
    """Given the farm's bootstrap token, which no host of these tests has; then it is known by its enrolment."""
    (host,) = elsewhere.hosts()

    assert host["name"] == "emulated-0"
    assert elsewhere.enroll("another", "emulated-aarch64") != elsewhere.info["host_token"]


def test_neither_machine_reaches_anything_but_the_other(elsewhere: Elsewhere) -> None:
    for machine in (elsewhere.farm, elsewhere.beside):
        assert machine.route_to("198.51.100.1") is None
    assert elsewhere.beside.route_to(elsewhere.farm.address) == "cable"


@pytest.mark.slow
def test_a_whole_job_ends_with_its_numerics(report: dict[str, Any]) -> None:
    assert report["state"] == "succeeded", report
    assert violations(report) == []
    (result,) = report["results"]
    assert result["numerics"]["sqnr_db"] >= 60
    assert result["artifact"]["files"][0]["size_bytes"] == MODEL.stat().st_size


@pytest.mark.slow
def test_an_emulated_host_measures_accuracy_on_labelled_data(report: dict[str, Any]) -> None:
    (result,) = report["results"]
    assert (result["accuracy"]["metric"], result["accuracy"]["samples"]) == ("top1", 20)
    assert result["accuracy"]["value"] == result["accuracy"]["float_value"] == 1.0


@pytest.mark.slow
def test_an_emulated_time_is_never_a_valid_measurement(report: dict[str, Any]) -> None:
    (result,) = report["results"]
    assert len(result["execution_summary"]["all_inference_times"]) >= 3
    assert result["conditions"]["emulated"] is True
    assert result["conditions"]["valid"] is False
    assert "emulated" in result["conditions"]["reasons"]
    assert result["verdict"] == "invalid-measurement"
