"""Failures of real toolchains, shrunk in the sandbox: small, alike, and nothing of the submitter's in the bundle."""

from __future__ import annotations

import io
import json
import subprocess
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import minimize_stages
from tests.minimize_stages import CRASHES, HANGS, WEIGHTS
from tests.sandbox_fixtures import public_folder
from tests.stage_fixtures import PREPARED, ROOT, Call, run_calls
from tests.stage_fixtures import spec as tensor
from workers import minimizing
from workers.minimizing import failing_of, minimize
from workers.results import Made
from workers.sandbox import Level, Sandbox
from workers.sandbox.sandbox import Setup
from workers.stage_runs import Place
from workers.stages import load_specs
from workers.stages.minimize.onnx_graph import STAGE

pytestmark = pytest.mark.toolchain

CODE = ("farm", "workers", "hardware_profiles", "tests")
SKELETON = """import sys
from pathlib import Path
from workers.stages.minimize.skeleton import make_skeleton
make_skeleton(Path(sys.argv[1]), (), 1, Path(sys.argv[2]))
"""
NAMES = (b"customer", b"secret", b"block.", b"line 12", b"stack")


@dataclass(frozen=True)
class Model:
    """A failing model, and what is known of it."""

    path: Path
    facts: dict[str, Any]

    @property
    def options(self) -> dict[str, Any]:
        given = {
            what: [tensor(name, "float32", *shape) for name, shape in self.facts[what]]
            for what in ("inputs", "outputs")
        }
        return {"input_specs": given["inputs"], "output_specs": given["outputs"]}

    @property
    def weights(self) -> list[bytes]:
        return [found for found in map(bytes.fromhex, self.facts["weights"]) if len(found) >= 16]


@dataclass(frozen=True)
class Shrunk:
    """What a minimization left."""

    made: Made
    log: str

    @property
    def facts(self) -> dict[str, Any]:
        return dict(self.made.facts)

    @property
    def bundle(self) -> dict[str, bytes]:
        (path,) = self.made.paths.values()
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as opened:
            return {name: opened.read(name) for name in opened.namelist()}


@dataclass
class Bench:
    """A sandbox, and what was shrunk in it so far: several tests look at one bundle."""

    place: Place
    folder: Path
    done: dict[tuple[str, str], Shrunk] = field(default_factory=dict)

    def shrunk(self, name: str, stage: str, **options: Any) -> Shrunk:
        key = (f"{name}{options}", stage)
        if key not in self.done:
            self.done[key] = self._shrink(model(name), stage, options)
        return self.done[key]

    def _shrink(self, failing: Model, stage: str, options: dict[str, Any]) -> Shrunk:
        files = {"model": failing.path}
        if "calibration" in load_specs()[stage].inputs:
            files["calibration"] = failing.path.with_name("calibration.npz")
        told = {"stage": stage, "options": failing.options, **options}
        work = Path(tempfile.mkdtemp(dir=self.folder)) / "run-0"
        work.parent.chmod(0o711)
        made = minimize(failing_of(load_specs()[STAGE], told, files, None), self.place, work, threading.Event())
        return Shrunk(made, (work / "log.txt").read_text())


@cache
def model(name: str) -> Model:
    folder = public_folder() / "minimize"
    if not folder.exists():
        folder.mkdir(mode=0o755)
        python = ROOT / ".envs" / "builder" / "bin" / "python"
        subprocess.run([python, ROOT / "tests" / "minimize_models.py", folder], env=PREPARED, check=True, timeout=60)
        pictures = np.random.default_rng(1).random((24, 4, 8, 8)).astype("float32")
        np.savez(folder / "calibration.npz", customer_picture=pictures)
    return Model(folder / f"{name}.onnx", json.loads((folder / f"{name}.json").read_text()))


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    folder = Path(tempfile.mkdtemp(dir=public_folder()))
    folder.chmod(0o711)
    setup = Setup(code=CODE)
    with (
        minimize_stages.registered(),
        Sandbox(folder=folder / "sandbox", accept=list(Level), code_root=ROOT, slots=1, setup=setup) as sandbox,
    ):
        yield Bench(Place(sandbox, ROOT / ".envs", 8 << 30, "step"), folder)


def run_script(bundle: dict[str, bytes], environment: str, folder: Path) -> subprocess.CompletedProcess[str]:
    for name, content in bundle.items():
        (folder / name).write_bytes(content)
    python = ROOT / ".envs" / environment / "bin" / "python"
    prepared = PREPARED | {"HOME": str(folder)}
    return subprocess.run(
        [python, "repro.py"], cwd=folder, env=prepared, capture_output=True, text=True, timeout=120, check=False
    )


BUNDLES = [
    pytest.param("one_operator", "onnx-to-tflite", id="onnx2tf"),
    pytest.param("two_nodes", "onnx-to-tflite", id="onnx2tf, two nodes"),
    pytest.param("no_kernel", "quantize-onnx-int8-static", id="onnxruntime"),
]


def test_one_bad_operator_among_a_hundred_nodes(bench: Bench) -> None:
    """Given Det deep in 101 nodes; then it alone is left, within a minute, and fails as the whole did."""
    found = bench.shrunk("one_operator", "onnx-to-tflite").facts

    assert (found["original_nodes"], found["operators"]) == (101, ["Det"])
    assert "ONNX_DET" in found["signature"]
    assert found["seconds"] < 60


def test_nodes_that_only_fail_together_stay_together(bench: Bench) -> None:
    found = bench.shrunk("two_nodes", "onnx-to-tflite").facts

    assert found["operators"] == ["SplitToSequence", "ConcatFromSequence"]
    assert found["minimal"]
    assert found["seconds"] < 60


def test_a_quantizer_gets_random_samples(bench: Bench) -> None:
    """Given an operator without a kernel, met while calibrating; then the bundle brings samples for the cut input."""
    shrunk = bench.shrunk("no_kernel", "quantize-onnx-int8-static")

    assert shrunk.facts["operators"] == ["Erf"]
    with np.load(io.BytesIO(shrunk.bundle["samples.npz"])) as samples:
        (array,) = samples.values()
        assert (array.dtype, array.shape) == (np.float64, (24, 4, 8, 8))


@pytest.mark.parametrize(("name", "stage"), BUNDLES)
def test_the_script_fails_alike(bench: Bench, name: str, stage: str, tmp_path: Path) -> None:
    shrunk = bench.shrunk(name, stage)

    ran = run_script(shrunk.bundle, load_specs()[stage].environment, tmp_path)

    assert ran.returncode == 1, ran.stderr
    assert shrunk.facts["signature"] in ran.stdout
    assert ran.stdout.endswith("The same failure.\n")


@pytest.mark.parametrize("options", [{}, {"tries": 0}], ids=["smallest", "whole"])
@pytest.mark.parametrize(("name", "stage"), BUNDLES)
def test_nothing_of_the_submitters_is_in_the_bundle(
    bench: Bench, name: str, stage: str, options: dict[str, Any]
) -> None:
    """Also when nothing could be left out: then every weight was drawn anew."""
    bundle, original = bench.shrunk(name, stage, **options).bundle, model(name)
    whole = b"".join(bundle.values())
    submitted = original.path.read_bytes()

    assert all(weight in submitted for weight in original.weights)
    assert not any(weight in whole for weight in original.weights)
    assert [word for word in NAMES if word in submitted] == list(NAMES)
    assert [word for word in NAMES if word in whole] == []


def test_weights_in_attributes_are_drawn_anew(tmp_path: Path) -> None:
    """Given weights as lists of tensors, sparse tensors, bodies and integers; then none of them is left."""
    python, found, odd = ROOT / ".envs" / "builder" / "bin" / "python", tmp_path / "skeleton.onnx", model("attributes")

    subprocess.run([python, "-c", SKELETON, odd.path, found], cwd=ROOT, env=PREPARED, check=True, timeout=60)

    submitted, skeleton = odd.path.read_bytes(), found.read_bytes()
    assert all(weight in submitted for weight in odd.weights)
    assert [at for at, weight in enumerate(odd.weights) if weight in skeleton] == []
    assert [word for word in NAMES if word in skeleton] == []
    assert len(skeleton) > sum(map(len, odd.weights)) - 5000


def test_the_bundle_says_what_it_is(bench: Bench) -> None:
    shrunk = bench.shrunk("one_operator", "onnx-to-tflite")

    readme, versions = (shrunk.bundle[name].decode() for name in ("README.md", "versions.txt"))
    assert shrunk.facts["signature"] in readme
    assert "1 of the original's 101 nodes: Det" in readme
    assert "onnx2tf==" in versions
    assert "fails alike" in shrunk.log


def test_a_crash_by_two_operators_far_apart(bench: Bench) -> None:
    """Given a stage that dies of SIGSEGV; then that is the signature, and the worker lives."""
    shrunk = bench.shrunk("one_operator", CRASHES)

    assert shrunk.facts["signature"] == "tool-crashed: SIGSEGV"
    assert shrunk.facts["operators"] == ["Det", "Sigmoid"]
    assert shrunk.facts["minimal"]


def test_a_hang_is_cut_short(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minimizing, "HANG_S", 1.0)

    found = bench.shrunk("one_operator", HANGS, budget_s=30.0, tries=12).facts

    assert found["signature"] == "tool-timed-out: timed out"
    assert found["nodes"] < found["original_nodes"] / 4
    assert "Det" in found["operators"]


def test_a_failure_by_the_weights_themselves_gives_no_bundle(bench: Bench) -> None:
    shrunk = bench.shrunk("one_operator", WEIGHTS)

    assert not shrunk.made.outputs
    assert shrunk.facts["reproduced"] is False
    assert "the failure needs the model's own" in shrunk.facts["reason"]


def test_a_stage_that_succeeds_this_time_gives_no_bundle(bench: Bench) -> None:
    shrunk = bench.shrunk("two_nodes", CRASHES)

    assert shrunk.facts["reason"] == "The stage did not fail when it was repeated."


def test_a_computed_shape_becomes_a_constant_where_it_is_cut_off(tmp_path: Path) -> None:
    """Given Shape → Slice → Concat → Reshape → MatMul; then Reshape alone has one input, the tensor it reshapes."""
    failing = model("no_kernel")
    options = {"stage": "onnx-to-tflite", "options": failing.options}
    whole = run_calls("builder", {"whole": Call(STAGE, {"model": failing.path}, options)}, tmp_path / "1")["whole"]
    operators = whole.facts["operators"]
    parts = {
        "reshape": [operators.index("Reshape")],
        "end": [operators.index("Reshape"), operators.index("MatMul")],
        "shape": [operators.index("Slice"), operators.index("Concat")],
    }
    cuts = {
        name: Call(STAGE, {"skeleton": whole.output("skeleton")}, options | {"part": part})
        for name, part in parts.items()
    }
    found = run_calls("builder", cuts, tmp_path / "2")

    assert [i["shape"] for i in found["reshape"].facts["inputs"]] == [[1, 4, 8, 8]]
    assert [o["shape"] for o in found["end"].facts["outputs"]] == [[1, 10]]
    assert found["shape"].facts["inputs"] == []


def test_weights_in_an_external_file_are_never_read(tmp_path: Path) -> None:
    """Given a folder whose data file is gone; then the skeleton needs it as little as a model of many gigabytes."""
    failing = model("no_kernel")
    options = {"stage": "onnx-to-tflite", "options": failing.options}
    call = Call(STAGE, {"model": failing.path.parent / "external"}, options)
    whole = run_calls("builder", {"whole": call}, tmp_path / "1")["whole"]
    part = list(range(whole.facts["nodes"]))
    cut = Call(STAGE, {"skeleton": whole.output("skeleton")}, options | {"part": part})
    made = run_calls("builder", {"cut": cut}, tmp_path / "2")["cut"]

    assert [len(made.facts[what]) for what in ("inputs", "outputs")] == [1, 1]
    assert made.output("model").stat().st_size > sum(map(len, failing.weights))
