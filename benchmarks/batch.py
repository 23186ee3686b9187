"""Five models for three targets: the farm against a naive script that starts a fresh process for each cell.

The farm gets three jobs at once, one per target. As in `conversions`, a first round fills it with measurements, then
every other step is forgotten, so that what is timed is all work but measuring. The script's failures are counted.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.conversions import CODE_ROOT, SURROUNDINGS, timed
from benchmarks.figures import Figure
from benchmarks.stand import ENVIRONMENTS, Say, Stand
from demo.models import F32, from_wheel, photographs, prepare, save

FOLDER = Path(".farm") / "demo"
WHEEL = "rapidocr-onnxruntime==1.4.4"
SAMPLES = 16
SCRIPT = Path(__file__).with_name("naive_script.py")
LONGEST_CELL_S = 300


@dataclass(frozen=True, slots=True)
class Case:
    """A model of the batch, its calibration data, and the shape that an open input gets."""

    model: str
    calibration: str
    input: str | None = None


@dataclass(frozen=True, slots=True)
class Aim:
    """A target of the batch: its name in the script, and the runtime and recipe that the farm is asked for."""

    script: str
    runtime: str
    recipe: str


CASES = (
    Case("text-detection.onnx", "batch-detection.npz", "x:float32[1,3,480,480]"),
    Case("text-recognition.onnx", "batch-recognition.npz", "x:float32[1,3,48,320]"),
    Case("text-direction.onnx", "batch-direction.npz", "x:float32[1,3,48,192]"),
    Case("basic-pitch", "batch-pitch.npz"),
    Case("digits.pt2", "batch-digits.npz"),
)
AIMS = (
    Aim("ort-int8", "onnxruntime", "int8-static"),
    Aim("openvino-int8", "openvino", "int8-static"),
    Aim("tflite-float32", "litert", "float32"),
)


def measure(stand: Stand, say: Say) -> list[Figure]:
    say("five models for three targets")
    _prepare(FOLDER, say)
    job_files = [_job_file(FOLDER, aim) for aim in AIMS]

    def farm() -> list[dict[str, Any]]:
        with ThreadPoolExecutor(len(job_files)) as pool:
            return list(pool.map(lambda path: stand.submit("--file", str(path)), job_files))

    say("the batch, with its measurements")
    farm()
    stand.forget_steps()
    say("the batch without measuring")
    farm_s, reports = timed(farm)
    say("the naive script, a process per cell")
    script_s, failed = timed(lambda: _run_script(stand.data / "naive"))
    arrived = sum(result["verdict"] not in (None, "failed") for report in reports for result in report["results"])
    cells = len(CASES) * len(AIMS)
    return [
        Figure("batch_arrived", arrived, "cells", cells, limit=cells - len(failed), limit_is="naive", at_least=True),
        Figure(
            "batch_vs_naive_ratio",
            farm_s / script_s,
            "ratio",
            aim=0.5,
            limit=1.0,
            limit_is="the naive script",
            beside={"farm s": farm_s, "script s": script_s},
        ),
    ]


def _prepare(folder: Path, say: Say) -> None:
    prepare(folder, say)
    members = {
        "text-recognition.onnx": "ch_PP-OCRv4_rec_infer",
        "text-direction.onnx": "ch_ppocr_mobile_v2.0_cls_infer",
    }
    for name, member in members.items():
        if not (folder / name).exists():
            from_wheel(folder, WHEEL, f"rapidocr_onnxruntime/models/{member}.onnx", name)
    crops = photographs(SAMPLES)
    for name, width in (("batch-recognition.npz", 320), ("batch-direction.npz", 192)):
        save(folder / name, x=_lines(crops, width))
    save(folder / "batch-detection.npz", x=crops)
    for name in ("pitch", "digits"):
        with np.load(folder / f"{name}-calibration.npz") as arrays:
            save(folder / f"batch-{name}.npz", **{key: array[:SAMPLES] for key, array in arrays.items()})


def _lines(crops: F32, width: int) -> F32:
    """Cut a line of text's height out of each crop: (N, 3, 480, 480) to (N, 3, 48, width)."""
    tops = np.random.default_rng(0).integers(0, crops.shape[2] - 48, len(crops))
    return np.stack([crop[:, top : top + 48, :width] for crop, top in zip(crops, tops, strict=True)])


def _job_file(folder: Path, aim: Aim) -> Path:
    lines = [
        f'name = "batch {aim.script}"',
        'target = ["auto"]',
        f'runtime = ["{aim.runtime}"]',
        f'recipe = ["{aim.recipe}"]',
        'max_measurement_age = "24h"',
    ]
    for case in CASES:
        lines += ["[[model]]", f'path = "{case.model}"', f'calibration = "{case.calibration}"']
        lines += [f"input = [{json.dumps(case.input)}]"] if case.input else []
    path = folder / f"batch-{aim.script}.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def _run_script(folder: Path) -> Sequence[str]:
    """Run the script for every cell, one after the other; return the cells that failed."""
    failed = []
    for case in CASES:
        for aim in AIMS:
            made = folder / case.model / aim.script
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir(parents=True)
            environment = "onnx2tf" if aim.runtime == "litert" and case.model.endswith(".onnx") else "builder"
            binaries = ENVIRONMENTS / environment / "bin"
            given = (FOLDER / case.model, aim.script, FOLDER / case.calibration, made)
            told = {**os.environ, **SURROUNDINGS, "PATH": f"{binaries}:{os.environ['PATH']}"}
            with (made / "log").open("wb") as log:
                done = subprocess.run(
                    [binaries / "python", SCRIPT, *(str(one) for one in given)],
                    env=told,
                    cwd=CODE_ROOT,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    timeout=LONGEST_CELL_S,
                    check=False,
                )
            if done.returncode != 0:
                failed.append(f"{case.model} for {aim.script}")
    return failed
