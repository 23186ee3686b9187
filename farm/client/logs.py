"""Read a step's log from the store."""

from __future__ import annotations

from collections.abc import Iterator

import httpx

from farm.domain.errors import TransferFailed


def read_log(url: str) -> Iterator[str]:
    """Yield the lines of a log behind a presigned URL.

    Raises:
        TransferFailed: the store does not answer, or refuses.
    """
    try:
        with httpx.stream("GET", url, timeout=30.0) as response:
            response.raise_for_status()
            yield from response.iter_lines()
    except httpx.HTTPStatusError as exc:
        raise TransferFailed(
            f"The store answered {exc.response.status_code} for a log; ask for the logs again."
        ) from exc
    except httpx.TransportError as exc:
        raise TransferFailed(f"The store can't be reached for a log: {exc}.") from exc
