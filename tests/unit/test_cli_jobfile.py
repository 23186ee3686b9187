"""job.toml: what it may say, and what is said about mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.cli.jobfile import read
from farm.domain.errors import BadRequest, MissingFile

WHOLE = """
target = ["x86-64-v3", "raspberry-pi-5"]
format = "ort"
runtime = "onnxruntime"
recipe = ["float32", "int8-static"]
constraint = ["p90 <= 20ms"]
objective = "size"
name = "nightly"
label = {team = "vision"}
max_measurement_age = "24h"
scenario = "server"
target_qps = 50
latency_bound_ms = 20.5
threads = [1, 2, 4]
sustained = "2m"
co_compile = true
option = {int8-static = {calibration_method = "Percentile"}, sparse-structured = {share = 0.5}}

[[model]]
path = "det.onnx"
name = "detector"
input = ["x:0:float32[1,3,640,640] in 0..255"]
calibration = "data/photos.npz"
preprocessing = {mean = [0.5], std = [0.5]}

[[model]]
path = "/models/digits.pt2"
evaluation = "test.npz"
metric = "top1"
builder = "build.py"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "job.toml"
    path.write_text(text)
    return path


def test_everything_that_can_be_said(tmp_path: Path) -> None:
    job = read(written(tmp_path, WHOLE))

    assert (job.target, job.runtime) == (("x86-64-v3", "raspberry-pi-5"), ("onnxruntime",))
    assert job.format == ("ort",)
    assert job.co_compile is True
    assert (job.objective, job.label, job.max_measurement_age) == ("size", {"team": "vision"}, "24h")
    assert job.measuring == {
        "scenario": "server",
        "target_qps": 50,
        "latency_bound_ms": 20.5,
        "threads": [1, 2, 4],
        "sustained_s": 120.0,
    }
    assert job.option == {"int8-static": {"calibration_method": "Percentile"}, "sparse-structured": {"share": 0.5}}
    first, second = job.models
    assert (first.path, first.calibration) == (tmp_path / "det.onnx", tmp_path / "data/photos.npz")
    assert (first.name, first.inputs) == ("detector", ("x:0:float32[1,3,640,640] in 0..255",))
    assert (str(second.path), second.metric) == ("/models/digits.pt2", "top1")
    assert (first.builder, second.builder) == (None, tmp_path / "build.py")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('targets = ["x"]\n[[model]]\npath = "m"', "targets = ['x'] is not known; did you mean 'target'?"),
        ('target = ["x"]\n[[model]]\npath = "m"\nfoo = 1', "model[1].foo = 1 is not known; known are path"),
        ('option = {share = 1}\ntarget = ["x"]\n[[model]]\npath = "m"', "is not a table of tables such as"),
        ('target = 5\n[[model]]\npath = "m"', 'target = 5 is not a list of texts such as ["a", "b"]'),
        ('[[model]]\nname = "m"', "model[1].path is missing"),
        ('target = ["x"]', "model needs one [[model]] table"),
        ('[model]\npath = "m"', "needs one [[model]] table"),
        ('objective = "speed"\n[[model]]\npath = "m"', "objective = 'speed' is not one of latency, size"),
        ('max_measurement_age = "soon"\n[[model]]\npath = "m"', "max_measurement_age = 'soon' is not a duration"),
        ('[[model]]\npath = "m"\ninput = ["x:float32[1,-3]"]', "model[1].input = ['x:float32[1,-3]'] is wrong"),
        ('[[model]]\npath = "m"\npreprocessing = "none"', "model[1].preprocessing = 'none' is not a table"),
        ('scenario = "burst"\n[[model]]\npath = "m"', "scenario = 'burst' is not one of single_stream, multi_stream"),
        ('threads = ["two"]\n[[model]]\npath = "m"', "threads = ['two'] is not a list of counts such as [1, 2, 4]"),
        ('sustained = "long"\n[[model]]\npath = "m"', "sustained = 'long' is not a duration"),
        ('target_qps = 0\n[[model]]\npath = "m"', "target_qps = 0 is not a number above 0"),
        ('co_compile = "yes"\n[[model]]\npath = "m"', "co_compile = 'yes' is not true or false"),
        ('label = ["a"]\n[[model]]\npath = "m"', "label = ['a'] is not a table of texts"),
        ("target = [", "can't be read as TOML"),
    ],
)
def test_mistakes_name_key_value_and_way_out(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadRequest) as raised:
        read(written(tmp_path, text))

    assert said in raised.value.message
    assert "job.toml" in raised.value.message


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    text = 'targets = ["x"]\nobjective = "speed"\n[[model]]\nname = "m"\n[[model]]\npath = 3'

    with pytest.raises(BadRequest) as raised:
        read(written(tmp_path, text))

    assert len(raised.value.message.splitlines()) == 4
    assert "[[model]]" in (raised.value.remedy or "")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(BadRequest, match="can't be read as TOML"):
        read(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"job\.toml"):
        read(tmp_path / "job.toml")
