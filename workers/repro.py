"""The bundle that shows a failure to a toolchain's authors: a small model, a script, versions, and what to expect."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm.domain.codec import encode
from farm.domain.signature import Signature
from farm.domain.stage import StageSpec
from workers import environments
from workers.results import check_plain

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""So that equal bundles are equal bytes."""

README = """\
# A small model that {stage} fails on

    {signature}

model.onnx holds {nodes} of the original's {original_nodes} nodes: {operators}.
{minimal}

## Repeat it
In a checkout of the farm, in its environment `{environment}` (`python -m workers.environments install {environment}`):

    PYTHONPATH=. .envs/{environment}/bin/python repro.py

The script ends with 1 when the stage fails, with 0 when it succeeds, and by the signal when the tool crashes.
A stage that hangs does not end: {limit}. Versions are in versions.txt.

## What is in the model
Nothing the original was trained to: weights{samples} are random, from one seed. Operators, their settings, shapes and
types are the original's. Small constants that steer the graph keep their values, since nothing runs without them:
shapes, axes, indices, zero points and sizes (at most 64 integers, or 8 numbers of an operator's settings). Names are
numbers; descriptions and metadata are gone.
"""

SCRIPT = '''\
"""Repeat the failure that README.md describes: `PYTHONPATH=FARM python repro.py`, in the environment it names."""

import json
import sys
import tempfile
from pathlib import Path

from farm.domain.codec import decode
from farm.domain.errors import FarmError
from farm.domain.signature import signature_of
from farm.domain.stage import StageInput
from workers.stages import load_specs
from workers.stages.foreign import translate

HERE = Path(__file__).resolve().parent
CALL = json.loads(r"""{call}""")


def main() -> int:
    spec = load_specs()[CALL["stage"]]
    files = {{role: HERE / name for role, name in CALL["files"].items()}}
    with tempfile.TemporaryDirectory() as work:
        given = StageInput(files, decode(spec.options, CALL["options"]), CALL["profile"], None, Path(work))
        try:
            spec.run(given)
        except FarmError as error:
            failure = error.failure
        except (Exception, SystemExit) as error:
            failure = translate(error).failure
        else:
            print("The stage succeeded: this version does not fail on the model.")
            return 0
    found = str(signature_of(failure))
    print(failure.message, found, sep="\\n\\n")
    print("The same failure." if found == CALL["signature"] else "Another failure: " + CALL["signature"])
    return 1


if __name__ == "__main__":
    sys.exit(main())
'''


@dataclass(frozen=True, slots=True)
class Repro:
    """What a bundle is made of; every file of it was made by the cutter, none is the submitter's."""

    stage: StageSpec
    options: Mapping[str, Any]
    profile: Mapping[str, Any]
    files: Mapping[str, Path]
    signature: Signature
    facts: Mapping[str, Any]

    @property
    def call(self) -> str:
        told = {
            "stage": self.stage.name,
            "options": encode(self.options),
            "files": {role: _name(role) for role in self.files},
            "profile": encode(self.profile),
            "signature": str(self.signature),
        }
        return json.dumps(told, indent=2, sort_keys=True)


def write_repro(repro: Repro, path: Path) -> Path:
    """Write the bundle as a zip file; no model is parsed for that.

    Raises:
        OSError: a file is a link, or none.
    """
    texts = {"README.md": _readme(repro), "repro.py": SCRIPT.format(call=repro.call), "versions.txt": _versions(repro)}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, text in texts.items():
            bundle.writestr(_entry(name), text)
        for role, file in {_name(role): file for role, file in repro.files.items()}.items():
            check_plain(file)
            with file.open("rb") as opened, bundle.open(_entry(role), "w", force_zip64=True) as written:
                while block := opened.read(1 << 20):
                    written.write(block)
    return path


def _readme(repro: Repro) -> str:
    facts = repro.facts
    return README.format(
        stage=repro.stage.name,
        environment=repro.stage.environment,
        signature=repro.signature,
        nodes=facts["nodes"],
        original_nodes=facts["original_nodes"],
        operators=", ".join(facts["operators"][:40]),
        minimal="Without any one of them the failure is gone."
        if facts["minimal"]
        else "The search ended by its limits; a smaller model may fail too.",
        limit="stop it after some ten times what the stage usually takes",
        samples=" and samples" if len(repro.files) > 1 else "",
    )


def _versions(repro: Repro) -> str:
    """List the packages of the failing stage's environment, its own tools first."""
    pins = environments.pins(repro.stage.environment)
    python = environments.wanted(repro.stage.environment).python
    tools = [tool for tool in repro.stage.tools if tool in pins]
    lines = [f"# {repro.stage.name} {repro.stage.version}, environment {repro.stage.environment}"]
    lines += [f"# python {python}"] if python else []
    lines += [f"{name}=={pins[name]}" for name in (*tools, *sorted(set(pins) - set(tools)))]
    return "\n".join(lines) + "\n"


def _name(role: str) -> str:
    return "model.onnx" if role == "model" else "samples.npz"


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry
