"""Let MLPerf's LoadGen drive a model under LiteRT: python -m benchmarks.peer_loadgen MODEL SECONDS QPS FOLDER.

QPS 0 is single_stream, else server. Prints JSON: percentiles of latency in microseconds as LoadGen tells them, and as
our clocks and our arithmetic tell them of the very same queries (single_stream only, where a latency is a call).

Source: LoadGen's Python bindings (`mlperf_loadgen`), its demos py_demo_single_stream.py and py_demo_server.py.
"""

from __future__ import annotations

import gc
import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from farm.domain.statistics.quantiles import percentile
from workers.runtimes import load_runtimes
from workers.stages.measure.timing import Clocks, take_sample
from workers.stages.samples import seeded_probe

WARM_UP = 10
PERCENTS = {"p50": 50.0, "p90": 90.0, "p99": 99.0}
_TOLD = re.compile(r"^(50|90|99)\.00 percentile latency \(ns\)\s*: (\d+)$", re.MULTILINE)


def main(model: Path, seconds: float, qps: float, folder: Path) -> None:
    session = load_runtimes()["litert"].load(model, threads=1)
    feeds = seeded_probe(session.inputs, positive=True)
    for _ in range(WARM_UP):
        session.run(feeds)
    ours: list[float] = []
    drive(lambda: ours.append(take_sample(lambda: session.run(feeds), 1, Clocks()).wall_us), seconds, qps, folder)
    summary = (folder / "mlperf_log_summary.txt").read_text()
    told = {f"p{percent}": int(nanoseconds) / 1000 for percent, nanoseconds in _TOLD.findall(summary)}
    ordered = sorted(ours)
    mine = {name: percentile(ordered, percent) for name, percent in PERCENTS.items()} if not qps else {}
    sys.stdout.write(json.dumps({"loadgen": told, "ours": mine, "queries": len(ours)}) + "\n")


def drive(query: Any, seconds: float, qps: float, folder: Path) -> None:
    """Have LoadGen send queries of one sample, one after the other or at random."""
    loadgen = importlib.import_module("mlperf_loadgen")

    def issue(samples: Any) -> None:
        for sample in samples:
            query()
            loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(sample.id, 0, 0)])

    settings = loadgen.TestSettings()
    settings.scenario = loadgen.TestScenario.Server if qps else loadgen.TestScenario.SingleStream
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = round(seconds * 1000)
    settings.min_query_count = 300
    if qps:
        settings.server_target_qps = qps
    logs = loadgen.LogSettings()
    logs.log_output.outdir = str(folder)
    logs.log_output.copy_summary_to_stdout = False
    gc.disable()
    tested, library = loadgen.ConstructSUT(issue, _nothing), loadgen.ConstructQSL(1, 1, _nothing, _nothing)
    loadgen.StartTestWithLogSettings(tested, library, settings, logs)
    loadgen.DestroyQSL(library)
    loadgen.DestroySUT(tested)


def _nothing(*given: Any) -> None:
    """Flush no query, load and unload no sample."""


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]))
