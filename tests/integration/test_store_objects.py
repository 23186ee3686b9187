"""The store against real S3 servers: content, presigned PUTs, promotion, publishing, retention."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from farm.domain.artifact import FileRef
from farm.domain.errors import (
    ConfigurationError,
    Conflict,
    DigestMismatch,
    FarmUnreachable,
    NotFound,
    TooLarge,
    TransferFailed,
)
from farm.store import Store
from farm.store.copies import Copy
from farm.store.names import base64_of_hex

sys.path.insert(0, str(Path(__file__).parents[1]))
from store_servers import Server, seaweedfs


def ref(data: bytes, name: str = "model.onnx") -> FileRef:
    return FileRef(name, hashlib.sha256(data).hexdigest(), len(data))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as running:
        yield running


@pytest.fixture(scope="module")
def store(server: Server) -> Store:
    made = Store(server.settings())
    made.ping()
    return made


def test_own_bytes_become_a_blob_and_come_back(store: Store) -> None:
    file = store.put_blob(b"abc")
    assert store.put_blob(b"abc") == file
    assert store.has_blob(file.sha256, 3)
    assert not store.has_blob(file.sha256, 4)
    assert store.get_bytes(file.sha256, 10) == b"abc"


def test_a_presigned_put_takes_only_the_declared_bytes_and_only_once(store: Store) -> None:
    data = b"weights" * 1000
    url, headers = store.presign_blob_put(ref(data))
    assert httpx.put(url, content=b"W" + data[1:], headers=headers).status_code == 400
    assert httpx.put(url, content=data, headers=headers).status_code == 200
    assert httpx.put(url, content=data, headers=headers).status_code == 412
    assert httpx.get(store.presign_blob_get(ref(data))).content == data


def test_seaweedfs_keeps_the_promises_that_immutability_rests_on(store: Store) -> None:
    store.prove()
    assert not list(store.list_prefix("uploads/proof"))


def upload_parts(store: Store, upload_id: str, parts: list[bytes]) -> None:
    multipart = store.begin_multipart(upload_id)
    done = []
    for number, data in enumerate(parts, start=1):
        checksum = base64_of_hex(hashlib.sha256(data).hexdigest())
        url, headers = store.presign_part(upload_id, multipart, number, checksum, len(data))
        etag = httpx.put(url, content=data, headers=headers).headers["etag"]
        done.append((number, f"{etag};{checksum}"))
    store.complete_multipart(upload_id, multipart, done)
    store.complete_multipart(upload_id, multipart, done)


def test_an_upload_in_parts_is_promoted_when_its_digest_is_right(store: Store) -> None:
    parts = [b"a" * (5 << 20), b"b" * 1000]
    file = ref(b"".join(parts))
    upload_parts(store, "good", parts)
    assert not store.has_blob(file.sha256, file.size_bytes)
    store.promote("good", file)
    store.promote("good", file)
    assert store.has_blob(file.sha256, file.size_bytes)
    assert not list(store.list_prefix("uploads/good"))


def test_an_upload_with_other_bytes_is_refused_and_deleted(store: Store) -> None:
    upload_parts(store, "bad", [b"x" * 100])
    with pytest.raises(DigestMismatch):
        store.promote("bad", ref(b"y" * 100))
    with pytest.raises(NotFound):
        store.promote("bad", ref(b"y" * 100))


def test_a_published_name_never_changes(store: Store) -> None:
    first, second = store.put_blob(b"first"), store.put_blob(b"other")
    store.publish(first, "jobs/j/model.onnx")
    store.publish(first, "jobs/j/model.onnx")
    with pytest.raises(Conflict):
        store.publish(second, "jobs/j/model.onnx")
    store.put_document("jobs/j/report.json", b"{}", "application/json")
    store.put_document("jobs/j/report.json", b"{}", "application/json")
    with pytest.raises(Conflict):
        store.put_document("jobs/j/report.json", b"[]", "application/json")
    assert [found.key for found in store.list_prefix("jobs/j/")] == ["jobs/j/model.onnx", "jobs/j/report.json"]
    with pytest.raises(NotFound):
        store.publish(ref(b"never stored"), "jobs/j/absent")


def test_a_copy_over_the_limit_goes_by_parts(server: Server) -> None:
    store = Store(server.settings(), single_copy_limit_bytes=5 << 20)
    data = bytes(range(256)) * (6 << 12)
    file = store.put_blob(data)
    store.publish(file, "jobs/large/model.onnx")
    store.publish(file, "jobs/large/model.onnx")
    assert httpx.get(store.presign_get("jobs/large/model.onnx")).content == data


def test_retention_removes_what_was_never_finished(store: Store) -> None:
    upload_parts(store, "finished", [b"1"])
    store.begin_multipart("open")
    assert store.expire_uploads(3600) == 0
    assert store.expire_uploads(-60) == 2
    assert store.expire_uploads(-60) == 0


def test_a_read_is_limited(store: Store) -> None:
    file = store.put_blob(b"12345")
    with pytest.raises(TooLarge):
        store.get_bytes(file.sha256, 4)
    with pytest.raises(NotFound):
        store.get_bytes(ref(b"missing").sha256, 4)


def test_a_missing_bucket_is_created(server: Server) -> None:
    store = Store(server.settings(s3_bucket="made-on-demand"))
    assert store.get_bytes(store.put_blob(b"x").sha256, 1) == b"x"
    Store(server.settings(s3_bucket="made-on-demand")).ping()


def test_wrong_keys_are_the_operators_fault(server: Server) -> None:
    with pytest.raises(ConfigurationError, match="bucket"):
        Store(server.settings(s3_secret_key="wrong")).ping()


def test_a_store_that_is_not_there_is_unreachable(server: Server) -> None:
    absent = Store(server.settings(s3_endpoint="http://127.0.0.1:9"))
    with pytest.raises(FarmUnreachable):
        absent.ping()
    with pytest.raises(TransferFailed):
        absent.has_blob("ab" * 32, 1)


def test_urls_are_signed_for_the_public_endpoint(server: Server) -> None:
    store = Store(server.settings(s3_public_endpoint="http://farm.example:9000"))
    url = store.presign_blob_get(ref(b"x", "a b\r\nSet-Cookie: c.onnx"))
    assert url.startswith("http://farm.example:9000/farm/blobs/sha256/")
    assert "\n" not in url


def test_a_download_is_saved_under_its_own_name(store: Store) -> None:
    file = store.put_blob(b"named", 'we"ird/mödel\r\n.onnx')
    answer = httpx.get(store.presign_blob_get(file))
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''m%C3%B6del%0D%0A.onnx"


def test_an_upload_that_changes_between_check_and_copy_is_not_promoted(store: Store, server: Server) -> None:
    upload_parts(store, "swapped", [b"honest"])
    file = ref(b"honest")
    etag = store._verified_etag("uploads/swapped/file", file)
    upload_parts(store, "swapped", [b"forged"])
    with pytest.raises(Conflict):
        store._copy_to_blob(Copy("farm", "uploads/swapped/file", store.blob_key(file.sha256), 6, etag=etag), file)
    assert not store.has_blob(file.sha256, 6)
