"""ONNX files of versions that ONNX Runtime does not read: the limit is named, and the remedy works."""

import subprocess
from pathlib import Path

import pytest

from tests.stage_fixtures import PREPARED, ROOT, Answer, Call, run_calls

pytestmark = pytest.mark.toolchain

MAKE = """
import sys
import onnx
from onnx import version_converter
from tests.stage_models import onnx_model
made = {
    "ir": onnx_model(ir_version=15),
    "opset": onnx_model(opset=29),
    "old": onnx_model(opset=5),
}
made["ir mended"] = onnx_model(ir_version=15)
made["ir mended"].ir_version = 14
made["old mended"] = version_converter.convert_version(made["old"], 17)
for name, model in made.items():
    onnx.save(model, f"{sys.argv[1]}/{name}.onnx")
"""
NAMES = ("ir", "opset", "old", "ir mended", "old mended")


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    folder: Path = tmp_path_factory.mktemp("versions")
    python = ROOT / ".envs" / "builder" / "bin" / "python"
    subprocess.run([python, "-c", MAKE, str(folder)], env=PREPARED, check=True, timeout=60)
    calls = {name: Call("inspect-onnx", {"model": folder / f"{name}.onnx"}) for name in NAMES}
    return run_calls("builder", calls, tmp_path_factory.mktemp("inspected"))


@pytest.mark.parametrize(
    ("name", "says", "remedy"),
    [
        ("ir", "IR version 15; this farm's ONNX Runtime reads 14 at most", "model.ir_version = 14"),
        ("opset", "opset 29; this farm's ONNX Runtime reads 28 at most", "convert_version(model, 28)"),
        ("old", "no CPU kernel", "convert_version(onnx.load(file), 17)"),
    ],
)
def test_the_version_the_limit_and_the_way_out_are_named(
    answers: dict[str, Answer], name: str, says: str, remedy: str
) -> None:
    failure = answers[name].failure
    assert failure["code"] == "incompatible"
    assert says in failure["message"]
    assert remedy in failure["remedy"]


@pytest.mark.parametrize(("name", "opset"), [("ir mended", 17), ("old mended", 17)])
def test_what_the_remedy_says_makes_a_file_that_opens(answers: dict[str, Answer], name: str, opset: int) -> None:
    assert answers[name].facts["opset"] == opset
