"""Transfers against SeaweedFS while things break: nothing is lost, nothing unverified counts, nothing starts from zero."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.domain.errors import DigestMismatch, TransferFailed
from farm.store import Store
from farm.transfer import Link, download, fetch_tree, hash_file, open_link, upload

sys.path.insert(0, str(Path(__file__).parents[1]))
from store_servers import Server, seaweedfs
from transfer_parts import StoreTickets, cutting_proxy, item_of, random_file


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as running:
        yield running


@pytest.fixture(scope="module")
def store(server: Server) -> Store:
    made = Store(server.settings())
    made.ping()
    return made


@pytest.fixture
def link() -> Iterator[Link]:
    with open_link(budget_s=10) as opened:
        yield opened


def test_a_small_file_costs_one_declaration_and_one_put(store: Store, tmp_path: Path, link: Link) -> None:
    file = random_file(tmp_path / "small", 1000)
    tickets = StoreTickets(store)
    seen: list[int] = []
    upload(tmp_path / "small", file, tickets, link=link, on_progress=seen.append)
    assert tickets.calls == ["declare"]
    assert seen[-1] == 1000
    assert store.has_blob(file.sha256, 1000)


@pytest.mark.parametrize("size_bytes", [0, 1, 4 << 20, (9 << 20) + 7])
def test_bytes_come_back_as_they_went(store: Store, tmp_path: Path, link: Link, size_bytes: int) -> None:
    file = random_file(tmp_path / "up", size_bytes, seed=size_bytes)
    upload(tmp_path / "up", hash_file(tmp_path / "up"), StoreTickets(store), link=link)
    download(item_of(store, file), tmp_path / "down", link=link)
    assert hash_file(tmp_path / "down").sha256 == file.sha256
    assert sorted(p.name for p in tmp_path.iterdir()) == ["down", "up"]
