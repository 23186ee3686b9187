"""Our times beside those of the tools that others measure with, on the same files in the same run.

Ten networks run under LiteRT and OpenVINO, one thread on one core, by our measuring stage, by litert-benchmark and by
benchmark_app, and by MLPerf's LoadGen. All are processes of their own and take turns; the median of the rounds counts.
LoadGen is held against ours twice: on the very same queries, which tells whether clocks and arithmetic agree, and by
processes that take turns, which also holds what the machine did between them.

Sources of the calls: `litert-benchmark --help` (ai-edge-litert), `benchmark_app --help` (openvino), LoadGen's Python
demos.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.figures import Figure
from benchmarks.stand import ENVIRONMENTS, Say
from demo.models import from_wheel
from farm.domain.codec import decode
from farm.domain.measurement import ProcessRun, summarize
from workers.host.affinity import pinned
from workers.sandbox.environment import TOOLCHAINS

CODE_ROOT = Path(__file__).parents[1]
BUILT = CODE_ROOT / "build" / "peers"
LOADGEN = "mlcommons-loadgen==6.0.17"
LOADGEN_MODULE = "mlperf_loadgen.cpython-311-x86_64-linux-gnu.so"
ROUNDS = 3
SECONDS = 1.0
LOADGEN_SECONDS = 2.0
SERVERS = 3
"""So many of the models are asked at random as well."""
SERVER_LOAD = 0.3
"""Queries per second asked for, as a share of what the model answers one after the other."""
PERCENTS = ("p50", "p90", "p99")
_LITERT = re.compile(r"Inference \(median\):\s+([\d.]+) (us|ms|s)\b")
_OPENVINO = re.compile(r"Median:\s+([\d.]+) (us|ms|s)\b")
_MICROSECONDS = {"us": 1.0, "ms": 1e3, "s": 1e6}

Take = Callable[[Path], dict[str, float]]
"""Times one file: microseconds by name."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Ours and theirs of one model, round by round, in microseconds."""

    model: str
    ours: Sequence[float]
    theirs: Sequence[float]

    @property
    def ratio(self) -> float:
        """Give how far apart their medians are: 1 is none, 1.05 is five percent either way."""
        return _apart(median(self.ours), median(self.theirs))

    @property
    def ratio_of_best(self) -> float:
        """Compare each side's best round: what is left of a difference when other work is."""
        return _apart(min(self.ours), min(self.theirs))


def measure(say: Say) -> list[Figure]:
    models = prepare(say)
    core = {max(os.sched_getaffinity(0))}
    with pinned(core), tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        litert = take_turns(models, "litert", ".tflite", litert_benchmark, work, say)
        openvino = take_turns(models, "openvino", ".xml", benchmark_app, work, say)
        same, apart, server = against_loadgen(models, work, say)
    return [
        _figure("peer_litert_benchmark_median_ratio", litert, 1.05, "litert-benchmark"),
        _figure("peer_benchmark_app_median_ratio", openvino, 1.05, "benchmark_app"),
        _figure("peer_loadgen_same_queries_percentile_ratio", same, 1.03, "LoadGen, same queries"),
        _figure("peer_loadgen_taking_turns_percentile_ratio", apart, 1.03, "LoadGen, other processes"),
        _figure("peer_loadgen_server_percentile_ratio", server, 1.03, "LoadGen's server, other processes"),
    ]


def prepare(say: Say) -> list[str]:
    """Make the models and fetch LoadGen, unless they are there. Returns: the models' names."""
    BUILT.mkdir(parents=True, exist_ok=True)
    if not (BUILT / LOADGEN_MODULE).exists():
        say(f"fetching {LOADGEN}")
        from_wheel(BUILT, LOADGEN, LOADGEN_MODULE, LOADGEN_MODULE)
    if len(list(BUILT.glob("*.xml"))) < 10:
        say("making ten networks, as TFLite and OpenVINO IR")
        _run(["builder/bin/python", "-m", "benchmarks.peer_models", str(BUILT)])
    return sorted(path.stem for path in BUILT.glob("*.xml"))


def take_turns(
    models: Sequence[str], runtime: str, ending: str, theirs: Callable[[Path], float], work: Path, say: Say
) -> list[Pair]:
    """Measure every model by our stage and by the other tool, in turn."""
    pairs = []
    for model in models:
        file = BUILT / f"{model}{ending}"
        turns = [(ours(runtime, file, work)["p50"], theirs(file)) for _ in range(ROUNDS)]
        pairs.append(Pair(model, *zip(*turns, strict=True)))
        say(f"{runtime} {model}: {_shown(pairs[-1])}")
    return pairs


def ours(runtime: str, file: Path, work: Path, **options: Any) -> dict[str, float]:
    """Run one process of our measuring stage, without the sandbox, and give its percentiles in microseconds."""
    folder = Path(tempfile.mkdtemp(dir=work))
    call = {
        "stage": f"measure-{runtime}",
        "options": {"min_s": SECONDS, **options},
        "files": {"model": str(file if file.suffix != ".xml" else _alone(file, folder))},
    }
    (folder / "call.json").write_text(json.dumps(call))
    _run([f"{runtime}/bin/python", "-m", "workers.stages.harness", str(folder)])
    facts = json.loads((folder / "result.json").read_text())["facts"]
    summary = summarize([decode(ProcessRun, facts)])
    return {name: float(summary[name]) for name in PERCENTS if summary[name] is not None}


def litert_benchmark(file: Path) -> float:
    """Give litert-benchmark's median in microseconds."""
    one = ["--num_threads=1", f"--num_runs={_runs(file)}"]
    said = _run(["litert/bin/litert-benchmark", f"--model={file}", *one])
    return microseconds(_LITERT, said)


def benchmark_app(file: Path) -> float:
    """Give benchmark_app's median in microseconds."""
    one = ["-hint", "none", "-nthreads", "1", "-nstreams", "1", "-api", "sync", "-pin", "NO"]
    said = _run(["openvino/bin/benchmark_app", "-m", str(file), "-infer_precision", "f32", *one, "-niter", _runs(file)])
    return microseconds(_OPENVINO, said)


def against_loadgen(models: Sequence[str], work: Path, say: Say) -> tuple[list[Pair], list[Pair], list[Pair]]:
    """Hold percentiles against LoadGen's: of the same queries, of processes in turn, and of servers in turn."""
    same, apart, server = [], [], []
    for number, model in enumerate(models):
        file = BUILT / f"{model}.tflite"
        turns = [(ours("litert", file, work, min_s=LOADGEN_SECONDS), loadgen(file, work)) for _ in range(ROUNDS)]
        same += _pairs(model, [(one["ours"], one["loadgen"]) for _, one in turns])
        apart += _pairs(model, [(mine, one["loadgen"]) for mine, one in turns])
        if number < SERVERS:
            qps = SERVER_LOAD * 1e6 / median(mine["p50"] for mine, _ in turns)
            asked = {"scenario": "server", "target_qps": qps, "min_s": LOADGEN_SECONDS}
            served = [(ours("litert", file, work, **asked), loadgen(file, work, qps)["loadgen"]) for _ in range(ROUNDS)]
            server += _pairs(model, served)
        say(f"LoadGen {model}: same queries {_shown(same[-1])}; in turn {_shown(apart[-1])}")
    return same, apart, server


def _pairs(model: str, turns: Sequence[tuple[Mapping[str, float], Mapping[str, float]]]) -> list[Pair]:
    """Pair every percentile that both sides told in every round."""
    told = [name for name in PERCENTS if all(name in side for turn in turns for side in turn)]
    return [Pair(f"{model} {name}", [a[name] for a, _ in turns], [b[name] for _, b in turns]) for name in told]


def loadgen(file: Path, work: Path, qps: float = 0.0) -> dict[str, dict[str, float]]:
    folder = tempfile.mkdtemp(dir=work)
    arguments = [str(file), str(LOADGEN_SECONDS), str(qps), folder]
    said = _run(["litert/bin/python", "-m", "benchmarks.peer_loadgen", *arguments])
    told: dict[str, dict[str, float]] = json.loads(said.splitlines()[-1])
    return told


def _figure(name: str, pairs: Sequence[Pair], aim: float, peer: str) -> Figure:
    worst = max(pairs, key=lambda pair: pair.ratio)
    beside = {f"median of {len(pairs)}": median(pair.ratio for pair in pairs), f"worst: {worst.model}": worst.ratio}
    beside |= {
        "share within": sum(pair.ratio <= aim for pair in pairs) / len(pairs),
        "median of best rounds": median(pair.ratio_of_best for pair in pairs),
        "load of the machine": os.getloadavg()[0],
    }
    return Figure(name, worst.ratio, "ratio", aim, 1.0, f"= {peer}", beside)


def _apart(ours: float, theirs: float) -> float:
    return max(ours / theirs, theirs / ours)


def _shown(pair: Pair) -> str:
    return f"ours {median(pair.ours) / 1000:.3f} ms, theirs {median(pair.theirs) / 1000:.3f} ms, apart {pair.ratio:.3f}"


def _runs(file: Path) -> str:
    """Give calls for about a second; a first look at our own time decides, once for each file."""
    if file not in _CALLS:
        runtime = "openvino" if file.suffix == ".xml" else "litert"
        with tempfile.TemporaryDirectory() as scratch:
            _CALLS[file] = max(50, round(SECONDS * 1e6 / ours(runtime, file, Path(scratch), min_s=0.1)["p50"]))
    return str(_CALLS[file])


_CALLS: dict[Path, int] = {}


def _alone(file: Path, folder: Path) -> Path:
    """Give an IR a folder of its own, as an artifact has it."""
    model = folder / "model"
    model.mkdir()
    for part in (file, file.with_suffix(".bin")):
        (model / part.name).write_bytes(part.read_bytes())
    return model


def _run(command: Sequence[str]) -> str:
    """Run a program of an environment; its output is shown when it fails."""
    paths = f"{CODE_ROOT}:{BUILT}"
    surroundings = {**os.environ, **TOOLCHAINS, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": paths}
    done = subprocess.run(
        [str(ENVIRONMENTS / command[0]), *command[1:]],
        env=surroundings,
        cwd=CODE_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.stderr.write(done.stdout)
        raise subprocess.CalledProcessError(done.returncode, list(command))
    return done.stdout


def microseconds(pattern: re.Pattern[str], said: str) -> float:
    """Read the time that a tool says, in whatever unit: benchmark_app takes a smaller one for a fast model.

    Raises:
        LookupError: it says none.
    """
    found = pattern.search(said)
    if found is None:
        raise LookupError(f"No line like {pattern.pattern!r} in:\n{said}")
    return float(found[1]) * _MICROSECONDS[found[2]]
