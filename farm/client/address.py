"""Where the farm is and who we are: arguments, then FARM_URL and FARM_TOKEN, then the running stack."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from farm.domain.errors import FarmUnreachable

STACK_FILE = "stack.json"
DATA_FOLDER = ".farm"


@dataclass(frozen=True, slots=True)
class Address:
    """A farm's URL and a token for it; `source` says where they were found."""

    url: str
    token: str | None
    source: str


def resolve(url: str | None = None, token: str | None = None, *, data: Path | None = None) -> Address:
    """Find the farm to talk to.

    Args:
        url: FARM_URL, else the running stack's, when None.
        token: FARM_TOKEN, else the running stack's, when None.
        data: the data folder of an embedded stack; FARM_DATA, else `.farm` here or in a folder above, when None.

    Raises:
        FarmUnreachable: no URL was given and no stack's stack.json was found.
    """
    url, token = url or os.environ.get("FARM_URL"), token or os.environ.get("FARM_TOKEN")
    if url:
        return Address(url.rstrip("/"), token, "FARM_URL" if "FARM_URL" in os.environ else "arguments")
    for folder in _data_folders(data):
        stack = _read(folder / STACK_FILE)
        if stack is not None:
            return Address(str(stack["api"]).rstrip("/"), token or stack.get("token"), str(folder / STACK_FILE))
    raise FarmUnreachable(f"FARM_URL is not set, and no {DATA_FOLDER}/{STACK_FILE} stands here or in a folder above.")


def _data_folders(data: Path | None) -> list[Path]:
    if data is not None:
        return [data]
    if named := os.environ.get("FARM_DATA"):
        return [Path(named)]
    here = Path.cwd()
    return [folder / DATA_FOLDER for folder in (here, *here.parents)]


def _read(path: Path) -> dict[str, str] | None:
    try:
        stack = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stack if isinstance(stack, dict) and "api" in stack else None
