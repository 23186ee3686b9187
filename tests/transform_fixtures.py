"""Small models and calibration data for every transform, and one process per environment that runs them all."""

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from farm.domain.facts import Format
from tests.compared_answers import COMPARED
from tests.stage_fixtures import PREPARED, ROOT, Answer, Call, models, run_calls, spec

IMAGE = [spec("image", "float32", 1, 3, 8, 8)]
PIXELS = [spec("pixel_values", "float32", 1, 3, 8, 8)]
IMAGE_LAST = [spec("image", "float32", 1, 8, 8, 3)]
SCORES = [spec("scores", "float32", "batch", 5)]
SEEN_BY_KERAS = [spec("scores", "float32", "?", 5), spec("box", "float32", "?", 2)]
CUBE = [spec("cube", "float32", 1, 8, 8, 8)]


@dataclass(frozen=True)
class Source:
    """A model, what inspection says of it, and an input layout to calibrate it with."""

    path: Path
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]

    @property
    def options(self) -> dict[str, Any]:
        return {"input_specs": self.inputs, "output_specs": self.outputs}


@cache
def sources() -> dict[Format, Source]:
    folder = models()
    program = [spec("linear", "float32", "s0", 5), spec("mean", "float32", "s0", 4)]
    script = [spec("output_0", "unknown"), spec("output_1", "unknown")]
    for output in script:
        output["shape"] = None
    state = [spec("output_0", "float32", "batch", 5), spec("output_1", "float32", "batch", 4)]
    saved = [spec("output_0", "float32", "?", 5), spec("output_1", "float32", "?", 2)]
    lite_in = [spec("serving_default_image:0", "float32", 1, 8, 8, 3)]
    lite_out = [spec(f"StatefulPartitionedCall_1:{at}", "float32", "?", size) for at, size in ((0, 5), (1, 2))]
    return {
        Format.TORCH_EXPORTED_PROGRAM: Source(folder / "good.pt2", IMAGE, program),
        Format.HUGGING_FACE: Source(folder / "good_vit", PIXELS, [spec("logits", "float32", "batch", 5)]),
        Format.TORCH_STATE_DICT: Source(folder / "good_state", IMAGE, state),
        Format.TORCHSCRIPT: Source(folder / "good.pt", IMAGE, script),
        Format.ONNX: Source(folder / "good.onnx", IMAGE, SCORES),
        Format.TF_SAVEDMODEL: Source(folder / "good_savedmodel", IMAGE_LAST, saved),
        Format.KERAS: Source(folder / "good.keras", IMAGE_LAST, SEEN_BY_KERAS),
        Format.KERAS_H5: Source(folder / "good.h5", IMAGE_LAST, SEEN_BY_KERAS),
        Format.TFLITE: Source(folder / "good.tflite", lite_in, lite_out),
        Format.OPENVINO_IR: Source(folder / "good_openvino", IMAGE, SCORES),
    }


@cache
def scratch() -> Path:
    import atexit

    folder = Path(tempfile.mkdtemp(prefix="farm-transforms-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def calibration(inputs: list[dict[str, Any]], count: int = 24) -> Path:
    """Write seeded images in [0, 1) for these inputs."""
    rng = np.random.default_rng(7)
    path = Path(tempfile.mkdtemp(dir=scratch())) / "calibration.npz"
    np.savez(path, **{one["name"]: rng.random((count, *one["shape"][1:])).astype("float32") for one in inputs})
    return path


def call(stage: str, source: Source, **files: Path) -> Call:
    return Call(stage, {"model": source.path, **files}, options=source.options)


@cache
def cube_model() -> Path:
    """Make an ONNX file whose input (1, 8, 8, 8) fits every layout, and one with a loop."""
    folder = Path(tempfile.mkdtemp(dir=scratch()))
    python = ROOT / ".envs" / "builder" / "bin" / "python"
    subprocess.run([python, "-c", CUBE_SCRIPT, str(folder / "cube.onnx")], env=PREPARED, check=True)
    return folder / "cube.onnx"


CUBE_SCRIPT = """
import sys
import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper
rng = np.random.default_rng(3)
w = numpy_helper.from_array(rng.standard_normal((8, 8, 3, 3)).astype("float32"), "w")
node = helper.make_node("Conv", ["cube", "w"], ["seen"], pads=[1, 1, 1, 1])
tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8, 8, 8]) for name in ("cube", "seen")]
graph = helper.make_graph([node], "cube", tensors[:1], tensors[1:], initializer=[w])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7), sys.argv[1])
"""


def run_in(environment: str, calls: dict[str, Call]) -> dict[str, Answer]:
    return run_calls(environment, calls, Path(tempfile.mkdtemp(dir=scratch())))


def compared_in(environment: str, calls: dict[str, Call]) -> dict[str, Answer]:
    """Run calls, and compare what each transform made with its source: see tests/compared_answers.py."""
    loop = ("-m", "tests.compared_answers")
    return run_calls(environment, calls, Path(tempfile.mkdtemp(dir=scratch())), loop=loop)


def compared_db(answer: Answer) -> float:
    """Return the SQNR (dB) of an answer of `compared_in`, worst output, as the comparison found it."""
    found: float = json.loads((answer.work / COMPARED).read_text())["sqnr_db"]
    return found


def repeated_db(answer: Answer, environment: str, folder: Path, target: Format) -> float:
    """Run an answer's command on copies of its inputs in `folder`; return the SQNR (dB) of what that made."""
    command, call = answer.result["reproduce"], json.loads((answer.work / "call.json").read_text())
    for role, path in ((role, Path(name)) for role, name in call["files"].items()):
        name = f"{role}{path.suffix}" if f"{role}{path.suffix}" in command else role
        copy = folder if path.is_dir() and "model.xml" in command else folder / name
        shutil.copytree(path, copy, dirs_exist_ok=True) if path.is_dir() else shutil.copyfile(path, copy)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    bin_folder = ROOT / ".envs" / environment / "bin"
    variables = PREPARED | {"PATH": f"{bin_folder}:/usr/bin:/bin", "HOME": str(folder)}
    given: dict[str, Any] = {"env": variables, "cwd": folder, "capture_output": True, "text": True, "timeout": 280}
    done = subprocess.run(["bash", "-c", command], **given)
    assert done.returncode == 0, done.stderr[-3000:]
    made = _written(folder, target, before)
    script = [bin_folder / "python", "-m", "tests.compared_answers", "--made", made, answer.work]
    compared = subprocess.run(script, **given)
    assert compared.returncode == 0, compared.stderr[-3000:]
    found: float = json.loads(compared.stdout.splitlines()[-1])["sqnr_db"]
    return found


FILES = {
    Format.ONNX: "*.onnx",
    Format.ORT: "*.ort",
    Format.TFLITE: "*.tflite",
    Format.TORCH_EXPORTED_PROGRAM: "*.pt2",
    Format.TORCHSCRIPT: "*.pt",
    Format.EXECUTORCH: "*.pte",
    Format.OPENVINO_IR: "*.xml",
    Format.TF_SAVEDMODEL: "saved_model.pb",
}


def _written(folder: Path, target: Format, before: dict[Path, int]) -> Path:
    """Find what a command wrote last in a format, but for onnx2tf's second file; a folder where the format is one."""
    found = [path for path in folder.rglob(FILES[target]) if not path.stem.endswith("_float16")]
    new = [path for path in found if path.stat().st_mtime_ns != before.get(path)]
    assert new, f"no {FILES[target]} among {[str(path.relative_to(folder)) for path in folder.rglob('*')]}"
    last = max(new, key=lambda path: path.stat().st_mtime_ns)
    return last.parent if target is Format.TF_SAVEDMODEL else last
