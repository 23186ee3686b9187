"""Inspect a data file (.npz): its arrays, their range, and a digest of each sample.

Source: NumPy's format specification (numpy.lib.format).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from farm.domain.errors import BadData
from farm.domain.inputs import LABELS, VOCABULARY
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.stages.npz import NpzReader, row_digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_DIGESTS = 20_000
"""Rows whose digests are kept; with more, nothing is said of samples that are in two files."""


@stage(
    name="inspect-npz",
    version="3",
    kind=Kind.INSPECT,
    environment="onnxruntime",
    tools=("numpy",),
    preload=("numpy",),
    timeout_s=600.0,
)
def run(given: StageInput) -> StageOutput:
    """Describe the arrays, reading each once, row by row.

    Args:
        given: files["model"], the .npz.
    Returns: facts {"arrays": {name: {"dtype", "shape", "minimum", "maximum", "constant", "rows": digests; "classes" of
        labels}}, "samples": length of the longest array}.
    Raises: BadData when the file is no .npz, holds pickled objects or values that are not finite, or has no array.
    """
    with NpzReader(given.files["model"]) as data:
        headers = data.headers
        arrays = described(data)
    if not headers:
        raise BadData(
            "The data file holds no array.", remedy="Write it with numpy.savez(file, **{'input name': array})."
        )
    rows = [header.rows for name, header in headers.items() if name != VOCABULARY]
    return StageOutput(facts={"arrays": arrays, "samples": max(rows, default=0)})


def described(data: NpzReader) -> dict[str, dict[str, Any]]:
    """Say of every array what it is and what its values are like.

    Raises:
        BadData: a value is not finite.
    """
    return {
        name: {"dtype": header.dtype, "shape": list(header.shape), **_values(data, name)}
        for name, header in data.headers.items()
    }


def _values(data: NpzReader, name: str) -> dict[str, Any]:
    """Say what the values of an array are like; nothing of one that holds no numbers or no rows."""
    ranges: list[tuple[Any, Any]] = []
    digests: list[str] = []
    classes: set[Any] = set()
    for row in _numbers(data, name):
        ranges.append((row.min().item(), row.max().item()))
        if len(digests) <= MAX_DIGESTS:
            digests.append(row_digest(row))
        if name == LABELS and row.size == 1:
            classes.add(row.item())
    if not ranges:
        return {}
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    facts: dict[str, Any] = {"minimum": low, "maximum": high, "constant": low == high}
    if len(digests) <= MAX_DIGESTS:
        facts["rows"] = digests
    if classes:
        facts["classes"] = len(classes)
    return facts


def _numbers(data: NpzReader, name: str) -> Iterator[NDArray[Any]]:
    import numpy as np

    if np.dtype(data.headers[name].dtype).kind not in "biuf":
        return
    for index, row in enumerate(data.rows(name)):
        if row.size == 0:
            return
        if row.dtype.kind == "f" and not np.isfinite(row).all():
            raise BadData(
                f"Sample {index} of array {name!r} holds values that are not finite (NaN or infinity).",
                remedy="Take such samples out: numpy.isfinite tells which.",
            )
        yield row
