"""Files by digest, read once in large blocks."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from farm.domain.artifact import FileRef
from farm.domain.errors import DigestMismatch
from farm.transfer.errors import foreign_errors
from farm.transfer.link import Progress

BLOCK_BYTES = 1 << 20


def hash_file(path: Path, on_progress: Progress | None = None) -> FileRef:
    """Describe a file by its own name, digest and size.

    Raises:
        DigestMismatch: the file changed while it was read.
        MissingFile: no such file.
        BadRequest: a folder.
    """
    with foreign_errors(f"{path.name} can't be read"), path.open("rb", buffering=0) as file:
        before = os.fstat(file.fileno())
        whole, size_bytes = hashlib.sha256(), 0
        for block in blocks_of(file.fileno(), 0, before.st_size + 1):
            whole.update(block)
            size_bytes += len(block)
            if on_progress is not None:
                on_progress(size_bytes)
        after = path.stat()
    if (size_bytes, before.st_mtime_ns, before.st_ino) != (after.st_size, after.st_mtime_ns, after.st_ino):
        raise DigestMismatch(f"{path.name} changed while it was read; submit it again once it is complete.")
    return FileRef(path.name, whole.hexdigest(), size_bytes)


def blocks_of(descriptor: int, first: int, size_bytes: int) -> Iterator[memoryview]:
    """Read a range of a file, block by block, into one buffer: a block is valid until the next one."""
    buffer = memoryview(bytearray(min(BLOCK_BYTES, max(size_bytes, 1))))
    done = 0
    while done < size_bytes:
        count = os.preadv(descriptor, [buffer[: min(len(buffer), size_bytes - done)]], first + done)
        if not count:
            return
        yield buffer[:count]
        done += count
