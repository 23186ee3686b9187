"""What a board gets to join: this farm's source, and the script that installs and starts a worker from it."""

from __future__ import annotations

import io
import shlex
import tarfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from string import Template

import farm
from farm.domain.errors import NotFound

ROOT = Path(farm.__file__).parents[1]
PARTS = ("pyproject.toml", "README.md", "farm", "workers", "hardware_profiles")
SOURCE_NAME = "source.tar.gz"
SCRIPT = Path(__file__).with_name("join.sh")


@cache
def source_archive() -> bytes:
    """Pack the source this farm runs from, without what Python compiled.

    Raises:
        NotFound: it runs from an installed package, without its project file.
    """
    if not (ROOT / "pyproject.toml").is_file():
        raise NotFound(
            "This farm runs from an installed package and can't give its source away.",
            remedy="Install the worker from its image instead: farm host enroll NAME --container.",
        )
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for part in PARTS:
            archive.add(ROOT / part, part, filter=_plain)
    return packed.getvalue()


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if member.name.endswith((".pyc", "__pycache__")) or not (member.isfile() or member.isdir()):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def join_script(url: str, name: str, environments: Sequence[str]) -> str:
    """Fill the script in; it takes the token from FARM_TOKEN, so that no file of the farm's holds it."""
    given = {"url": url, "name": name, "environments": " ".join(environments)}
    filled = {key: shlex.quote(value) for key, value in given.items()}
    return Template(SCRIPT.read_text(encoding="utf-8")).substitute(filled)
