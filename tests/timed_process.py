"""Time one model under one runtime in this process: python timed_process.py RUNTIME MODEL SECONDS prints JSON."""

import json
import sys
from pathlib import Path

from workers.runtimes import load_runtimes
from workers.stages.measure.timing import Effort, time_calls
from workers.stages.samples import seeded_probe


def main(runtime: str, model: str, seconds: float) -> None:
    session = load_runtimes()[runtime].load(Path(model), threads=1)
    feeds = seeded_probe(session.inputs, positive=True)
    timed = time_calls(lambda: session.run(feeds), Effort(min_runs=15, min_s=seconds, max_s=60.0))
    sys.stdout.write(json.dumps({"wall": timed.times_us, "cpu": timed.cpu_times_us}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
