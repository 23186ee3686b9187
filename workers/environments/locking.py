"""Make locks anew from what is wanted: exact versions, no index, no local build tags."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from workers import environments
from workers.environments import FOLDER, lock_path, tools

LEFT_OUT = {"builder": ("torchvision",)}
"""Packages that only metadata asks for: torchvision's wheels do not import beside a CPU build of torch."""
UNTAGGED = ("torch",)
"""Packages whose pin here would be read as the default index's build, which pulls CUDA."""
_LOCAL_TAG = re.compile(r"^(?P<pin>[^=\s]+==[^+\s]+)\+\S+")


def compile_lock(name: str) -> bool:
    """Resolve NAME.in into NAME.lock, keeping the lock's pins where they still fit; tell whether it changed.

    Raises:
        ConfigurationError: it can't be resolved.
    """
    path = lock_path(name)
    before = path.read_text() if path.is_file() else ""
    with tempfile.TemporaryDirectory() as folder:
        resolved = Path(folder) / path.name
        resolved.write_text("\n".join(tidy(before, UNTAGGED)))
        flags = ("--quiet", "--no-header", "--no-annotate", "--no-emit-index-url", "--output-file", str(resolved))
        version = () if _names_a_python(name) else ("--python-version", "3.11")
        argv = tools.uv("pip", "compile", *flags, *version, *environments.wanted(name).compile_flags, f"{name}.in")
        tools.call(argv, purpose=f"resolve {name}.in", env=tools.surroundings(), cwd=FOLDER)
        pins = tidy(resolved.read_text(), LEFT_OUT.get(name, ()))
    comments = [line for line in before.splitlines() if line.startswith("#")]
    path.write_text("\n".join([*comments, *pins]) + "\n")
    return path.read_text() != before


def tidy(text: str, left_out: tuple[str, ...]) -> list[str]:
    """Keep the pins of a compiled lock: no comments, no local build tags, nothing that is left out on purpose."""
    pins = (_LOCAL_TAG.sub(r"\g<pin>", line) for line in text.splitlines() if "==" in line and line[0] not in "# ")
    return [pin for pin in pins if pin.partition("==")[0] not in left_out]


def _names_a_python(name: str) -> bool:
    return "--python-version" in environments.wanted(name).compile_flags
