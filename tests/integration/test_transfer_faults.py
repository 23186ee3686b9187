"""Transfers against SeaweedFS while things break: nothing is lost, nothing unverified counts."""

from __future__ import annotations

import resource
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import patch

import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from farm.domain.artifact import FileRef
from farm.domain.errors import DigestMismatch, HostFull, NotFound, TransferFailed, UnsafeModel
from farm.store import Store
from farm.transfer import Link, download, fetch_tree, hash_file, open_link, upload
from farm.transfer.download import part_path
from farm.wire.transfers import Download, Part, UploadRequest, UploadTicket

sys.path.insert(0, str(Path(__file__).parents[1]))
from store_servers import KEYS, Server, seaweedfs
from transfer_parts import PART_BYTES, ByParts, StoreTickets, cutting_proxy, item_of, random_file


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


def test_a_present_file_is_not_sent_again(store: Store, tmp_path: Path, link: Link) -> None:
    file = random_file(tmp_path / "twice", 1000, seed=2)
    upload(tmp_path / "twice", file, StoreTickets(store), link=link)
    with cutting_proxy(1) as proxy:
        upload(tmp_path / "twice", file, StoreTickets(store), link=link)
        assert proxy.connections == 0


def test_a_put_that_finds_the_blob_stored_meanwhile_counts_as_done(store: Store, tmp_path: Path, link: Link) -> None:
    class Slow(StoreTickets):
        def declare(self, request: UploadRequest) -> UploadTicket:
            ticket = super().declare(request)
            store.put_blob((tmp_path / "raced").read_bytes())
            return ticket

    file = random_file(tmp_path / "raced", 1000, seed=3)
    tickets = Slow(store)
    upload(tmp_path / "raced", file, tickets, link=link)
    assert tickets.calls == ["declare"]


def test_a_put_cut_half_way_goes_on_by_parts(server: Server, tmp_path: Path, link: Link) -> None:
    with cutting_proxy(server.port, cuts_up=[6 << 20]) as proxy:
        store = Store(server.settings(s3_public_endpoint=f"http://127.0.0.1:{proxy.port}"))
        file = random_file(tmp_path / "large", 12 << 20, seed=4)
        tickets = StoreTickets(store)
        seen: list[int] = []
        upload(tmp_path / "large", file, tickets, link=link, on_progress=seen.append)
    assert tickets.calls[:2] == ["declare", "declare"]
    assert sorted(tickets.recorded) == [1, 2, 3]
    assert seen[-1] == 12 << 20
    assert store.has_blob(file.sha256, file.size_bytes)


def test_a_store_killed_during_an_upload_costs_only_the_parts_in_flight(
    server: Server, store: Store, tmp_path: Path, link: Link
) -> None:
    class Killing(ByParts):
        killed: bool = False

        def record(self, upload: str, part: Part) -> None:
            super().record(upload, part)
            if len(self.recorded) == 2 and not self.killed:
                self.killed = True
                server.kill()
                threading.Timer(1.0, server.start).start()

    file = random_file(tmp_path / "killed", 40 << 20, seed=5)
    tickets = Killing(store, upload="killed")
    upload(tmp_path / "killed", file, tickets, link=Link(link.client, budget_s=120, connections=2))
    assert tickets.killed
    assert sorted(call for call in tickets.calls if call.startswith("record")) == [f"record {n}" for n in range(1, 9)]
    assert store.has_blob(file.sha256, file.size_bytes)


def test_an_upload_that_was_given_up_resumes_from_its_recorded_parts(
    server: Server, store: Store, tmp_path: Path, link: Link
) -> None:
    file = random_file(tmp_path / "resumed", 3 * PART_BYTES, seed=6)
    tickets = ByParts(store, upload="resumed")
    with cutting_proxy(server.port, cuts_up=[PART_BYTES + 10_000] + [100] * 1000) as proxy:
        tickets.store = Store(server.settings(s3_public_endpoint=f"http://127.0.0.1:{proxy.port}"))
        with pytest.raises(TransferFailed):
            upload(tmp_path / "resumed", file, tickets, link=Link(link.client, budget_s=0.5, connections=1))
    assert sorted(tickets.recorded) == [1]
    tickets.store = store
    tickets.calls.clear()
    upload(tmp_path / "resumed", file, tickets, link=link)
    assert sorted(call for call in tickets.calls if call.startswith("part")) == ["part 2", "part 3"]
    assert store.has_blob(file.sha256, file.size_bytes)


def test_a_file_that_changes_after_it_was_hashed_is_refused(store: Store, tmp_path: Path, link: Link) -> None:
    file = random_file(tmp_path / "changed", 3000, seed=7)
    (tmp_path / "changed").write_bytes(b"x" * 3000)
    with pytest.raises(DigestMismatch, match="changed"):
        upload(tmp_path / "changed", file, StoreTickets(store), link=link)
    (tmp_path / "changed").write_bytes(b"x" * 30)
    with pytest.raises(DigestMismatch, match="shorter"):
        upload(tmp_path / "changed", file, StoreTickets(store), link=link)


def test_a_download_cut_twice_resumes_where_it_broke_off(server: Server, tmp_path: Path, link: Link) -> None:
    with cutting_proxy(server.port, cuts_down=[5 << 20, 6 << 20]) as proxy:
        store = Store(server.settings(s3_public_endpoint=f"http://127.0.0.1:{proxy.port}"))
        file = random_file(tmp_path / "source", 20 << 20, seed=8)
        store.put_blob((tmp_path / "source").read_bytes())
        seen: list[int] = []
        download(item_of(store, file), tmp_path / "fetched", link=link, on_progress=seen.append)
        assert proxy.connections == 3
    assert seen == sorted(seen)
    assert hash_file(tmp_path / "fetched").sha256 == file.sha256


def test_a_download_given_up_resumes_in_the_next_run(server: Server, tmp_path: Path, link: Link) -> None:
    with cutting_proxy(server.port, cuts_down=[9 << 20] + [100] * 1000) as proxy:
        store = Store(server.settings(s3_public_endpoint=f"http://127.0.0.1:{proxy.port}"))
        file = random_file(tmp_path / "source", 20 << 20, seed=9)
        store.put_blob((tmp_path / "source").read_bytes())
        with pytest.raises(TransferFailed):
            download(item_of(store, file), tmp_path / "fetched", link=Link(link.client, budget_s=0.3))
        proxy.cuts_down.clear()
        assert not (tmp_path / "fetched").exists()
        asked = proxy.received_bytes
        download(item_of(store, file), tmp_path / "fetched", link=link)
        assert proxy.received_bytes - asked < 20 << 20
    assert hash_file(tmp_path / "fetched").sha256 == file.sha256


def stored_as(store: Store, file: FileRef, data: bytes) -> None:
    """Put other bytes under a digest, as a damaged disk would."""
    store._bucket._connection.put_object(Bucket="farm", Key=store.blob_key(file.sha256), Body=data)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "longer"])
@pytest.mark.parametrize("size_bytes", [1000, 6 << 20])
def test_damaged_bytes_are_refused_and_leave_nothing(
    store: Store, tmp_path: Path, link: Link, damage: str, size_bytes: int
) -> None:
    file = random_file(tmp_path / "source", size_bytes, seed=hash(damage) % 1000 + size_bytes)
    data = bytearray((tmp_path / "source").read_bytes())
    data[500] ^= 1
    bad = {"flipped": bytes(data), "truncated": bytes(data[:-7]), "longer": bytes(data) + b"more"}[damage]
    stored_as(store, file, bad)
    with pytest.raises(DigestMismatch):
        download(item_of(store, file), tmp_path / "fetched", link=link)
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


def test_a_damaged_partial_file_is_fetched_again(store: Store, tmp_path: Path, link: Link) -> None:
    file = random_file(tmp_path / "source", 8 << 20, seed=11)
    store.put_blob((tmp_path / "source").read_bytes())
    part_path(tmp_path / "fetched", file.sha256).write_bytes(b"\0" * 1000)
    download(item_of(store, file), tmp_path / "fetched", link=link)
    assert hash_file(tmp_path / "fetched").sha256 == file.sha256


def test_an_expired_url_is_asked_for_again(store: Store, tmp_path: Path, link: Link) -> None:
    file = store.put_blob(b"still here")
    item = item_of(store, file)
    expired = item.model_copy(update={"url": expired_url(store, file)})
    with pytest.raises(TransferFailed):
        download(expired, tmp_path / "fetched", link=link)
    download(expired, tmp_path / "fetched", link=link, refresh_url=lambda: item.url)
    assert (tmp_path / "fetched").read_bytes() == b"still here"


def expired_url(store: Store, file: FileRef) -> str:
    """Sign a URL two hours ago."""
    signer = S3SigV4QueryAuth(Credentials(*KEYS.values()), "s3", "us-east-1", expires=60)
    request = AWSRequest("GET", store.presign_get(store.blob_key(file.sha256)).partition("?")[0])
    with patch("botocore.auth.get_current_datetime", lambda: datetime.now(UTC) - timedelta(hours=2)):
        signer.add_auth(request)
    return str(request.url)


def test_what_the_store_does_not_have_is_not_found(store: Store, tmp_path: Path, link: Link) -> None:
    file = random_file(tmp_path / "never", 10, seed=12)
    with pytest.raises(NotFound):
        download(item_of(store, file), tmp_path / "fetched", link=link)


def test_a_full_disk_is_the_hosts_fault_and_keeps_what_arrived(store: Store, tmp_path: Path, link: Link) -> None:
    file = random_file(tmp_path / "source", 8 << 20, seed=13)
    store.put_blob((tmp_path / "source").read_bytes())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, before[1]))
    try:
        with pytest.raises(HostFull):
            download(item_of(store, file), tmp_path / "fetched", link=link)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert part_path(tmp_path / "fetched", file.sha256).stat().st_size == 3 << 20
    download(item_of(store, file), tmp_path / "fetched", link=link)
    assert hash_file(tmp_path / "fetched").sha256 == file.sha256


def test_a_tree_arrives_whole(store: Store, tmp_path: Path, link: Link) -> None:
    names = ["saved_model.pb", "variables/variables.index", "variables/variables.data", "variables/x.part"]
    files = [store.put_blob(name.encode(), name) for name in names]
    items = [item_of(store, file) for file in files]
    (tmp_path / "tree").mkdir()
    seen: list[int] = []
    fetch_tree(items, tmp_path / "tree", link=link, on_progress=seen.append)
    fetch_tree(items, tmp_path / "tree", link=link)
    assert {n: (tmp_path / "tree" / n).read_text() for n in names} == {n: n for n in names}
    assert seen[-1] == sum(file.size_bytes for file in files)


def test_a_tree_is_not_written_through_a_link(store: Store, tmp_path: Path, link: Link) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "tree" / "variables").symlink_to(tmp_path / "outside")
    file = store.put_blob(b"data")
    with pytest.raises(UnsafeModel):
        fetch_tree([item_of(store, file, "variables/index")], tmp_path / "tree", link=link)
    assert not list((tmp_path / "outside").iterdir())


def test_a_server_without_ranges_is_read_from_the_start(tmp_path: Path, link: Link) -> None:
    (tmp_path / "served").mkdir()
    file = random_file(tmp_path / "served" / "model", 6 << 20, seed=14)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as plain:
        threading.Thread(target=plain.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{plain.server_port}/model"
        item = Download(name="model", sha256=file.sha256, size_bytes=file.size_bytes, url=url)
        part_path(tmp_path / "fetched", file.sha256).write_bytes((tmp_path / "served" / "model").read_bytes()[:1000])
        download(item, tmp_path / "fetched", link=link)
        plain.shutdown()
    assert hash_file(tmp_path / "fetched").sha256 == file.sha256


def test_memory_stays_constant(store: Store, tmp_path: Path, link: Link) -> None:
    file = random_file(tmp_path / "big", 100 << 20, seed=15)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tickets = ByParts(store, upload="big", part_size_bytes=16 << 20)
    upload(tmp_path / "big", hash_file(tmp_path / "big"), tickets, link=link)
    download(item_of(store, file), tmp_path / "fetched", link=link)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40 << 10
