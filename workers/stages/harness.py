"""Run one stage in a child process: work/call.json in, work/result.json out, everything else in work/out.

The parent treats result.json as data from an untrusted process.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from farm.domain.artifact import Contract
from farm.domain.codec import decode, encode
from farm.domain.errors import BadRequest, FarmBug, FarmError
from farm.domain.stage import StageInput, StageOutput, StageSpec
from workers.stages import load_specs
from workers.stages.foreign import translate
from workers.stages.wording import plain, plain_json

CALL, RESULT, OUT = "call.json", "result.json", "out"


@dataclass(frozen=True, slots=True)
class Call:
    """What the parent asks for; `files` are absolute, or relative to the work folder."""

    stage: str
    options: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    profile: Mapping[str, Any] = field(default_factory=dict)
    contract: Contract | None = None


def main(work: Path) -> None:
    """Answer the call that lies in `work`; a failure is an answer too.

    The traceback of an exception that is not a FarmError goes to stderr, which is the step's log.
    """
    try:
        result = _answer(work)
    except FarmError as exc:
        result = {"failure": _failure(exc)}
    except (Exception, SystemExit) as exc:
        traceback.print_exc()
        result = {"failure": _failure(translate(exc))}
    unfinished = work / f"{RESULT}.part"
    unfinished.write_text(json.dumps(result, allow_nan=False))
    unfinished.rename(work / RESULT)


def _answer(work: Path) -> dict[str, Any]:
    call = decode(Call, json.loads((work / CALL).read_text()))
    spec = _spec(call.stage)
    out = work / OUT
    out.mkdir()
    output = spec.run(
        StageInput(
            files={role: work / path for role, path in call.files.items()},
            options=_options(spec, call.options),
            profile=call.profile,
            contract=call.contract,
            work=out,
        )
    )
    return {
        "outputs": {name: _relative(path, work) for name, path in output.files.items()},
        "facts": _finite_json(output),
        "contract": encode(output.contract),
        "reproduce": plain(output.reproduce) if output.reproduce else None,
        "tool_versions": tool_versions(spec),
    }


def _spec(name: str) -> StageSpec:
    try:
        return load_specs()[name]
    except KeyError:
        raise FarmBug(f"No stage is called {name!r} in this version of the farm.") from None


def _options(spec: StageSpec, options: Mapping[str, Any]) -> Any:
    try:
        return decode(spec.options, options)
    except ValueError as exc:
        raise BadRequest(f"The options of {spec.name} do not fit: {exc}") from exc


def _relative(path: Path, work: Path) -> str:
    if not path.exists():
        raise FarmBug(f"The stage names an output that does not exist: {path.name}.")
    return str(path.relative_to(work))


def _finite_json(output: StageOutput) -> Any:
    """Encode facts, which must be JSON: NaN and infinity have no place in a report."""
    facts = encode(output.facts)
    try:
        json.dumps(facts, allow_nan=False)
    except ValueError as exc:
        raise FarmBug(f"The stage's facts are not JSON: {exc}") from exc
    return facts


def tool_versions(spec: StageSpec) -> dict[str, str]:
    """Return the installed version of each package the stage declares."""
    found = {}
    for package in spec.tools:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _failure(exc: FarmError) -> dict[str, Any]:
    failure: dict[str, Any] = plain_json(encode(exc.failure))
    return failure


if __name__ == "__main__":
    main(Path(sys.argv[1]))
