"""A host's input cache on a real store: one fetch per content, leases, eviction, crashes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from farm.domain.errors import BadRequest, UnsafeModel
from farm.store import Store
from farm.transfer import Link, open_link
from farm.wire.transfers import Download
from workers.cache import Cache

sys.path.insert(0, str(Path(__file__).parents[1]))
from store_servers import Server, seaweedfs
from transfer_parts import CuttingProxy, cutting_proxy, item_of

KIB = 1 << 10


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as running:
        yield running


@pytest.fixture
def proxy(server: Server) -> Iterator[CuttingProxy]:
    with cutting_proxy(server.port) as forwarding:
        yield forwarding


@pytest.fixture
def store(server: Server, proxy: CuttingProxy) -> Store:
    return Store(server.settings(s3_public_endpoint=f"http://127.0.0.1:{proxy.port}"))


@pytest.fixture
def link() -> Iterator[Link]:
    with open_link(budget_s=10) as opened:
        yield opened


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", limit_bytes=100 * KIB)


def item(store: Store, letter: str, size_bytes: int = 40 * KIB) -> Download:
    return item_of(store, store.put_blob(letter.encode() * size_bytes, f"{letter}.onnx"))


def is_cached(cache: Cache, wanted: Download, link: Link, proxy: CuttingProxy) -> bool:
    """Tell by the bytes that pass whether a fetch needs the store."""
    before = proxy.received_bytes
    with cache.fetch([wanted], False, link):
        return proxy.received_bytes == before


def test_what_was_fetched_is_not_fetched_again(cache: Cache, store: Store, link: Link, proxy: CuttingProxy) -> None:
    wanted = item(store, "a")
    with cache.fetch([wanted], False, link) as path:
        assert path.name == "a.onnx"
        assert path.read_bytes() == b"a" * 40 * KIB
        assert path.stat().st_mode & 0o222 == 0
        assert path.stat().st_nlink == 1
    assert is_cached(cache, wanted, link, proxy)


def test_a_tree_is_a_folder(cache: Cache, store: Store, link: Link) -> None:
    items = [item_of(store, store.put_blob(name.encode(), name)) for name in ("saved_model.pb", "variables/index")]
    with cache.fetch(items, True, link) as folder:
        assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == [
            "saved_model.pb",
            "variables/index",
        ]


def test_fetches_of_the_same_content_at_once_are_one(
    cache: Cache, store: Store, link: Link, proxy: CuttingProxy
) -> None:
    wanted = item(store, "b", 3_000_000)

    def read() -> int:
        with cache.fetch([wanted], False, link) as path:
            return path.stat().st_size

    with ThreadPoolExecutor(8) as pool:
        sizes = [future.result() for future in [pool.submit(read) for _ in range(8)]]
    assert sizes == [3_000_000] * 8
    assert proxy.received_bytes < 4_000_000


def test_the_longest_unused_entry_gives_way(cache: Cache, store: Store, link: Link, proxy: CuttingProxy) -> None:
    old, used, new = item(store, "c"), item(store, "d"), item(store, "e")
    for wanted in (old, used, old, used):
        is_cached(cache, wanted, link, proxy)
    age_locks(cache, seconds=10)
    is_cached(cache, used, link, proxy)
    is_cached(cache, new, link, proxy)
    assert is_cached(cache, used, link, proxy)
    assert not is_cached(cache, old, link, proxy)


def age_locks(cache: Cache, seconds: float) -> None:
    for lock in cache.folder.glob("*.lock"):
        os.utime(lock, (time.time() - seconds,) * 2)


def test_an_entry_in_use_is_never_evicted(cache: Cache, store: Store, link: Link) -> None:
    with cache.fetch([item(store, "f")], False, link) as kept:
        for letter in "ghijk":
            with cache.fetch([item(store, letter)], False, link):
                pass
        assert kept.read_bytes() == b"f" * 40 * KIB
    assert sum(p.stat().st_size for p in cache.folder.rglob("*.onnx")) <= 100 * KIB


def test_an_entry_of_the_wrong_size_is_fetched_again(cache: Cache, store: Store, link: Link) -> None:
    wanted = item(store, "l")
    with cache.fetch([wanted], False, link) as path:
        pass
    path.chmod(0o644)
    path.write_bytes(b"short")
    with cache.fetch([wanted], False, link) as path:
        assert path.stat().st_size == wanted.size_bytes


def test_a_worker_killed_while_fetching_leaves_a_cache_that_works(
    cache: Cache, server: Server, link: Link, tmp_path: Path
) -> None:
    with cutting_proxy(server.port, cuts_down=[6_000_000], stalls=True) as holding:
        store = Store(server.settings(s3_public_endpoint=f"http://127.0.0.1:{holding.port}"))
        wanted = item(store, "m", 12_000_000)
        (tmp_path / "item.json").write_text(wanted.model_dump_json())
        child = subprocess.Popen([sys.executable, "-c", FETCH, str(cache.folder), str(tmp_path / "item.json")])
        assert holding.stalled.wait(30)
        wait_for_bytes(cache.folder, 2_000_000)
        child.kill()
        child.wait()
        before = holding.received_bytes
        with cache.fetch([wanted], False, link) as path:
            assert path.read_bytes() == b"m" * 12_000_000
        assert holding.received_bytes - before < 11_000_000


def wait_for_bytes(folder: Path, least: int) -> None:
    """Wait until the child has written that much: what the proxy let through may still be on its way to the disk."""
    deadline = time.monotonic() + 10
    while sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < least:
        assert time.monotonic() < deadline
        time.sleep(0.05)


FETCH = """
import sys
from pathlib import Path
from farm.transfer import open_link
from farm.wire.transfers import Download
from workers.cache import Cache
item = Download.model_validate_json(Path(sys.argv[2]).read_text())
with open_link(budget_s=60) as link, Cache(Path(sys.argv[1]), 1 << 30).fetch([item], False, link):
    pass
"""


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a//b", "a\\b", "a\x1b[31m", "", "x" * 300])
def test_names_that_could_leave_the_folder_are_refused(cache: Cache, store: Store, link: Link, name: str) -> None:
    with pytest.raises(UnsafeModel), cache.fetch([item(store, "n").model_copy(update={"name": name})], True, link):
        pass
    assert not cache.folder.exists()


def test_several_files_are_a_tree_or_nothing(cache: Cache, store: Store, link: Link) -> None:
    with pytest.raises(BadRequest), cache.fetch([item(store, "o"), item(store, "p")], False, link):
        pass
