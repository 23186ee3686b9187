"""Every stage that makes one model of another, on a real tiny model, in its own environment."""

import dataclasses
import json
import os
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from farm.domain.artifact import Contract
from farm.domain.codec import decode
from farm.domain.facts import Format
from farm.domain.stage import TRANSFORMS, Kind, StageSpec
from tests.child_processes import STARTED, refused
from tests.stage_fixtures import Answer, Call, models
from tests.transform_fixtures import (
    CUBE,
    Source,
    calibration,
    call,
    compared_db,
    compared_in,
    cube_model,
    repeated_db,
    run_in,
    sources,
)
from workers.edgetpu.model import read_model
from workers.stages import load_specs
from workers.stages.quantize.full_integer import float_operators

pytestmark = pytest.mark.toolchain

FLOAT_DB, INT8_DB, SPARSE_DB = 60.0, 15.0, 3.0
ELSEWHERE = (
    "compile-edgetpu-tflite-share",
    "compile-tflite-to-edgetpu-tflite",
    "optimize-torch-state-dict-sparse-structured",
)
"""A compiler that is the operator's to supply, with what reads its files (test_edgetpu_compile), and a stage that takes
away channels, of which the tiny model has none to spare (test_channel_pruning)."""
STAGES = tuple(s for s in load_specs().values() if s.kind in TRANSFORMS and s.name not in ELSEWHERE)
REPEATED = ("compile-onnx-to-ort", "onnx-to-openvino-ir", "torchscript-to-onnx")
"""Whose commands are run in the ordinary tier: the others take ten seconds each to import their tools."""
each = pytest.mark.parametrize("spec", STAGES, ids=lambda spec: spec.name)


@cache
def answers(environment: str) -> dict[str, Answer]:
    """Run every stage of an environment in one process: imports cost more than the work."""
    calls = {}
    for spec in STAGES:
        if spec.environment == environment and spec.source is not None:
            source = sources()[spec.source]
            files = {"calibration": calibration(source.inputs)} if "calibration" in spec.inputs else {}
            calls[spec.name] = call(spec.name, source, **files)
    return compared_in(environment, calls)


def answer(spec: StageSpec) -> Answer:
    return answers(spec.environment)[spec.name]


def least_db(spec: StageSpec) -> float:
    """Zeroing half of random weights without retraining costs most of what they computed."""
    if (spec.recipe or "").startswith("sparse"):
        return SPARSE_DB
    return INT8_DB if spec.kind is Kind.QUANTIZE else FLOAT_DB


def contract_of(found: Answer) -> Contract:
    return decode(Contract, found.result["contract"])


@each
def test_its_output_opens_and_computes_the_models_function(spec: StageSpec) -> None:
    """Held by a comparison with the source's own run, beside the one that the stage makes before it returns."""
    found = answer(spec)

    assert found.output("model").stat().st_size > 0
    assert compared_db(found) >= least_db(spec)
    assert found.facts["sqnr_db"] >= least_db(spec)


@each
def test_every_tensor_of_the_source_is_bound_with_a_size(spec: StageSpec) -> None:
    assert spec.source is not None
    source, contract = sources()[spec.source], contract_of(answer(spec))

    assert [b.source.name for b in contract.inputs] == [one["name"] for one in source.inputs]
    assert [b.source.name for b in contract.outputs] == [one["name"] for one in source.outputs]
    for binding in contract.inputs:
        shape = binding.source.static_shape
        order = binding.transpose or tuple(range(len(shape)))
        assert binding.artifact.static_shape == tuple(shape[axis] for axis in order)


@each
def test_every_difference_is_declared_in_words(spec: StageSpec) -> None:
    contract = contract_of(answer(spec))

    for what, bindings in (("input", contract.inputs), ("output", contract.outputs)):
        for binding in bindings:
            told = [change for change in contract.changes if change.startswith(f"{what} {binding.source.name}:")]
            source, artifact = binding.source, binding.artifact
            words = " ".join(told)
            order = binding.transpose or tuple(range(len(source.shape or ())))
            sizes = [(source.shape or ())[axis] for axis in order]
            assert len(sizes) == len(artifact.shape or ())
            assert all(a == b or isinstance(a, str) for a, b in zip(sizes, artifact.shape or (), strict=True))
            assert (f"renamed to {artifact.name}" in words) is (source.name != artifact.name)
            assert (f"{source.dtype} → {artifact.dtype}" in words) is (source.dtype != artifact.dtype)
            assert ("axes in the order" in words or "→ N" in words) is (binding.transpose is not None)
            is_scaled = artifact.scale is not None and artifact.scale != source.scale
            assert (artifact.scale is not None and f"scale {artifact.scale:.6g}" in words) is is_scaled


@pytest.mark.parametrize("name", REPEATED)
def test_a_command_repeats_it(name: str, tmp_path: Path) -> None:
    """Run as the report tells it, on files of the names that it uses; then what it makes computes the same."""
    spec = load_specs()[name]

    assert repeated_db(answer(spec), spec.environment, tmp_path, spec.target) >= least_db(spec)


@pytest.mark.slow
@pytest.mark.parametrize("spec", [s for s in STAGES if s.name not in REPEATED], ids=lambda spec: spec.name)
def test_every_command_repeats_it(spec: StageSpec, tmp_path: Path) -> None:
    assert repeated_db(answer(spec), spec.environment, tmp_path, spec.target) >= least_db(spec)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "onnx-to-tflite",
        "onnx-to-tflite-via-torch",
        "onnx-to-tf-savedmodel",
        "quantize-onnx-float16",
        "optimize-onnx-graph",
        "optimize-onnx-edges",
        "compile-onnx-to-ort",
    ],
)
def test_a_command_reads_a_model_that_comes_with_its_data(name: str, tmp_path: Path) -> None:
    """Given a folder of an ONNX file and its weights; then the command reads the folder."""
    spec = load_specs()[name]
    source = dataclasses.replace(sources()[Format.ONNX], path=models() / "external_onnx")
    found = compared_in(spec.environment, {name: call(name, source)})[name]

    assert repeated_db(found, spec.environment, tmp_path, spec.target) >= FLOAT_DB


def test_a_layout_that_shapes_do_not_show_is_found() -> None:
    """Given an input (1, 8, 8, 8), which fits every order of axes; then the numbers tell NCHW from NHWC."""
    found = run_in(
        "onnx2tf", {"cube": call("onnx-to-tflite", Source(cube_model(), CUBE, [CUBE[0] | {"name": "seen"}]))}
    )

    contract = contract_of(found["cube"])
    assert contract.inputs[0].transpose == (0, 2, 3, 1)
    assert contract.outputs[0].transpose == (0, 2, 3, 1)
    assert contract.changes == ("input cube: NCHW → NHWC", "output seen: NCHW → NHWC")


@cache
def of_an_old_opset() -> Answer:
    """Quantize a model of opset 12, whose per-channel form no session opens."""
    source = Source(cube_model(), CUBE, [CUBE[0] | {"name": "seen"}])
    calls = {"cube": call("quantize-onnx-int8-static", source, calibration=calibration(CUBE))}
    return compared_in("builder", calls)["cube"]


def test_an_old_opset_is_raised_before_channels_are_quantized() -> None:
    assert of_an_old_opset().facts["sqnr_db"] >= INT8_DB


@pytest.mark.slow
def test_a_command_raises_an_old_opset_too(tmp_path: Path) -> None:
    assert repeated_db(of_an_old_opset(), "builder", tmp_path, Format.ONNX) >= INT8_DB


@cache
def second_stages() -> dict[str, Answer]:
    """Quantize TFLite files that other stages made."""
    firsts = {
        Format.ONNX: answers("onnx2tf")["onnx-to-tflite"],
        Format.TORCH_EXPORTED_PROGRAM: answers("builder")["torch-exported-program-to-tflite"],
    }
    calls = {}
    for fmt, first in firsts.items():
        source = dataclasses.replace(sources()[fmt], path=first.output("model"))
        made = call("quantize-tflite-int8-static", source, calibration=calibration(source.inputs))
        calls[fmt.value] = dataclasses.replace(made, contract=first.result["contract"])
    return run_in("builder", calls)


def test_a_second_stage_keeps_the_first_ones_layout() -> None:
    """Given a TFLite file in NHWC made of an NCHW source; then samples of the source calibrate it."""
    found = second_stages()["onnx"]

    assert contract_of(found).inputs[0].transpose == (0, 2, 3, 1)
    assert found.facts["sqnr_db"] >= INT8_DB


def test_an_output_that_is_read_inside_too_stays_in_float() -> None:
    """Given a model that also returns what its last layer reads, of which the tool makes files that do not load."""
    found = second_stages()["torch-exported-program"]

    assert found.facts["quantization"] == "every operator but those at the outputs"
    assert found.facts["sqnr_db"] >= INT8_DB
    assert all(binding.artifact.dtype == "float32" for binding in contract_of(found).outputs)


def test_a_quantized_model_saved_for_onnx_runtime_stays_quantized() -> None:
    """Given int8 ONNX; then its ORT form computes the same within the rounding of its integers, and holds them."""
    source = sources()[Format.ONNX]
    first = answers("builder")["quantize-onnx-int8-static"]
    second = dataclasses.replace(
        call("compile-onnx-to-ort", dataclasses.replace(source, path=first.output("model"))),
        contract=first.result["contract"],
    )
    made = run_in("builder", {"ort": second})["ort"]
    inspected = run_in("builder", {"facts": Call("inspect-ort", {"model": made.output("model")})})["facts"]

    assert made.facts["sqnr_db"] >= FLOAT_DB / 2
    assert any("QLinear" in operator for operator in inspected.facts["operators"])


@pytest.mark.parametrize("source", [Format.KERAS, Format.TFLITE])
def test_full_integer_leaves_no_float_from_input_to_output(source: Format) -> None:
    """So that the Edge TPU compiler reads it; the contract tells how to quantize the source's samples."""
    stage, model = f"quantize-{source}-int8-full-integer", sources()[source]
    found = run_in("builder", {"int8": call(stage, model, calibration=calibration(model.inputs))})["int8"]
    contract = contract_of(found)

    assert float_operators(read_model(found.output("model").read_bytes())) == []
    assert found.facts["edgetpu_predicted"]["refusal"] is None
    for binding in (*contract.inputs, *contract.outputs):
        assert binding.artifact.dtype == "int8"
        assert binding.artifact.scale is not None
        assert any(f"{binding.source.name}: float32 → int8 (scale" in change for change in contract.changes)


def test_a_float_file_is_not_taken_for_an_integer_one() -> None:
    assert "CONV_2D" in float_operators(read_model(sources()[Format.TFLITE].path.read_bytes()))


def test_a_model_left_in_training_mode_is_the_submitters_to_mend() -> None:
    programs = sources()[Format.TORCH_EXPORTED_PROGRAM]
    scripts = sources()[Format.TORCHSCRIPT]
    training = {
        "torch-exported-program-to-onnx": dataclasses.replace(programs, path=programs.path.with_name("training.pt2")),
        "torch-exported-program-to-tflite": dataclasses.replace(programs, path=programs.path.with_name("training.pt2")),
        "torchscript-to-onnx": dataclasses.replace(scripts, path=scripts.path.with_name("training.pt")),
    }
    found = run_in("builder", {stage: call(stage, source) for stage, source in training.items()})
    lowered = "torch-exported-program-to-executorch"
    program = training["torch-exported-program-to-onnx"]
    found |= run_in("executorch", {lowered: call(lowered, program)})

    for stage, answered in found.items():
        assert answered.failure["code"] == "bad-request", stage
        assert answered.failure["who_must_act"] == "submitter"
        assert "model.eval()" in answered.failure["remedy"]


def test_bad_calibration_data_is_said_before_any_work(tmp_path: Path) -> None:
    onnx = sources()[Format.ONNX]
    wrong = {
        "shape": {"image": np.zeros((4, 3, 9, 9), "float32")},
        "dtype": {"image": np.zeros((4, 3, 8, 8), "float64")},
        "name": {"picture": np.zeros((4, 3, 8, 8), "float32")},
        "pickle": {"image": np.array([{"a": 1}], dtype=object)},
    }
    calls = {}
    for name, arrays in wrong.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
        calls[name] = call("quantize-onnx-int8-static", onnx, calibration=tmp_path / f"{name}.npz")
    found = run_in("builder", calls)

    assert {name: answered.failure["code"] for name, answered in found.items()} == dict.fromkeys(wrong, "bad-data")


def test_the_input_is_left_as_it_was() -> None:
    """The ONNX converter rewrites the file it is given, so it must not be given ours."""
    source = sources()[Format.ONNX]
    before = source.path.read_bytes()
    run_in("onnx2tf", {"again": call("onnx-to-tflite", source)})

    assert source.path.read_bytes() == before


def test_only_executorchs_stages_may_start_programs() -> None:
    assert {spec.environment for spec in STAGES if spec.spawns} == {"executorch"}


@each
def test_it_starts_no_child_process(spec: StageSpec) -> None:
    """So that it runs under the same isolation as every other; ExecuTorch alone writes its files by a program."""
    assert json.loads((answer(spec).work / STARTED).read_text()) == []


def test_a_child_process_would_be_seen(tmp_path: Path) -> None:
    """Given a body that starts programs in three ways; then each is refused and noted, and is free again after it."""
    quick = dataclasses.replace(load_specs()["onnx-to-tflite"], preload=())
    starts = (lambda: subprocess.run(["true"], check=True), os.fork, lambda: os.posix_spawn("/bin/true", ["true"], {}))
    with refused(quick, tmp_path):
        for start in starts:
            with pytest.raises(PermissionError):
                start()
    noted = json.loads((tmp_path / STARTED).read_text())
    with refused(dataclasses.replace(quick, spawns=True), tmp_path):
        subprocess.run(["true"], check=True)

    assert [line.split()[0] for line in noted] == ["subprocess.Popen", "os.fork", "os.posix_spawn"]
