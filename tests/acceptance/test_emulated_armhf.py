"""A 32-bit ARM host, emulated: it joins a farm and runs the same file under the runtime that it has."""

from __future__ import annotations

import pytest

from farm.report.schema import violations
from tests.emulated_fixtures import REPOSITORY, SERVICES, farm_elsewhere, root_of

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(1800)]
MODEL = REPOSITORY / "tests" / "edgetpu_pairs" / "bright_16x16.tflite"


def test_a_32_bit_host_compares_under_its_own_runtime() -> None:
    """Given a farm with a build host, which inspects; then the 32-bit host computes what the source does."""
    root = root_of("armv7l")
    with farm_elsewhere(*SERVICES, "worker") as farm, farm.host(root, "emulated-armhf"):
        (host,) = [host for host in farm.hosts() if host["profile"] == "emulated-armhf"]
        report = farm.submit(str(MODEL), "--target", "emulated-armhf", "--runtime", "tflite-runtime")

    assert (host["architecture"], host["emulated"], host["isolation"]) == ("armv7l", True, "outside")
    assert violations(report) == []
    (result,) = report["results"]
    assert report["state"] == "succeeded", (
        result["failure_type"],
        result["message"],
        [(s["stage"], s["state"]) for s in result["steps"]],
    )
    assert "compare-tflite-runtime" in {step["stage"] for step in result["steps"]}
    assert result["numerics"]["sqnr_db"] >= 60
    assert result["conditions"]["valid"] is False
    assert result["verdict"] == "invalid-measurement"
