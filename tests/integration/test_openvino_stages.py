"""OpenVINO on real models: what becomes of axes, names, weights and threads, and what is said when it refuses."""

import os
import subprocess
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from farm.domain.facts import Format
from tests.stage_fixtures import PREPARED, ROOT, Answer, models, spec
from tests.transform_fixtures import CUBE, Source, call, cube_model, run_in, sources

pytestmark = pytest.mark.toolchain

WIDE_IN, WIDE_OUT = [spec("x", "float32", 1, 256)], [spec("y", "float32", 1, 256)]
WIDE = """
import sys
import numpy as np, openvino
from openvino import opset13
rng = np.random.default_rng(5)
x = opset13.parameter([1, 256], np.float32)
at = x
for _ in range(3):
    at = opset13.relu(opset13.matmul(at, rng.standard_normal((256, 256)).astype("float32") / 16, False, True))
model = openvino.Model([at], [x])
model.inputs[0].tensor.set_names({"x"})
model.outputs[0].tensor.set_names({"y"})
openvino.save_model(model, sys.argv[1], compress_to_fp16=False)
"""
THREADS = """
import sys
from pathlib import Path
from workers.runtimes.openvino import OpenVinoSession
print([OpenVinoSession(Path(sys.argv[1]), threads=threads).threads for threads in (1, 2)])
"""


@cache
def answers() -> dict[str, Answer]:
    onnx, wide = sources()[Format.ONNX], Source(wide_model(), WIDE_IN, WIDE_OUT)
    calls = {
        "open axes": call("onnx-to-openvino-ir", onnx),
        "external": call("onnx-to-openvino-ir", Source(models() / "external_onnx", onnx.inputs, onnx.outputs)),
        "cube": call("onnx-to-openvino-ir", Source(cube_model(), CUBE, [CUBE[0] | {"name": "seen"}])),
        "custom": call("onnx-to-openvino-ir", Source(models() / "custom.onnx", onnx.inputs, onnx.outputs)),
        "float16": call("quantize-openvino-ir-float16", wide),
        "int8": call("quantize-openvino-ir-int8-dynamic", wide),
        "int4": call("quantize-openvino-ir-int4-weights", wide),
        "inspected": call("inspect-openvino-ir", wide),
    }
    return run_in("builder", calls)


@cache
def wide_model() -> Path:
    folder = models() / "wide_openvino"
    python = ROOT / ".envs" / "builder" / "bin" / "python"
    subprocess.run([python, "-c", WIDE, str(folder / "model.xml")], env=PREPARED, check=True)
    return folder


def graph_of(name: str) -> ElementTree.Element:
    return ElementTree.parse(answers()[name].output("model") / "model.xml").getroot()


def weights_bytes(folder: Path) -> int:
    return (folder / "model.bin").stat().st_size


def test_open_axes_are_fixed_in_the_file() -> None:
    (parameter,) = graph_of("open axes").findall(".//layer[@type='Parameter']/data")
    assert parameter.get("shape") == "1,3,8,8"


def test_external_data_is_read() -> None:
    assert answers()["external"].facts["sqnr_db"] >= 60


def test_no_axis_is_moved_where_every_order_would_fit() -> None:
    assert answers()["cube"].facts["sqnr_db"] >= 60
    assert answers()["cube"].result["contract"]["changes"] == []


def test_an_operator_without_a_rule_is_named() -> None:
    failure = answers()["custom"].failure
    assert (failure["code"], failure["who_must_act"]) == ("conversion-failed", "toolchain")
    assert "acme.ops.Foo" in failure["message"]
    assert failure["evidence"]["operator"].endswith("Foo")
    assert failure["remedy"]


@pytest.mark.parametrize(
    ("name", "kind", "share"), [("float16", "f16", 0.5), ("int8", "u8", 0.25), ("int4", "u4", 0.13)]
)
def test_weights_take_fewer_bytes_and_say_their_type(name: str, kind: str, share: float) -> None:
    found = answers()[name]
    kinds = {data.get("element_type") for data in graph_of(name).iterfind(".//layer[@type='Const']/data")}
    assert kind in kinds
    assert weights_bytes(found.output("model")) < 1.5 * share * weights_bytes(wide_model())
    assert found.facts["sqnr_db"] >= 15


def test_inspection_counts_weights_and_operators() -> None:
    facts = answers()["inspected"].facts
    assert facts["parameters"] >= 3 * 256 * 256
    assert facts["operators"] == {"MatMul": 3, "ReLU": 3}
    assert facts["extra"]["weights"]["f32"] == 3 * 256 * 256


def test_nothing_is_sent_and_no_file_left_in_the_home_folder() -> None:
    work = answers()["int8"].work
    assert not (work.parent / "intel").exists()
    assert work.parent.is_dir()


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core has no second thread to honour")
def test_threads_are_honoured() -> None:
    python = ROOT / ".envs" / "openvino" / "bin" / "python"
    done = subprocess.run(
        [python, "-c", THREADS, str(wide_model())], env=PREPARED, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[1, 2]"


def test_both_forms_of_the_reference_model_are_one_function() -> None:
    """The pinned IR was made from the pinned ONNX file."""
    from workers.runtimes.reference_model import reference_model

    script = (
        "import sys, numpy as np\nfrom pathlib import Path\nfrom workers.runtimes import load_runtimes\n"
        "x = np.random.default_rng(0).random((1, 3, 384, 384), dtype='float32')\n"
        "a, b = (load_runtimes()[n].load(Path(p)).run({'image': x})['scores'] for n, p in zip(('openvino', "
        "'onnxruntime'), sys.argv[1:]))\nprint(float(abs(a - b).max() / abs(b).max()))"
    )
    python = ROOT / ".envs" / "builder" / "bin" / "python"
    paths = [str(reference_model(name)) for name in ("openvino", "onnxruntime")]
    done = subprocess.run([python, "-c", script, *paths], env=PREPARED, capture_output=True, text=True, check=True)
    assert np.float64(done.stdout) < 1e-4
