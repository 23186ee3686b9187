"""The models of the quality bench and their samples, parted before anyone sees them."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality_networks import GIVEN, WORDS
from benchmarks.stand import ENVIRONMENTS, Say
from demo.models import photographs, prepare, tones
from farm.domain.data import split

Arrays = Mapping[str, NDArray[Any]]
HAND_SIZE = 640
"""Side of the photographs at which the best point of text detection is known by hand."""
BY_HAND = (1.99, 17.7, 0.971)
"""That point, by NNCF's MIXED preset under OpenVINO. Source: FACTS, measured on a CPU without VNNI."""
IMAGE_SIDE, IMAGES = 224, 64
TOKENS, SENTENCES = 64, 64
NETWORK_WITHIN_S = 300.0


class CaseFailed(RuntimeError):
    """A case can't be judged at all."""


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
        by_hand: the best point that is known, by hand: its speed over ONNX Runtime's float32, its SQNR in dB, and the
            overlap of its mask.
        mask_above: an output is a mask above this value, and its overlap with the source's mask is told too.
    """

    name: str
    source: Path
    runtime: str
    given: Arrays
    report: Arrays
    inputs: tuple[str, ...] = ()
    constraint: str = "sqnr >= 20dB"
    by_hand: tuple[float, float, float] | None = None
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
        given, report = parted({"input_2": tones(32)})
        return Case("basic-pitch", folder / "basic-pitch", "tensorflow", given, report)

    return {
        "digits": digits,
        "text-detection-640": lambda: detection(HAND_SIZE, 32, constraint="sqnr >= 17.2dB", by_hand=BY_HAND),
        "mobilenet-v2": lambda: _network(folder, "mobilenet-v2", photographs(IMAGES, IMAGE_SIDE)),
        "transformer": lambda: _network(folder, "transformer", _sentences()),
        "resnet-18": lambda: _network(folder, "resnet-18", photographs(IMAGES, IMAGE_SIDE)),
        "basic-pitch": pitch,
        "text-detection": lambda: detection(480, 32),
    }


def _network(folder: Path, name: str, rows: NDArray[Any]) -> Case:
    """Make a network of FACTS in the builder's environment, with seeded weights; its statistics see no report's row."""
    given, report = parted({GIVEN[name]: rows})
    target, samples = folder / f"quality-{name}.pt2", folder / f"quality-{name}.npz"
    if not target.is_file():
        np.savez(samples, allow_pickle=False, **given)
        python, partial = ENVIRONMENTS / "builder" / "bin" / "python", target.with_name(f"partial-{target.name}")
        argv = [str(python), "-m", "benchmarks.quality_networks", name, str(samples), str(partial)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=NETWORK_WITHIN_S)
        if done.returncode != 0:
            raise CaseFailed(f"{name} can't be made: {done.stderr.strip()[-300:]}")
        partial.rename(target)
    return Case(name, target, "torch-exported-program", given, report)


def _sentences() -> NDArray[np.int64]:
    """Draw token ids: (64, 64), each below 1000."""
    return np.random.default_rng(0).integers(0, WORDS, (SENTENCES, TOKENS))


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
