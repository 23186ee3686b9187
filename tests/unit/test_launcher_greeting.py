"""A worker and its launcher meet: both must be of one version, and of one root."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from farm import __version__
from farm.domain.codec import canonical
from farm.domain.errors import ConfigurationError, IsolationTooWeak
from workers.environments import MARKER
from workers.environments.root import describe
from workers.launcher.messages import MESSAGE_BYTES, Reply
from workers.launcher.outside import Outside
from workers.sandbox import Level


@contextmanager
def launcher(path: Path, reply: Reply) -> Iterator[None]:
    """A stand-in that answers one greeting."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            channel, _ = listener.accept()
            with channel:
                channel.recv(MESSAGE_BYTES)
                channel.send(canonical(reply))

        thread = threading.Thread(target=answer)
        thread.start()
        yield
        thread.join(10)


def installed(folder: Path, digests: Mapping[str, str]) -> Path:
    for name, digest in digests.items():
        (folder / name).mkdir(parents=True)
        (folder / name / MARKER).write_text(f"{digest}\n")
    return folder


def test_a_launcher_of_the_same_root_is_taken(tmp_path: Path) -> None:
    envs = installed(tmp_path / "envs", {"litert": "a" * 64})
    with launcher(tmp_path / "socket", Reply(__version__, {"litert": "a" * 64})):
        assert Outside(tmp_path / "socket", environments_dir=envs).level is Level.OUTSIDE


@pytest.mark.parametrize(
    "reply", [Reply(__version__, {"litert": "b" * 64}), Reply("0.0.1", {"litert": "a" * 64})], ids=["root", "version"]
)
def test_an_image_that_is_not_the_launchers_is_refused_at_the_start(tmp_path: Path, reply: Reply) -> None:
    """Given a worker in an image whose environments, or whose farm, are others; then it does not start."""
    envs = installed(tmp_path / "envs", {"litert": "a" * 64})
    with (
        launcher(tmp_path / "socket", reply),
        pytest.raises(
            IsolationTooWeak, match="runs steps in a root whose environments are not those of this worker"
        ) as told,
    ):
        Outside(tmp_path / "socket", environments_dir=envs)
    assert "unpacked image, that the worker runs in" in (told.value.remedy or "")


def test_without_a_launcher_an_emulated_worker_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(IsolationTooWeak, match="No launcher answers"):
        Outside(tmp_path / "socket", environments_dir=tmp_path)


def test_a_folder_that_is_no_root_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is no root of another architecture") as told:
        describe(tmp_path)
    assert "workers.environments root" in (told.value.remedy or "")
