"""Call uv and pip: what they are told, where they look for wheels, what they say when they fail.

Tools: uv 0.13.9, pip 23.2. uv does not read pip's configuration, so what a user told pip is handed on.
"""

from __future__ import annotations

import ast
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from farm.domain.errors import ConfigurationError

TAIL_LINES = 15


def uv(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "uv", *arguments]


def pip(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pip", *arguments]


def call(argv: Sequence[str], *, purpose: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run a tool to its end and return what it printed.

    Raises:
        ConfigurationError: it exited with another code than 0; its last lines are in the message.
    """
    ran = subprocess.run(argv, env=env, cwd=cwd, text=True, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if ran.returncode != 0:
        tail = "\n".join((ran.stderr or ran.stdout).strip().splitlines()[-TAIL_LINES:])
        raise ConfigurationError(
            f"Could not {purpose}: {_tool(argv)} exited with {ran.returncode}.\n{tail}",
            remedy=f"Mend what it says, then try again: {shlex.join(argv)}",
            argv=list(argv),
            exit=ran.returncode,
            log_tail=tail,
        )
    return ran.stdout


def surroundings() -> dict[str, str]:
    """Return this process's environment, with pip's find-links, index and certificate told to uv as well.

    Without a source of torch wheels of the user's own, uv takes the CPU builds: those of the default index need
    CUDA's libraries, which a lock without them does not install.
    """
    given = {name: value for name, value in os.environ.items() if value or not name.startswith(("UV_", "PIP_"))}
    told = pip_configuration()
    links = given.get("PIP_FIND_LINKS") or told.get("find-links", "")
    if links:
        given.setdefault("UV_FIND_LINKS", ",".join(links.split()))
    if index := given.get("PIP_INDEX_URL") or told.get("index-url"):
        given.setdefault("UV_DEFAULT_INDEX", index)
    if certificate := given.get("PIP_CERT") or told.get("cert"):
        given.setdefault("SSL_CERT_FILE", certificate)
    if not _finds_torch(given):
        given.setdefault("UV_TORCH_BACKEND", "cpu")
    return given


def pip_configuration() -> dict[str, str]:
    """Read pip's configuration, files and all, as option -> value."""
    listed = call(pip("config", "list"), purpose="read pip's configuration")
    found = (line.partition("=") for line in listed.splitlines() if "=" in line)
    return {key.rpartition(".")[2]: str(ast.literal_eval(value)) for key, _, value in found}


def _tool(argv: Sequence[str]) -> str:
    return argv[2] if argv[1:2] == ["-m"] else Path(argv[0]).name


def _finds_torch(given: Mapping[str, str]) -> bool:
    """Tell whether the user named an index, or a folder of wheels that holds torch."""
    if given.get("UV_INDEX") or given.get("UV_DEFAULT_INDEX"):
        return True
    links = [Path(link.removeprefix("file://")) for link in given.get("UV_FIND_LINKS", "").split(",") if link]
    return any(any(link.glob("torch-*.whl")) for link in links if link.is_dir())
