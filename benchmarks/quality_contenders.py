"""Who takes part in the quality bench: the farm's results, Olive's files, a recipe found by hand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality_models import Case
from benchmarks.stand import ENVIRONMENTS, Stand
from farm.domain.pace import MAY_BE_SLOWER
from farm.domain.verdict import Verdict
from workers.sandbox.environment import TOOLCHAINS

ROOT = Path(__file__).parents[1]
CONTENDERS = ROOT / "benchmarks" / "contenders"
OLIVE_WITHIN_S, HAND_WITHIN_S = 180.0, 120.0


@dataclass(frozen=True, slots=True)
class Contender:
    """A file to be judged, or why there is none.

    Attributes:
        contract: how the source's tensors appear in it, as JSON; None when they are named as in the source.
        files: digests of its files, by which equal ones are measured once.
        admits: the farm said that it is slower than float, or that it may be.
        unmeasured: the farm said that its own measurement of it does not count.
        is_absent: what should have made it did not run here, so nothing is known of it.
        is_front: it is on the Pareto front of the farm's answer.
    """

    name: str
    runtime: str
    path: Path | None
    contract: Any = None
    cell: tuple[str, str] | None = None
    megabytes: float | None = None
    files: frozenset[str] = frozenset()
    admits: bool = False
    unmeasured: bool = False
    is_absent: bool = False
    is_front: bool = False
    error: str | None = None

    def named(self, name: str) -> Contender:
        return replace(self, name=f"{name} ({self.name})")


@dataclass(frozen=True, slots=True)
class Workshop:
    """One case's folder with its samples on disk."""

    case: Case
    folder: Path
    calibration: Path = field(init=False)
    given: Path = field(init=False)
    report: Path = field(init=False)

    def __post_init__(self) -> None:
        arrays = {
            "calibration": self.case.given,
            "given": {name: array[:, None] for name, array in self.case.given.items()},
            "report": {f"input/{name}": array for name, array in self.case.report.items()},
        }
        for name, columns in arrays.items():
            path = self.folder / f"{name}.npz"
            np.savez(path, allow_pickle=False, **columns)
            object.__setattr__(self, name, path)

    def float_onnx(self, contenders: Sequence[Contender]) -> Path | None:
        """Find the float32 ONNX that the farm made: what Olive and the hand begin with."""
        found = (one.path for one in contenders if one.cell == ("onnxruntime", "float32"))
        return self.case.source if self.case.source.suffix == ".onnx" else next(found, None)


def from_report(stand: Stand, report: Mapping[str, Any], shop: Workshop) -> list[Contender]:
    """Fetch the files of a job's results."""
    job = stand.client.job(str(report["job"]))
    into = shop.folder / str(report["job"])
    job.download(into)
    return [_result(stand, result, into) for result in report["results"]]


def _result(stand: Stand, result: Mapping[str, Any], folder: Path) -> Contender:
    runtime, recipe = str(result["target_runtime"]), str(result["recipe"])
    name = f"{runtime} {recipe}"
    if result["state"] != "succeeded":
        return Contender(name, runtime, None, cell=(runtime, recipe), error=str(result.get("message"))[:200])
    files = result["artifact"]["files"]
    at = folder / "/".join(str(result[part]) for part in ("model", "target", "target_runtime", "recipe"))
    return Contender(
        name,
        runtime,
        opened(at, [str(one["name"]) for one in files]),
        contract=_contract(stand, result),
        cell=(runtime, recipe),
        megabytes=result["artifact"]["size_bytes"] / 1e6,
        files=frozenset(str(one["sha256"]) for one in files),
        admits=admits(result),
        unmeasured=Verdict.INVALID_MEASUREMENT.value in result["verdicts"],
    )


def opened(at: Path, names: Sequence[str]) -> Path:
    """Say what a runtime opens of a result's files, which lie at `at`: a folder where the format is one."""
    for name in names:
        if name.endswith((".xml", "saved_model.pb")):
            return (at / name).parent
    return at if "/" in names[0] else at / names[0]


def admits(result: Mapping[str, Any]) -> bool:
    """Tell whether a result says that it is, or may be, slower than float32."""
    told = (str(note) for note in result.get("notes", ()))
    return Verdict.SLOWER_THAN_FLOAT.value in result["verdicts"] or any(MAY_BE_SLOWER in note for note in told)


def _contract(stand: Stand, result: Mapping[str, Any]) -> Any:
    """Return the contract of the last stage that made one."""
    ids = [step["step"] for step in result["steps"]]
    rows = dict(stand.rows("SELECT id, contract FROM step WHERE id = ANY(:ids)", {"ids": ids}))
    found = [rows[one] for one in ids if rows.get(one)]
    return found[-1] if found else None


def olive(shop: Workshop, model: Path) -> tuple[list[Contender], float]:
    """Let Olive try its ways on the same model and the same samples, without a network; return its seconds too.

    What Olive itself failed at is a file that is none; a way that it never came to is absent.
    """
    into = shop.folder / "olive"
    into.mkdir()
    argv = [str(CONTENDERS / "olive.py"), str(model.resolve()), str(shop.given), str(into)]
    started = time.perf_counter()
    error = _call("olive", argv, OLIVE_WITHIN_S, {"CI": "true"})
    seconds = time.perf_counter() - started
    written = into / "olive.json"
    told = json.loads(written.read_text()) if written.is_file() else {}
    made = [
        Contender(f"Olive {name}", "onnxruntime", Path(one["path"]), megabytes=_megabytes(Path(one["path"])))
        if "path" in one
        else Contender(f"Olive {name}", "onnxruntime", None, error=one["error"])
        for name, one in told.items()
    ]
    missing = Contender("Olive, its other ways" if made else "Olive", "onnxruntime", None, is_absent=True, error=error)
    return [*made, *([missing] if error is not None or not made else [])], seconds


def by_hand(shop: Workshop, model: Path) -> list[Contender]:
    """Make the file that is the best by hand; without it nothing is known of that point here."""
    into = shop.folder / "hand"
    into.mkdir()
    shapes = [f"{name}={','.join(map(str, array.shape[1:]))}" for name, array in shop.case.report.items()]
    argv = [str(CONTENDERS / "by_hand.py"), str(model.resolve()), str(shop.given), str(into), *shapes]
    error = _call("builder", argv, HAND_WITHIN_S, {})
    if error is not None:
        return [Contender("by hand: NNCF MIXED", "openvino", None, is_absent=True, error=error)]
    return [Contender("by hand: NNCF MIXED", "openvino", into, megabytes=_megabytes(into))]


def without_network() -> tuple[str, ...]:
    """Return the words that start a command where no network is; none where this user may not make such a place."""
    alone = ("unshare", "--map-root-user", "--net")
    if shutil.which(alone[0]) is None:
        return ()
    return alone if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode == 0 else ()


def _call(environment: str, argv: Sequence[str], within_s: float, told: Mapping[str, str]) -> str | None:
    """Run a script in an environment; return the end of what it said when it failed."""
    python = ENVIRONMENTS / environment / "bin" / "python"
    if not python.is_file():
        return f"environment {environment} is missing: run `python -m workers.environments install {environment}`"
    try:
        done = subprocess.run(
            [*without_network(), str(python), "-P", *argv],
            env={**os.environ, **TOOLCHAINS, **told},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=within_s,
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {within_s:g} s"
    return None if done.returncode == 0 else done.stdout.strip()[-300:]


def _megabytes(path: Path) -> float:
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(one.stat().st_size for one in files) / 1e6
