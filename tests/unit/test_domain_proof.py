"""`farm prove`: what is concluded, that a changed report is noticed, and that an emulated host is never proven."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from farm.cli.main import run
from farm.domain.errors import BadData, ConfigurationError
from farm.domain.proof import FORMAT, Proof, compare, conclude
from farm.report.signing import own_key, signed, verified
from hardware_profiles.loader import load_profiles

TABLE = [one.model_dump(mode="json") for one in load_profiles()["raspberry-pi-4"].reference_latencies]
V2 = next(one for one in TABLE if one["model"] == "mobilenet-v2-224-float32")


def measured(**changes: Any) -> dict[str, Any]:
    made = {"model": V2["model"], "runtime": "litert", "threads": 4, "p50_ms": 50.0, "p90_ms": 51.0}
    return made | {"valid": True, "emulated": False, "reasons": []} | changes


def report(*measurements: dict[str, Any], published: list[dict[str, Any]] = TABLE, **host: Any) -> dict[str, Any]:
    named = {"name": "pi", "profile": "raspberry-pi-4", "can_measure": True, "emulated": False}
    body: dict[str, Any] = {
        "format": FORMAT,
        "host": named | host,
        "self_tests": [{"runtime": "litert", "verdict": "passed", "reasons": []}],
        "measurements": list(measurements),
        "published": published,
        "comparisons": compare(published, measurements),
    }
    verdict, reasons = conclude(body)
    return {**body, "verdict": verdict.value, "reasons": reasons}


def test_a_tested_host_near_the_published_figure_is_proven() -> None:
    told = report(measured())

    assert told["verdict"] == Proof.PROVEN
    (compared,) = (one for one in told["comparisons"] if one["model"] == V2["model"])
    assert compared["result"] == "plausible"
    assert compared["ratio"] == pytest.approx(50 / 44, abs=1e-3)


@pytest.mark.parametrize(
    ("change", "result"),
    [
        ({"p50_ms": 440.0}, "implausible"),
        ({"p50_ms": 4.4}, "implausible"),
        ({"threads": 1}, "not measured"),
        ({"runtime": "onnxruntime"}, "not measured"),
        ({"valid": False, "reasons": ["throttled"]}, "invalid measurement"),
        ({"emulated": True, "valid": False}, "emulated"),
    ],
)
def test_a_comparison_says_what_it_is(change: dict[str, Any], result: str) -> None:
    assert compare([V2], [measured(**change)])[0]["result"] == result


def test_every_lack_is_told() -> None:
    told = report(
        measured(p50_ms=440.0), measured(model="reference", valid=False, reasons=["loaded"]), can_measure=False
    )

    assert told["verdict"] == Proof.NOT_PROVEN
    assert len(told["reasons"]) == 3
    assert any("10 times the published 44 ms" in reason for reason in told["reasons"])


def test_a_host_is_not_proven_while_no_published_figure_was_measured() -> None:
    told = report(measured(model="reference"))

    assert told["verdict"] == Proof.NOT_PROVEN
    (reason,) = told["reasons"]
    assert reason.startswith(
        "No published figure of a raspberry-pi-4 was measured (mobilenet-v1-224-float32 under litert"
    )
    assert "farm prove --model mobilenet-v1-224-float32=FILE" in reason
    assert report(measured(model="reference"), published=[])["verdict"] == Proof.PROVEN, "nothing is published"


@pytest.mark.parametrize("emulated", [True, None])
def test_an_emulated_host_is_called_so_whatever_it_measured(emulated: bool | None) -> None:
    told = report(measured(), emulated=emulated)

    assert told["verdict"] == Proof.EMULATED


def write(path: Path, document: object) -> str:
    path.write_text(json.dumps(document))
    return str(path)


def test_a_signed_report_reads_back_with_its_signer(tmp_path: Path) -> None:
    key = own_key(tmp_path / "new" / "key")
    told, signer = verified(json.loads(json.dumps(signed(report(measured()), key))))

    assert told["verdict"] == "proven"
    assert len(signer.split(":")) == 8
    assert (tmp_path / "new" / "key").stat().st_mode & 0o777 == 0o600
    assert verified(signed(told, own_key(tmp_path / "new" / "key")))[1] == signer, "the key is kept"


def test_a_changed_report_and_a_foreign_key_are_noticed(tmp_path: Path) -> None:
    document = signed(report(measured()), own_key(tmp_path / "key"))
    document["report"]["measurements"][0]["p50_ms"] = 5.0
    with pytest.raises(BadData, match="changed since it was signed"):
        verified(document)

    other = signed(report(measured()), own_key(tmp_path / "other"))
    swapped = {**signed(report(), own_key(tmp_path / "key")), "signature": other["signature"]}
    with pytest.raises(BadData, match="changed since it was signed"):
        verified(swapped)


@pytest.mark.parametrize("document", [{}, [], "x", {"report": {}, "signature": {"algorithm": "none"}}])
def test_what_is_no_signed_report_is_refused(document: object) -> None:
    with pytest.raises(BadData):
        verified(document)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("no key")

    with pytest.raises(ConfigurationError, match="can't be used"):
        own_key(tmp_path / "key")


def test_verify_concludes_again_and_refuses_a_verdict_that_the_content_does_not_carry(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = own_key(tmp_path / "key")
    good = write(tmp_path / "good.json", signed(report(measured()), key))
    lying = report(measured(valid=False, reasons=["loaded"])) | {"verdict": "proven", "reasons": []}
    liar = write(tmp_path / "liar.json", signed(lying, key))

    assert run(["prove", "verify", good]) == 0
    assert "The signature holds." in capsys.readouterr().out
    assert run(["prove", "verify", liar]) == 2
    assert "comes to 'not-proven'" in capsys.readouterr().err
    assert run(["prove", "verify", good, "--signer", "0000"]) == 2
    assert run(["prove", "verify", str(tmp_path / "none.json")]) == 2


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"published": [V2 | {"latency_ms": 440.0}]}, "it alone has mobilenet-v2-224-float32 under litert with 4 th"),
        ({"published": [V2]}, "it leaves out mobilenet-v1-224-float32 under litert with 4 threads: 75 ms"),
        ({"published": []}, "it leaves out mobilenet-v1-224-float32"),
        ({"profile": "raspberry-pi-9"}, "profile 'raspberry-pi-9', which this farm does not know"),
    ],
)
def test_verify_compares_with_its_own_table_and_not_with_the_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], told: str
) -> None:
    slow = report(measured(p50_ms=440.0), **changes)
    file = write(tmp_path / "own-table.json", signed(slow, own_key(tmp_path / "key")))

    assert run(["prove", "verify", file]) == 2
    assert told in " ".join(capsys.readouterr().err.split())
