"""Speed of verified transfers, beside raw boto3 on the same store in the same run.

An upload counts from the file on disk to the verified blob: hashing, declaration, PUT. A download counts from the URL
to the verified file under its name. Each takes turns with boto3's put_object and get_object (to a new file), who goes
first alternates, and the medians are compared.

    FARM_S3_ENDPOINT=… FARM_S3_ACCESS_KEY=… FARM_S3_SECRET_KEY=… python -m benchmarks.transfers [SIZE_BYTES]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from farm.domain.artifact import FileRef
from farm.domain.errors import FarmBug
from farm.settings import Settings, settings
from farm.store import Store, blob_key
from farm.store.client import s3_client
from farm.transfer import Link, download, hash_file, open_link, upload
from farm.wire.transfers import Download, Part, PartRequest, PartTicket, UploadRequest, UploadTicket

_BLOCK_BYTES = 1 << 20
_KEY = "uploads/benchmark/file"


def measure(
    size_bytes: int, *, config: Settings | None = None, folder: Path | None = None, rounds: int = 3
) -> dict[str, float]:
    """Compare with boto3: ratios above 1 are faster than boto3; rates in MB/s (10^6 bytes).

    `folder` receives the files; it should lie on the disk where a user's models lie.
    """
    with tempfile.TemporaryDirectory(dir=folder) as scratch, open_link() as link:
        bench = _Bench(config or settings(), Path(scratch), link)
        taken = [bench.round(size_bytes, raw_first=number % 2 == 0) for number in range(rounds)]
    seconds = {name: median(each[name] for each in taken) for name in taken[0]}
    rates = {f"{name}_mb_per_s": size_bytes / 1e6 / value for name, value in seconds.items()}
    return {
        "upload_ratio": seconds["raw_put"] / seconds["upload"],
        "download_ratio": seconds["raw_get"] / seconds["download"],
        **rates,
    }


@dataclass(slots=True)
class _Bench:
    """One store and one folder; every round has bytes of its own."""

    config: Settings
    folder: Path
    link: Link

    def round(self, size_bytes: int, *, raw_first: bool) -> dict[str, float]:
        source, raw, ours = (self.folder / name for name in ("source", "raw", "ours"))
        _write_random(source, size_bytes)
        store, client = Store(self.config), s3_client(self.config, self.config.s3_endpoint)
        store.ping()
        bucket = self.config.s3_bucket
        file = hash_file(source)
        item = Download(name="source", sha256=file.sha256, size_bytes=size_bytes, url=store.presign_blob_get(file))

        def raw_put() -> None:
            with source.open("rb") as body:
                client.put_object(Bucket=bucket, Key=_KEY, Body=body)

        def raw_get() -> None:
            with raw.open("wb") as sink:
                for block in client.get_object(Bucket=bucket, Key=_KEY)["Body"].iter_chunks(_BLOCK_BYTES):
                    sink.write(block)

        pairs: list[list[tuple[str, Callable[[], None]]]] = [
            [
                ("raw_put", raw_put),
                ("upload", lambda: upload(source, hash_file(source), _Direct(store), link=self.link)),
            ],
            [("raw_get", raw_get), ("download", lambda: download(item, ours, link=self.link))],
        ]
        seconds = {name: _seconds(action) for pair in pairs for name, action in (pair if raw_first else pair[::-1])}
        raw.unlink()
        ours.unlink()
        for key in (_KEY, blob_key(file.sha256)):
            client.delete_object(Bucket=bucket, Key=key)
        return seconds


@dataclass(slots=True)
class _Direct:
    """Tickets without an API between: one PUT."""

    store: Store

    def declare(self, request: UploadRequest) -> UploadTicket:
        if request.broken_put:
            raise FarmBug("The benchmark's PUT broke.")
        url, headers = self.store.presign_blob_put(FileRef("source", request.sha256, request.size_bytes))
        return UploadTicket(method="put", url=url, headers=headers)

    def parts(self, upload: str, requests: Sequence[PartRequest]) -> list[PartTicket]:
        raise FarmBug(f"The benchmark has no parts ({upload}, {len(requests)}).")

    def record(self, upload: str, part: Part) -> None:
        raise FarmBug(f"The benchmark has no parts ({upload}, {part.number}).")

    def complete(self, upload: str) -> None:
        raise FarmBug(f"The benchmark has no parts ({upload}).")


def _write_random(path: Path, size_bytes: int) -> None:
    with path.open("wb") as file:
        for first in range(0, size_bytes, _BLOCK_BYTES):
            file.write(os.urandom(min(_BLOCK_BYTES, size_bytes - first)))


def _seconds(action: Callable[[], None]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000_000), indent=2))
