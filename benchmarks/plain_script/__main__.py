"""Convert, quantize and compare as a script would: `python -m benchmarks.plain_script WORKLIST.json FOLDER`.

The worklist names the calls in an order in which each finds what it needs: stage, environment, options, profile, and
per role a file, or the output of an earlier call. There is no ledger, queue, store or sandbox; one process per
environment is started at its first call and imports its toolchains once.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

Process = subprocess.Popen[str]


def main(worklist: Path, folder: Path) -> None:
    told = json.loads(worklist.read_text())
    made: dict[str, dict[str, Any]] = {}
    with ExitStack() as running:
        processes: dict[str, Process] = {}
        for number, call in enumerate(told["calls"]):
            name = call["environment"]
            if name not in processes:
                processes[name] = running.enter_context(_process(Path(told["environments"]) / name))
            made[call["key"]] = _call(processes[name], call, made, folder / str(number))


@contextmanager
def _process(environment: Path) -> Iterator[Process]:
    command = [str(environment / "bin" / "python"), "-m", "benchmarks.plain_script.process"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process


def _call(process: Process, call: dict[str, Any], made: dict[str, dict[str, Any]], work: Path) -> dict[str, Any]:
    """Have one call made; return its result with paths that hold from anywhere."""
    work.mkdir(parents=True)
    earlier = {role: made[key]["outputs"][output] for role, (key, output) in call["made"].items()}
    source = call["made"].get("model")
    asked = {
        "stage": call["stage"],
        "options": call["options"],
        "files": call["files"] | earlier,
        "profile": call["profile"],
        "contract": made[source[0]]["contract"] if source else None,
    }
    (work / "call.json").write_text(json.dumps(asked))
    print(work, file=process.stdin, flush=True)
    if process.stdout is None or not process.stdout.readline():
        sys.exit(f"The process for {call['stage']} died.")
    result: dict[str, Any] = json.loads((work / "result.json").read_text())
    if result.get("failure"):
        sys.exit(f"{call['stage']} failed: {result['failure']['message']}")
    result["outputs"] = {name: str(work / path) for name, path in result["outputs"].items()}
    return result


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
