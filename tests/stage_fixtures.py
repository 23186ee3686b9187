"""Run stages through their harness in the environments they are made for, many calls per process."""

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from farm.domain.codec import encode

ROOT = Path(__file__).parents[1]
PREPARED = {
    "PATH": "/usr/bin:/bin",
    "PYTHONPATH": str(ROOT),
    "ORT_DISABLE_TELEMETRY": "1",
    "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",
    "OPENBLAS_NUM_THREADS": "1",
    "CI": "true",
}
LOOP = """
import sys
from pathlib import Path
from workers.stages.harness import main
for work in sys.argv[1:]:
    main(Path(work))
"""


@dataclass(frozen=True)
class Call:
    """One call of a stage."""

    stage: str
    files: dict[str, Path]
    options: dict[str, Any] = field(default_factory=dict)
    contract: dict[str, Any] | None = None


@dataclass(frozen=True)
class Answer:
    """What the harness wrote, and where."""

    work: Path
    result: dict[str, Any]

    @property
    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] | None = self.result.get("facts")
        assert facts is not None, self.result
        return facts

    @property
    def failure(self) -> dict[str, Any]:
        failure: dict[str, Any] | None = self.result.get("failure")
        assert failure is not None, self.result
        return failure

    def output(self, name: str) -> Path:
        assert "outputs" in self.result, self.result
        relative: str = self.result["outputs"][name]
        return self.work / relative


def run_calls(
    environment: str, calls: dict[str, Call], folder: Path, *, loop: tuple[str, ...] = ("-c", LOOP)
) -> dict[str, Answer]:
    """Answer every call in one process of an environment; `loop` is what Python runs on their folders."""
    works = {name: folder / f"{index}" for index, name in enumerate(calls)}
    for name, call in calls.items():
        works[name].mkdir(parents=True)
        files = {role: str(path) for role, path in call.files.items()}
        message = {"stage": call.stage, "files": files, "options": encode(call.options), "contract": call.contract}
        (works[name] / "call.json").write_text(json.dumps(message))
    python = ROOT / ".envs" / environment / "bin" / "python"
    done = subprocess.run(
        [python, *loop, *map(str, works.values())],
        env=PREPARED | {"HOME": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return {name: Answer(work, json.loads((work / "result.json").read_text())) for name, work in works.items()}


def run_call(environment: str, call: Call, folder: Path) -> Answer:
    return run_calls(environment, {"only": call}, folder)["only"]


@cache
def models() -> Path:
    """Make the models of stage_models.py once per test run."""
    folder = Path(tempfile.mkdtemp(prefix="farm-models-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    python = ROOT / ".envs" / "builder" / "bin" / "python"
    script = Path(__file__).with_name("stage_models.py")
    done = subprocess.run(
        [python, str(script), str(folder)], env=PREPARED | {"HOME": str(folder)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@cache
def lowered_model() -> Path:
    """Lower good.pt2 for ExecuTorch, which lives in an environment of its own; bad files lie beside it."""
    folder = models() / "lowered"
    specs = {"input_specs": [spec("image", "float32", 1, 3, 8, 8)]}
    outputs = [spec("linear", "float32", "s0", 5), spec("mean", "float32", "s0", 4)]
    files = {"model": models() / "good.pt2"}
    call = Call("torch-exported-program-to-executorch", files, specs | {"output_specs": outputs})
    made = run_call("executorch", call, folder).output("model")
    cut, text = folder / "cut.pte", folder / "text.pte"
    cut.write_bytes(made.read_bytes()[: made.stat().st_size // 2])
    text.write_text("hello, this is no model")
    return made.rename(folder / "good.pte")


def model_file(name: str) -> Path:
    """Return a model of stage_models.py, or one that another environment made of them."""
    return lowered_model().with_name(name) if name.endswith(".pte") else models() / name


def spec(name: str, dtype: str, *shape: int | str) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": list(shape), "scale": None, "zero_point": None}


def toolchains_loaded_by(code: str) -> set[str]:
    """Run code in this interpreter's environment and say which toolchains it imported."""
    heavy = "{'numpy', 'torch', 'tensorflow', 'onnx', 'onnxruntime', 'keras', 'ai_edge_litert'}"
    printed = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*({heavy} & set(sys.modules)))"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(printed.stdout.split())
