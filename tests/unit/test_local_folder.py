"""The data folder: what it keeps, what it refuses."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

import pytest

from farm.domain.errors import ConfigurationError, HostFull
from farm.local import folder as folders
from farm.local.accounts import Account
from farm.local.blueprint import Blueprint
from farm.local.folder import LONGEST_SOCKET_FOLDER, Folder, read_json, storage_errors, write_private

STRANGER = Account(uid=54321, gid=54321, name="stranger")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_generated_once_and_readable_by_their_owner_alone(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "data")
    folder.open()

    first = folder.secrets()

    assert folder.secrets() == first
    assert len(set(first.values())) == len(folders.SECRETS)
    assert mode(tmp_path / "data" / "secrets.json") == 0o600


def test_a_secret_that_a_newer_version_needs_is_added_and_the_others_stay(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    write_private(tmp_path / "secrets.json", '{"redis": "known"}')

    assert folder.secrets()["redis"] == "known"
    assert folder.secrets()["flower"]


@pytest.mark.parametrize("found", ["2", "999", "nonsense"])
def test_a_folder_of_a_newer_format_is_refused(tmp_path: Path, found: str) -> None:
    (tmp_path / "format-version").write_text(found)

    with pytest.raises(ConfigurationError, match=f"has format '{found}'"):
        Folder(tmp_path).open()


def test_a_folder_of_our_format_opens_again(tmp_path: Path) -> None:
    Folder(tmp_path).open()
    Folder(tmp_path).open()

    assert (tmp_path / "format-version").read_text() == "1\n"


def test_too_little_space_is_refused_naming_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MIN_FREE_BYTES", 1 << 60)

    with pytest.raises(HostFull, match=str(tmp_path)) as caught:
        Folder(tmp_path).open()

    assert "--data" in (caught.value.remedy or "")


def test_a_disk_that_fills_up_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(HostFull, match="No space is left"), storage_errors(tmp_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")

    with pytest.raises(ConfigurationError, match="cannot be used"):
        Folder(tmp_path / "data").open()


def test_a_damaged_record_names_its_file(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    path.write_text("{")

    with pytest.raises(ConfigurationError, match=r"ports\.json is damaged"):
        read_json(path)


def test_the_address_to_listen_on_is_kept(tmp_path: Path) -> None:
    Folder(tmp_path).open()
    write_private(tmp_path / "listen.json", '{"host": "0.0.0.0", "port": 4711}')

    info = Blueprint(Folder(tmp_path)).publish()

    assert info.api == "http://127.0.0.1:4711"
    assert mode(tmp_path / "stack.json") == 0o600


def test_sockets_lie_in_the_folder_while_their_names_fit(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as data:
        short = Folder(Path(data))
        short.open()

        assert short.socket_folder(os.geteuid()) == Path(data) / "run" / "sockets"


def test_sockets_of_a_long_folder_lie_in_a_short_private_one_that_is_remembered_and_removed(tmp_path: Path) -> None:
    long = Folder(tmp_path / ("x" * LONGEST_SOCKET_FOLDER))
    long.open()

    sockets = long.socket_folder(os.geteuid())

    assert len(str(sockets)) <= LONGEST_SOCKET_FOLDER
    assert mode(sockets) == 0o700
    assert long.socket_folder(os.geteuid()) == sockets
    long.remove_sockets()
    assert not sockets.exists()


def test_an_account_names_the_first_folder_that_it_may_not_enter(tmp_path: Path) -> None:
    private = tmp_path / "private"
    (private / "data").mkdir(parents=True)
    for path in (tmp_path, *tmp_path.parents):
        if path != Path("/") and path.stat().st_uid == os.geteuid() and not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o001)

    private.chmod(0o700)
    assert STRANGER.blocked_at(private / "data") == private

    private.chmod(0o711)
    assert STRANGER.blocked_at(private / "data") is None


def test_an_account_is_not_fooled_by_a_link_into_a_private_folder(tmp_path: Path) -> None:
    private = tmp_path / "private"
    (private / "data").mkdir(parents=True)
    private.chmod(0o700)
    (tmp_path / "link").symlink_to(private / "data")

    assert STRANGER.blocked_at(tmp_path / "link") is not None
