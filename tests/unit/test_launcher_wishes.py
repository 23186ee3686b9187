"""What a worker asks of its launcher leads to nothing of the machine but what it shares, whatever links it makes."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from farm.domain.codec import canonical
from workers.environments import MARKER
from workers.environments.root import DESCRIPTION, Description
from workers.launcher import outside
from workers.launcher.launch import serving
from workers.launcher.messages import MESSAGE_BYTES, Wish
from workers.launcher.server import Launcher
from workers.sandbox import slots
from workers.sandbox.plain import open_plain
from workers.sandbox.values import Call, Limits

ENVIRONMENT = "/opt/farm/envs/litert"
LIMITS = Limits(wall_s=1, memory_bytes=1 << 20, disk_bytes=1 << 20, file_bytes=1 << 20)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    (tmp_path / "shared" / "work").mkdir(parents=True)
    return tmp_path / "shared"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / ENVIRONMENT[1:] / "bin").mkdir(parents=True)
    (root / ENVIRONMENT[1:] / "bin" / "python3").touch()
    for folder in ("sys", "proc", "var", "run"):
        (root / folder).mkdir()
    (root / "var" / "run").symlink_to("/run")
    described = Description("aarch64", "cortex-a72", "/usr/libexec/farm/qemu", "/opt/farm/envs", "0" * 64)
    (root / DESCRIPTION).write_text(json.dumps(asdict(described)))
    return root


@pytest.fixture
def launcher(tmp_path: Path, root: Path, shared: Path) -> Iterator[Path]:
    """A launcher of a root that holds no more than its names; nothing here comes to run."""
    (tmp_path / "private").mkdir()
    running = Launcher(root, cpu=None, shared=(shared,), folder=tmp_path / "private")
    with serving(running, tmp_path / "socket", uid=os.getuid()):
        yield tmp_path / "socket"
    running.close()


def told(path: Path, wish: Wish) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
        channel.settimeout(20)
        channel.connect(str(path))
        channel.send(canonical(wish))
        ending = json.loads(channel.recv(MESSAGE_BYTES))["ending"]
    assert ending["end"] == "setup"
    return str(ending["detail"])


def test_it_greets_with_the_environments_of_steps(launcher: Path, root: Path) -> None:
    """Given an image, whose worker has an environment elsewhere; then only those that steps run in are compared."""
    for name in ("worker", "litert"):
        (root / "opt/farm/envs" / name).mkdir(exist_ok=True)
        (root / "opt/farm/envs" / name / MARKER).write_text("a" * 64)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
        channel.settimeout(20)
        channel.connect(str(launcher))
        channel.send(canonical(Wish()))
        told = json.loads(channel.recv(MESSAGE_BYTES))

    assert (told["environments"], told["ending"]) == ({"litert": "a" * 64}, None)


def wish(shared: Path) -> Wish:
    return Wish(entry="m:f", environment=ENVIRONMENT, work=str(shared / "work"), limits=LIMITS)


@pytest.mark.parametrize(
    "path",
    [
        "/sys/../etc/shadow",
        "/proc/../root",
        "../etc",
        "//etc",
        "/usr//lib",
        "/opt/farm/./envs",
        "/sys/../opt/farm/envs/litert",
    ],
)
@pytest.mark.parametrize("field", ["readable", "environment", "work", "devices"])
def test_a_path_that_names_something_else_is_refused(launcher: Path, shared: Path, path: str, field: str) -> None:
    value = path if field in ("environment", "work") else (path,)
    assert "a path is absolute, without `..`" in told(launcher, replace(wish(shared), **{field: value}))


@pytest.mark.parametrize("path", ["/proc/1/environ", "/proc", "/dev/mem", "/var/run", "/etc/shadow"])
def test_what_is_the_machines_is_not_readable(launcher: Path, shared: Path, path: str) -> None:
    assert "neither shared with the launcher nor in its root" in told(launcher, replace(wish(shared), readable=(path,)))


def test_a_link_out_of_a_shared_folder_is_not_readable(launcher: Path, shared: Path) -> None:
    (shared / "link").symlink_to("/etc/passwd")
    asked = replace(wish(shared), readable=(str(shared / "link"),))
    assert "neither shared" in told(launcher, asked)


def test_an_environment_that_leads_out_of_the_root_is_none(launcher: Path, root: Path, shared: Path) -> None:
    (root / "opt" / "farm" / "envs" / "away").symlink_to(root.parent)
    assert "has no environment" in told(launcher, replace(wish(shared), environment="/opt/farm/envs/away"))


def test_no_link_is_followed_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "real" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")

    os.close(open_plain(str(tmp_path / "real" / "inner"), os.O_RDONLY | os.O_DIRECTORY))
    for path in (tmp_path / "link", tmp_path / "link" / "inner"):
        with pytest.raises(OSError, match=str(path)):
            open_plain(str(path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.root
def test_a_folder_is_given_back_by_what_was_opened_not_by_its_name(tmp_path: Path) -> None:
    """Given a worker that swaps its work folder for a link during a run; then what the link leads to stays root's."""
    work, other = tmp_path / "work", tmp_path / "other"
    (work / "inner").mkdir(parents=True)
    (work / "inner" / "file").touch()
    other.mkdir()
    opened = open_plain(str(work), os.O_RDONLY | os.O_DIRECTORY)
    work.rename(tmp_path / "moved")
    work.symlink_to(other)

    slots.give(opened, 70000)
    os.close(opened)

    assert (tmp_path / "moved" / "inner" / "file").stat().st_uid == 70000
    assert other.stat().st_uid == 0
    with pytest.raises(OSError, match="work"):
        slots.hand_over(work, 70000)
    assert other.stat().st_uid == 0


def test_a_launcher_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a launcher that was stopped after its greeting; then the run ends as the host's failure."""
    monkeypatch.setattr(outside, "_SLOT_WAIT_S", 0.0)
    monkeypatch.setattr(outside, "_SILENCE_S", 0.1)
    monkeypatch.setattr(outside.Outside, "_greet", lambda *_: None)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").touch()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        ending = outside.Outside(tmp_path / "socket", environments_dir=tmp_path).run(
            Call(tmp_path, "m:f", tmp_path, (), replace(LIMITS, wall_s=0.1))
        )
    assert (ending.end, ending.detail) == ("setup", f"the launcher at {tmp_path}/socket is gone: it does not answer")


def test_a_listener_that_fails_once_goes_on_until_it_is_shut_down() -> None:
    """Given a process that has no descriptor left for a moment; then the next worker is answered all the same."""
    ours, theirs = socket.socketpair()
    answered: list[socket.socket] = []
    told = iter((OSError(errno.EMFILE, "Too many open files"), ours, OSError(errno.EINVAL, "Invalid argument")))

    def accept() -> tuple[socket.socket, str]:
        one = next(told)
        if isinstance(one, OSError):
            raise one
        return one, ""

    with ours, theirs:
        answering = SimpleNamespace(_answer=answered.append)
        Launcher.serve(answering, SimpleNamespace(accept=accept))  # type: ignore[arg-type]
        assert answered == [ours]
