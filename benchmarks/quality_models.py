"""The models of the quality bench and their samples, parted before anyone sees them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.stand import Say
from demo.models import photographs, prepare, tones
from farm.domain.data import split

Arrays = Mapping[str, NDArray[Any]]
HAND_SIZE = 640
"""Side of the photographs at which the best point of text detection is known by hand."""


@dataclass(frozen=True, slots=True)
class Case:
    """A model and what is asked of it.

    Attributes:
        source: the model file or folder, and `runtime` what executes it on a builder.
        given: what every contender may calibrate and select on, by input name: (N, *shape), or (N, *shape[1:]) where
            the model's first axis is 1.
        report: what all are judged on, (N, *shape); nobody else sees it.
        inputs: sizes for axes that the file leaves open, as `farm submit --input` takes them.
        constraint: the fidelity asked for.
        by_hand: the best point that is known, by hand: its speed over ONNX Runtime's float32 and its SQNR in dB.
        mask_above: an output is a mask above this value, and its overlap with the source's mask is told too.
    """

    name: str
    source: Path
    runtime: str
    given: Arrays
    report: Arrays
    inputs: tuple[str, ...] = ()
    constraint: str = "sqnr >= 20dB"
    by_hand: tuple[float, float] | None = None
    mask_above: float | None = None


def cases(folder: Path, say: Say) -> dict[str, Callable[[], Case]]:
    """Name the cases; each is made when it is its turn, since samples are large."""
    prepare(folder, say)

    def detection(size: int, count: int, **more: Any) -> Case:
        given, report = parted({"x": photographs(count, size)})
        text, sides = folder / "text-detection.onnx", f"x:float32[1,3,{size},{size}]"
        name = f"text-detection {size}"
        return Case(name, text, "onnxruntime", given, report, (sides,), mask_above=0.3, **more)

    def digits() -> Case:
        with np.load(folder / "digits-calibration.npz") as archive:
            (name,) = archive.files
            given, report = parted({name: archive[name]})
        return Case("digits", folder / "digits.pt2", "torch-exported-program", given, report)

    def pitch() -> Case:
        given, report = parted({"input_2": tones(64)})
        return Case("basic-pitch", folder / "basic-pitch", "tensorflow", given, report)

    return {
        "digits": digits,
        "text-detection-640": lambda: detection(HAND_SIZE, 48, constraint="sqnr >= 17.2dB", by_hand=(1.99, 17.7)),
        "text-detection": lambda: detection(480, 48),
        "basic-pitch": pitch,
    }


def parted(arrays: Arrays) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Keep a quarter of the samples for the report, by their values; equal samples stay on one side.

    Args:
        arrays: (N, *shape[1:]) by input name, of a model whose first axis is 1.

    Returns: what is given away, as it came; and the report's, (N, *shape).
    """
    columns = list(arrays.values())
    digests = [
        hashlib.sha256(b"".join(row.tobytes() for row in rows)).hexdigest() for rows in zip(*columns, strict=True)
    ]
    parts = split(digests, reports=True)
    given = sorted((*parts.calibration, *parts.selection))
    report = {name: array[list(parts.report)][:, None] for name, array in arrays.items()}
    return {name: array[given] for name, array in arrays.items()}, report
