"""The services alone, for tests of other parts: fast, thrown away afterwards."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from farm.local.info import StackInfo
from farm.local.stack import SERVICES, Stack


@contextmanager
def services(data: Path | None = None) -> Iterator[StackInfo]:
    """Run PostgreSQL, Redis and S3 until the block ends; without `data`, in a temporary folder that is removed.

    As root, `data` must be reachable for the account PostgreSQL runs under; pytest's tmp_path is not.
    """
    folder = data or Path(tempfile.mkdtemp(prefix="farm-services-"))
    if data is None:
        folder.chmod(0o711)
    stack = Stack(folder, durable=False)
    try:
        yield stack.start_unsupervised(SERVICES)
    finally:
        stack.down()
        if data is None:
            shutil.rmtree(folder)
