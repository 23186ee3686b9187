"""Run one contender once: `python -m benchmarks.contenders.process REQUEST.json`; prints JSON.

The request names runtime, model, contract (null: names as they are) and samples (.npz, `input/NAME` by the source's
names). With `outputs` all samples are run and what came out is written there by the source's names; else the first one
is timed, on one thread. Times are microseconds, of the wall's clock and of the processor.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from farm.domain.artifact import Binding, Contract
from farm.domain.codec import decode
from farm.domain.facts import TensorSpec
from workers.runtimes import Session, load_runtimes
from workers.runtimes.binding import to_artifact, to_source
from workers.stages.measure.timing import Effort, time_calls

Array = NDArray[Any]


def main(request: dict[str, Any]) -> dict[str, Any]:
    session = load_runtimes()[request["runtime"]].load(Path(request["model"]), threads=1)
    samples = _samples(Path(request["samples"]))
    contract = decode(Contract, request["contract"]) if request["contract"] else _as_named(session, samples[0])
    feeds = [to_artifact(sample, contract.inputs) for sample in samples]
    if request.get("outputs"):
        found = [to_source(session.run(feed), contract.outputs) for feed in feeds]
        arrays = {name: np.stack([np.asarray(one[name]) for one in found]) for name in found[0]}
        np.savez(request["outputs"], allow_pickle=False, **arrays)
        return {"finite": all(bool(np.isfinite(array).all()) for array in arrays.values())}
    timed = time_calls(lambda: session.run(feeds[0]), Effort(min_runs=20, min_s=1.0, max_s=20.0))
    return {"wall_us": statistics.median(timed.times_us), "cpu_us": statistics.median(timed.cpu_times_us)}


def _samples(path: Path) -> list[dict[str, Array]]:
    with np.load(path, allow_pickle=False) as archive:
        columns = {name.removeprefix("input/"): archive[name] for name in archive.files}
    count = len(next(iter(columns.values())))
    return [{name: column[row] for name, column in columns.items()} for row in range(count)]


def _as_named(session: Session, sample: dict[str, Array]) -> Contract:
    """Bind the source's inputs by name, or by order where the tool renamed them; outputs go by order."""
    names = {spec.name for spec in session.inputs}
    pairs = zip(sample, session.inputs, strict=True)
    inputs = [next((s for s in session.inputs if s.name == name), spec) for name, spec in pairs]
    if not names >= set(sample):
        inputs = list(session.inputs)
    sources = [TensorSpec(name, str(array.dtype), array.shape) for name, array in sample.items()]
    bindings = tuple(Binding(source, artifact) for source, artifact in zip(sources, inputs, strict=True))
    return Contract(bindings, tuple(Binding(spec, spec) for spec in session.outputs))


if __name__ == "__main__":
    print(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
