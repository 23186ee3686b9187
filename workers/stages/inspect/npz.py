"""Inspect a data file (.npz): names, dtypes and shapes of its arrays, without reading their values.

Source: NumPy's format specification (numpy.lib.format).
"""

from __future__ import annotations

from farm.domain.codec import encode
from farm.domain.errors import BadData
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.stages.npz import NpzReader


@stage(
    name="inspect-npz",
    version="1",
    kind=Kind.INSPECT,
    environment="onnxruntime",
    tools=("numpy",),
    preload=("numpy",),
    timeout_s=60.0,
)
def run(given: StageInput) -> StageOutput:
    """Describe the arrays.

    Args:
        given: files["model"], the .npz.
    Returns: facts {"arrays": {name: {"dtype", "shape"}}, "samples": length of the longest array}.
    Raises: BadData when the file is no .npz, holds pickled objects, or has no array.
    """
    with NpzReader(given.files["model"]) as data:
        headers = data.headers
    if not headers:
        raise BadData(
            "The data file holds no array.", remedy="Write it with numpy.savez(file, **{'input name': array})."
        )
    arrays = {name: {"dtype": header.dtype, "shape": list(header.shape)} for name, header in headers.items()}
    return StageOutput(facts={"arrays": encode(arrays), "samples": max(header.rows for header in headers.values())})
