"""A second S3 implementation, rclone's: what it can do works, and what it does not enforce is found out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.domain.errors import ConfigurationError, NotFound
from farm.store import Store
from farm.transfer import download, hash_file, upload

sys.path.insert(0, str(Path(__file__).parents[1]))
from store_servers import Server, rclone
from transfer_parts import StoreTickets, cutting_proxy, item_of, random_file

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with rclone(tmp_path_factory.mktemp("rclone")) as running:
        yield running


@pytest.fixture
def store(server: Server) -> Store:
    return Store(server.settings())


def test_a_server_that_enforces_nothing_is_refused_with_every_reason(store: Store) -> None:
    with pytest.raises(ConfigurationError, match=r"checksum-sha256 is wrong and replaces an object"):
        store.prove()


@pytest.mark.parametrize("size_bytes", [0, 1000, 6 << 20])
def test_files_go_and_come(store: Store, tmp_path: Path, size_bytes: int) -> None:
    file = random_file(tmp_path / "up", size_bytes, seed=size_bytes)
    upload(tmp_path / "up", file, StoreTickets(store))
    download(item_of(store, file), tmp_path / "down")
    assert hash_file(tmp_path / "down").sha256 == file.sha256


def test_a_cut_download_resumes(server: Server, tmp_path: Path) -> None:
    file = random_file(tmp_path / "up", 12 << 20, seed=1)
    with cutting_proxy(server.port, cuts_down=[7 << 20]) as proxy:
        store = Store(server.settings(s3_public_endpoint=f"http://127.0.0.1:{proxy.port}"))
        store.put_blob((tmp_path / "up").read_bytes())
        download(item_of(store, file), tmp_path / "down")
        assert proxy.connections == 2
    assert hash_file(tmp_path / "down").sha256 == file.sha256


def test_blobs_are_published_and_listed(store: Store) -> None:
    file = store.put_blob(b"model")
    store.publish(file, "jobs/j/m/model.onnx")
    store.put_document("jobs/j/m/report.json", b"{}", "application/json")
    assert [found.key for found in store.list_prefix("jobs/j/")] == ["jobs/j/m/model.onnx", "jobs/j/m/report.json"]
    with pytest.raises(NotFound):
        store.get_bytes("ab" * 32, 10)
