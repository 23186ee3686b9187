"""An aarch64 host, emulated, with an address of its own: it joins a farm and does every step of a TFLite job."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from farm.report.schema import violations
from tests.emulated_fixtures import REPOSITORY, SERVICES, Elsewhere, farm_elsewhere, root_of

pytestmark = [pytest.mark.root, pytest.mark.timeout(400), pytest.mark.slow]
MODEL = REPOSITORY / "tests" / "edgetpu_pairs" / "bright_16x16.tflite"


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    """A farm without a host on its own machine, so that the emulated one does everything."""
    root = root_of("aarch64")
    with farm_elsewhere(*SERVICES) as farm, farm.host(root, "emulated-aarch64"):
        yield farm


@pytest.fixture(scope="module")
def report(elsewhere: Elsewhere) -> dict[str, Any]:
    return elsewhere.submit(str(MODEL), "--target", "emulated-aarch64", "--runtime", "litert")


def test_an_emulated_host_inspects_and_compares(report: dict[str, Any]) -> None:
    assert report["state"] == "succeeded", report
    assert violations(report) == []
    (result,) = report["results"]
    assert {"inspect-tflite", "compare-litert"} <= {step["stage"] for step in result["steps"]}
    assert {step["isolation"] for step in result["steps"]} == {"outside"}
    assert result["numerics"]["sqnr_db"] >= 60
    assert result["artifact"]["files"][0]["size_bytes"] == MODEL.stat().st_size < 100_000


def test_an_emulated_time_is_never_a_valid_measurement(report: dict[str, Any]) -> None:
    (result,) = report["results"]
    assert len(result["execution_summary"]["all_inference_times"]) >= 3
    assert result["conditions"]["emulated"] is True
    assert result["conditions"]["valid"] is False
    assert "emulated" in result["conditions"]["reasons"]
    assert result["verdict"] == "invalid-measurement"


def test_an_emulated_host_says_what_it_is(elsewhere: Elsewhere) -> None:
    (host,) = elsewhere.hosts()

    assert (host["architecture"], host["emulated"], host["isolation"]) == ("aarch64", True, "outside")
    assert "target.emulated-aarch64" in host["serves"]


def test_neither_machine_reaches_anything_but_the_other(elsewhere: Elsewhere) -> None:
    for machine in (elsewhere.farm, elsewhere.beside):
        assert machine.route_to("198.51.100.1") is None
    assert elsewhere.beside.route_to(elsewhere.farm.address) == "cable"
