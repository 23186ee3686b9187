"""1 GB up and down, in the words of `make bench`."""

from __future__ import annotations

from pydantic import SecretStr

from benchmarks import transfers
from benchmarks.figures import Figure
from benchmarks.stand import Stand
from farm.settings import Settings

SIZE_BYTES = 1_000_000_000


def measure(stand: Stand) -> list[Figure]:
    s3 = stand.info.s3
    config = Settings(
        s3_endpoint=s3.endpoint,
        s3_bucket=s3.bucket,
        s3_access_key=SecretStr(s3.access_key),
        s3_secret_key=SecretStr(s3.secret_key),
    )
    found = transfers.measure(SIZE_BYTES, config=config, folder=stand.data)
    return [_figure("upload", 0.6, found, raw="put"), _figure("download", 0.8, found, raw="get")]


def _figure(way: str, aim: float, found: dict[str, float], *, raw: str) -> Figure:
    rates = {"MB/s": found[f"{way}_mb_per_s"], "boto3 MB/s": found[f"raw_{raw}_mb_per_s"]}
    limit_is = f"boto3 {raw}_object"
    return Figure(f"{way}_1gb_ratio", found[f"{way}_ratio"], "ratio", aim, 1.0, limit_is, rates, at_least=True)
