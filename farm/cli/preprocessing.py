"""--preprocessing FILE: how pictures become a model's input, as YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

MOST_BYTES = 1 << 20
Preprocessing = Annotated[
    Path | None,
    typer.Option("--preprocessing", metavar="FILE.yaml", help="How pictures become inputs: resize, crop, mean, std …"),
]


def read(path: Path | None) -> dict[str, Any]:
    """Read a declaration as what it adds to a model, {"preprocessing": …}; nothing without a file.

    Raises:
        MissingFile: there is no such file.
        BadRequest: it is no YAML, or no table of names and values.
    """
    import yaml

    from farm.domain.errors import BadRequest, MissingFile

    if path is None:
        return {}
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BadRequest(f"Preprocessing file {str(path)!r} is over {MOST_BYTES >> 20} MiB.")
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise MissingFile(f"Preprocessing file {str(path)!r} does not exist.") from exc
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise BadRequest(f"Preprocessing file {str(path)!r} can't be read as YAML: {exc}.") from exc
    if not isinstance(told, dict) or not all(isinstance(key, str) for key in told):
        raise BadRequest(f"Preprocessing file {str(path)!r} is no table of names and values, such as `input: image`.")
    return {"preprocessing": told}
