"""Run calls of stages one after the other, and hold what each transform made against what its source computes.

The comparison is the farm's own, of the source's reference run and the artifact under its runtime, outside of the stage
that made it: a stage's own figure is not believed. `python compared_answers.py WORK…` writes WORK/compared.json beside
each transform's result; `python compared_answers.py --made FILE WORK` compares another file, made as WORK's was.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from farm.domain.artifact import Contract
from farm.domain.codec import decode
from farm.domain.stage import TRANSFORMS, Options, StageInput
from tests.child_processes import refused
from workers.runtimes import runtime_of
from workers.stages import load_specs
from workers.stages.compare.run_artifact import run_compare
from workers.stages.harness import main as run_stage
from workers.stages.reference.run_source import ReferenceOptions, run_source

COMPARED = "compared.json"
References = dict[str, Path]


def compare(work: Path, made: Path, references: References) -> dict[str, Any]:
    """Return the numerics of the file `made` by the call in `work`, or by another that should do the same."""
    call, result = (json.loads((work / name).read_text()) for name in ("call.json", "result.json"))
    spec, model = load_specs()[call["stage"]], call["files"]["model"]
    told = {name: call["options"].get(name) for name in ("input_specs", "output_specs", "ranges")}
    assert spec.source is not None
    assert spec.target is not None
    if call["contract"] is not None:
        raise ValueError(f"{spec.name} was given no source but what another stage made of it.")
    if model not in references:
        options = decode(ReferenceOptions, told | {"samples": 4})
        given = StageInput({"model": Path(model)}, options, {}, None, Path(tempfile.mkdtemp(dir=work)))
        references[model] = run_source(runtime_of(spec.source), given).files["samples"]
    files = {"model": made, "samples": references[model]}
    contract = decode(Contract, result["contract"])
    given = StageInput(files, decode(Options, told), {}, contract, Path(tempfile.mkdtemp(dir=work)))
    numerics: dict[str, Any] = run_compare(runtime_of(spec.target), given).facts["numerics"]
    return numerics


def main(works: list[Path]) -> None:
    references: References = {}
    for work in works:
        with refused(load_specs()[json.loads((work / "call.json").read_text())["stage"]], work):
            run_stage(work)
        call, result = (json.loads((work / name).read_text()) for name in ("call.json", "result.json"))
        if load_specs()[call["stage"]].kind in TRANSFORMS and "outputs" in result and call["contract"] is None:
            found = compare(work, work / result["outputs"]["model"], references)
            (work / COMPARED).write_text(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1] == "--made":
        print(json.dumps(compare(Path(sys.argv[3]), Path(sys.argv[2]), {})))
    else:
        main([Path(name) for name in sys.argv[1:]])
