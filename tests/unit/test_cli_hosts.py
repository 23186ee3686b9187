"""`farm host …` and `farm hosts` against a scripted farm: the command for the board, and what is shown of hosts."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from farm.api.join import join_script, source_archive
from farm.cli.container import container_commands
from farm.wire.hosts import Enrolment
from hardware_profiles.loader import load_profiles
from tests.farm_double import CREATED, FarmDouble, host, problem
from tests.unit.test_cli_commands import Farm, double, farm

__all__ = ["double", "farm"]
ROOT = Path(__file__).parents[2]


def enrolment(**changes: Any) -> dict[str, Any]:
    made = {"name": "pi-1", "profile": "raspberry-pi-5", "project": "default", "token": "t0ken", "redis_url": None}
    return made | {"environments": ["litert", "onnxruntime"]} | changes


def self_test(verdict: str, **changes: Any) -> dict[str, Any]:
    figures = {"p50_us": 15_100.0, "noise_floor_ratio": 0.043, "sqnr_db": 200.0, "emulated": False}
    made = {"runtime": "onnxruntime", "asked": CREATED, "asked_by": "operator", "job": "j-1", "ended": CREATED}
    return made | {"verdict": verdict, "reasons": [], "figures": figures} | changes


def test_enroll_prints_one_command_with_the_token_out_of_sight_of_ps(double: FarmDouble, farm: Farm) -> None:
    double.answers["POST /v1/hosts/enrolments"] = (201, enrolment(redis_url="redis://w:x@farm.lan:6379/0"))

    ran = farm("host", "enroll", "pi-1", "--profile", "raspberry-pi-5", "--url", "http://farm.lan:8765")

    assert ran.code == 0
    (command,) = ran.out.splitlines()
    assert command.endswith("curl -fsS -K - http://farm.lan:8765/v1/hosts/join.sh | sh")
    assert "t0ken" not in command.partition("curl")[2], "curl's arguments are anybody's to read"
    assert subprocess.run(["sh", "-n", "-c", command], check=False).returncode == 0


def test_a_name_that_no_host_may_have_is_the_callers_fault_in_the_farms_words(double: FarmDouble, farm: Farm) -> None:
    double.answers["POST /v1/hosts/enrolments"] = problem(422, "bad-request", "name: String should …, not 'pi 1'.")

    ran = farm("host", "enroll", "pi 1", "--profile", "raspberry-pi-5")

    assert ran.code == 2
    assert "not 'pi 1'" in ran.err


def test_enroll_warns_of_addresses_that_no_board_reaches(double: FarmDouble, farm: Farm) -> None:
    double.answers["POST /v1/hosts/enrolments"] = (201, enrolment())

    ran = farm("host", "enroll", "pi-1")

    assert "this machine's own address: a board needs another one" in ran.err
    assert "set FARM_WORKER_REDIS_URL for the API" in ran.err
    double.answers["POST /v1/hosts/enrolments"] = (201, enrolment(redis_url="redis://w:x@127.0.0.1:1/0"))
    assert "broker listens on loopback" in farm("host", "enroll", "pi-1", "--url", "http://farm.lan:1").err


def commands_of(double: FarmDouble, farm: Farm, profile: str) -> list[str]:
    double.answers["POST /v1/hosts/enrolments"] = (201, enrolment(profile=profile))
    ran = farm("host", "enroll", "pi-1", "--profile", profile, "--container", "--url", "http://farm.lan:8765")
    assert ran.code == 0, ran.err
    for command in ran.out.splitlines():
        assert subprocess.run(["sh", "-n", "-c", command], check=False).returncode == 0
    return ran.out.splitlines()


def test_the_images_command_shares_the_machines_lock_and_keeps_the_token_out_of_its_arguments(
    double: FarmDouble, farm: Farm
) -> None:
    (command,) = commands_of(double, farm, "raspberry-pi-5")

    export, _, docker = command.partition("; ")
    assert export == "export FARM_TOKEN=t0ken"
    assert docker.startswith("docker run -d --restart=on-failure:5 ")
    assert "t0ken" not in docker
    assert " -e FARM_TOKEN " in docker
    assert " -v /run/lock:/run/lock " in docker
    assert docker.endswith(" farm-worker-arm64 farm worker --profile raspberry-pi-5")


def test_every_profiles_command_runs_an_image_that_is_built() -> None:
    files = {f"farm-{path.stem}" for path in (ROOT / "docker").glob("worker-*.Dockerfile")}

    for name, profile in load_profiles().items():
        asked = Enrolment.model_validate(enrolment(profile=name))
        for image, command in container_commands(asked, "http://farm.lan:8765").items():
            assert command.endswith(f" {image} farm worker --profile {name}")
            assert image in files
            assert (image == "farm-worker-edgetpu") == ("edgetpu" in profile.runtimes)


def test_an_edge_tpu_comes_with_its_device_and_its_library(double: FarmDouble, farm: Farm) -> None:
    (usb,) = commands_of(double, farm, "coral-usb")
    (card,) = commands_of(double, farm, "coral-m2")

    for command in (usb, card):
        assert " -v /usr/lib/$(uname -m)-linux-gnu/libedgetpu.so.1:/usr/lib/libedgetpu.so.1:ro " in command
    assert " -v /dev/bus/usb:/dev/bus/usb --device-cgroup-rule='c 189:* rwm' " in usb
    assert " --device /dev/apex_0 " in card
    assert "apex" not in usb


def test_a_host_of_any_profile_is_given_a_command_for_each_processor(double: FarmDouble, farm: Farm) -> None:
    first, second = commands_of(double, farm, "auto")
    double.answers["POST /v1/hosts/enrolments"] = (201, enrolment(profile="auto"))
    ran = farm("host", "enroll", "pi-1", "--container", "--json")

    assert first.endswith(" farm-worker-x86 farm worker --profile auto")
    assert second.endswith(" farm-worker-arm64 farm worker --profile auto")
    assert ran.json["command"] is None, "nobody told which one it is"
    assert list(ran.json["commands"]) == ["farm-worker-x86", "farm-worker-arm64"]


def test_a_self_test_is_awaited_and_a_failed_one_exits_with_1(double: FarmDouble, farm: Farm) -> None:
    double.answers["POST /v1/hosts/pi-1/self-tests"] = (201, [self_test("running", figures={})])
    double.answers["GET /v1/hosts/pi-1/self-tests"] = (200, [self_test("passed")])
    passed = farm("host", "selftest", "pi-1")
    double.answers["GET /v1/hosts/pi-1/self-tests"] = (200, [self_test("failed", reasons=["It drifts."])])
    failed = farm("host", "selftest", "pi-1")

    assert (passed.code, failed.code) == (0, 1)
    assert "15100 µs" in passed.out
    assert "4.3%" in passed.out
    assert "It drifts." in failed.out


def test_an_emulated_self_test_shows_no_time(double: FarmDouble, farm: Farm) -> None:
    figures = {"p50_us": 9e6, "noise_floor_ratio": 0.9, "emulated": True}
    double.answers["GET /v1/hosts/pi-1/self-tests"] = (200, [self_test("passed", figures=figures)])

    shown = farm("host", "selftest", "pi-1", "--history").out

    assert "emulated" in shown
    assert "µs" not in shown
    assert "90" not in shown


def test_hosts_show_why_one_is_out_and_when_a_step_would_start(double: FarmDouble, farm: Farm) -> None:
    out = {"state": "quarantined", "reason": "Its fan died.", "queue_length": 0}
    fit = {"predicted_start_s": 41.6, "noise_floor_ratio": 0.043, "queue_length": 3}
    double.answers["GET /v1/hosts"] = (200, [host("pi-1", **out), host("pi-2", **fit)])

    first, second = (line for line in farm("hosts").out.splitlines() if "pi-" in line)

    assert "quarantined" in first
    assert "Its fan died." in first
    assert "in 42 s" in second
    assert "4.3%" in second


@pytest.mark.parametrize("command", ["release", "revoke"])
def test_a_host_that_never_joined_is_told(double: FarmDouble, farm: Farm, command: str) -> None:
    ran = farm("host", command, "nobody")

    assert ran.code == 2
    assert any(path == f"POST /v1/hosts/nobody/{command}" for path, *_ in double.asked)


def test_the_join_script_is_sound_and_quotes_what_it_is_given(tmp_path: Path) -> None:
    script = join_script("http://farm.lan:8765", "pi; rm -rf /", ["litert", "onnxruntime"])
    (tmp_path / "join.sh").write_text(script)

    assert subprocess.run(["sh", "-n", tmp_path / "join.sh"], check=False).returncode == 0
    assert "host='pi; rm -rf /'" in script
    without_token = subprocess.run(["sh", tmp_path / "join.sh"], capture_output=True, text=True, env={"PATH": "/bin"})
    assert without_token.returncode == 1
    assert "FARM_TOKEN is not set" in without_token.stderr


def test_the_source_that_boards_get_holds_what_a_worker_runs_from(tmp_path: Path) -> None:
    (tmp_path / "source.tar.gz").write_bytes(source_archive())
    listed = subprocess.run(
        ["tar", "-tzf", tmp_path / "source.tar.gz"], capture_output=True, text=True, check=True
    ).stdout.splitlines()

    assert {"pyproject.toml", "workers/app.py", "workers/environments/worker.lock", "hardware_profiles/schema.py"} <= {
        *listed
    }
    assert not [name for name in listed if "__pycache__" in name or name.startswith(("tests", ".git"))]
