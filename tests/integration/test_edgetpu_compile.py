"""Compiling for the Edge TPU, with a stand-in for the compiler: what is proven is the adapter, never the compiler."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from farm.domain.codec import encode
from farm.domain.errors import ConversionFailed, FarmError, ToolCrashed, ToolTimedOut
from tests.edgetpu_compilers import PAIRS, PYTHON, STAND_IN, stand_in
from tests.edgetpu_models import Op, Tensor, bias, tflite, weights
from tests.stage_fixtures import ROOT, Answer, Call, models, run_call, run_calls
from workers.edgetpu import compiler
from workers.edgetpu.compiled import read_compiled
from workers.edgetpu.compiler import Flags, compile_models, find_compiler, program_digest
from workers.edgetpu.compiler_log import parse_compiler_log
from workers.edgetpu.model import declared_specs, read_model
from workers.runtimes.edgetpu import segments
from workers.sandbox import Call as SandboxCall
from workers.sandbox import Level, Limits, Sandbox
from workers.stages.compile.edgetpu_files import disagreement

pytestmark = [pytest.mark.toolchain]
STAGE = "compile-tflite-to-edgetpu-tflite"
SHARE = "compile-edgetpu-tflite-share"
ROLES = ("model", "beside-1")
MODEL = PAIRS / "bright_16x16.tflite"
INPUTS = [
    {"name": "serving_default_keras_tensor:0", "dtype": "uint8", "shape": [1, 16, 16, 1], "scale": 1.0, "zero_point": 0}
]
VERSION = "Edge TPU Compiler version 16.0.384591198"
OUTPUTS = [{"name": "StatefulPartitionedCall_1:0", "dtype": "int8", "shape": [1, 2], "scale": None, "zero_point": None}]


def _folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


def compile_with(folder: Path, mode: str, model: Path = MODEL, **options: Any) -> Answer:
    told = {"compiler": str(stand_in(folder, mode)), "input_specs": INPUTS, "output_specs": OUTPUTS, **options}
    return run_call("litert", Call(STAGE, {"model": model}, told), folder / "work")


def test_a_compiled_model_is_read_back(tmp_path: Path) -> None:
    found = compile_with(tmp_path, "good")

    made, facts = found.output("model"), found.facts["edgetpu"]
    assert made.read_bytes() == MODEL.with_name("bright_16x16_edgetpu.tflite").read_bytes()
    compiled = read_compiled(made.read_bytes())
    assert facts["predicted"] is False
    assert facts["memory"] == {"cached_bytes": compiled.cached_bytes, "streamed_bytes": compiled.streamed_bytes}
    assert facts["min_runtime_version"] == compiled.min_runtime_version > 0
    assert facts["operators"] == [{"type": "CONV_2D", "count": 4, "status": "Mapped to Edge TPU"}]
    assert facts["compiler"]["version"] == "16.0.384591198"
    assert len(facts["compiler"]["sha256"]) == 64
    assert facts["prediction"]["predicted"] is True
    assert facts["disagreement"] is None
    assert [b["artifact"]["dtype"] for b in found.result["contract"]["inputs"]] == ["uint8"]
    assert "edgetpu_compiler" in found.result["reproduce"]


def test_the_table_of_operations_is_asked_for_and_else_read_from_the_log(tmp_path: Path) -> None:
    """Given a compiler that prints the table, one that only logs it, and one that does neither."""
    shown, logged, silent = (compile_with(_folder(tmp_path, mode), mode) for mode in ("good", "quiet", "silent"))

    assert "--show_operations" in shown.result["reproduce"].split()
    row = [{"type": "CONV_2D", "count": 4, "status": "Mapped to Edge TPU"}]
    assert [each.facts["edgetpu"]["operators"] for each in (shown, logged, silent)] == [row, row, []]


def test_a_table_that_is_not_of_the_file_is_noted() -> None:
    """Given a file with eight operators on the CPU, and the table of one without any; a search's tables say nothing."""
    table = "Operator  Count  Status\n\nCONV_2D  4  Mapped to Edge TPU\nARG_MAX  8  Operation not supported\n"
    other, own = parse_compiler_log(table.partition("ARG_MAX")[0]), parse_compiler_log(table)
    parts = [read_compiled((PAIRS / "deeplabv3_mnv2_dm05_pascal_quant_edgetpu.tflite").read_bytes())]

    assert disagreement(parts, other) == "edgetpu_compiler's table leaves 0 operators on the CPU; the file has 8 there."
    assert disagreement(parts, own) is None
    assert disagreement(parts, replace(other, tries=2)) is None


def test_what_the_compiler_reports_is_kept(tmp_path: Path) -> None:
    report = compile_with(tmp_path, "good").facts["edgetpu"]["report"]

    assert (report["runs"], report["search_tries"], report["compiled_ms"]) == (1, 0, 5)
    (model,) = report["models"]
    assert (model["cached_bytes"], model["remaining_bytes"], model["streamed_bytes"]) == (1280, 8126464, 0)
    assert (model["edge_tpu_subgraphs"], model["total_operators"]) == (1, 4)


@pytest.mark.parametrize(("mode", "runs"), [("shaky", 3), ("shy", 2)])
def test_a_failure_that_passes_is_tried_again(tmp_path: Path, mode: str, runs: int) -> None:
    """Given an internal error, or an empty file, at first; then a later call counts, and is told."""
    assert compile_with(tmp_path, mode).facts["edgetpu"]["report"]["runs"] == runs


@pytest.mark.parametrize(("mode", "runs"), [("broken", 3), ("empty", 3), ("refuse", 1), ("zero", 1), ("crash", 1)])
def test_no_failure_is_tried_more_than_three_times_and_a_lasting_one_once(tmp_path: Path, mode: str, runs: int) -> None:
    found = find_compiler(str(stand_in(tmp_path, mode)))
    (tmp_path / "made").mkdir()
    with pytest.raises(FarmError) as told:
        compile_models(found, [MODEL], tmp_path / "made", Flags(14, False, 1, (), 1))

    assert len((tmp_path / "made.calls").read_text()) == runs
    assert told.value.evidence.get("runs", 1) == runs
    assert "passing" not in told.value.evidence


def test_what_is_refused_of_several_models_is_not_told_of_one(tmp_path: Path) -> None:
    found = find_compiler(str(stand_in(tmp_path, "refuse")))
    (tmp_path / "made").mkdir()
    with pytest.raises(ConversionFailed, match="did not compile 2 models together"):
        compile_models(found, [MODEL, PAIRS / "gabor_64x64_p4.tflite"], tmp_path / "made", Flags(14, False, 1, (), 1))


def test_a_version_that_is_no_text_is_read(tmp_path: Path) -> None:
    assert compile_with(tmp_path, "bytes").facts["edgetpu"]["compiler"]["version"] == "16.0.384591198"


def test_a_compiler_behind_a_script_is_known_by_what_the_script_starts(tmp_path: Path) -> None:
    """Given the script of Coral's package, which is the same in every version; then its folder of files counts too."""
    stand_in(tmp_path, "good")
    alone = program_digest(str(tmp_path))
    (tmp_path / "edgetpu_compiler_bin").mkdir()
    part = tmp_path / "edgetpu_compiler_bin" / "edgetpu_compiler"
    part.write_bytes(b"one version")
    one = program_digest(str(tmp_path))
    part.write_bytes(b"another one")

    assert len({alone, one, program_digest(str(tmp_path))}) == 3
    assert find_compiler(str(tmp_path / "edgetpu_compiler")).sha256 == program_digest(str(tmp_path))


def test_options_reach_the_compiler(tmp_path: Path) -> None:
    found = compile_with(tmp_path, "good", min_runtime_version=13, search_delegate=True, compile_timeout_s=99)

    for flag in ("--min_runtime_version=13", "--search_delegate", "--timeout_sec=99"):
        assert flag in found.result["reproduce"].split()


@pytest.mark.parametrize(
    ("mode", "code", "words"),
    [
        ("old", "environment-missing", "2.1.302470888; 15.0 or newer"),
        ("nameless", "environment-missing", "names no version"),
        ("crash", "tool-crashed", "SIGSEGV"),
        ("refuse", "conversion-failed", "version '6'"),
        ("empty", "artifact-broken", "0 bytes"),
        ("zero", "conversion-failed", "mapped no operator"),
        ("unmapped", "conversion-failed", "the file has no Edge TPU subgraph: all 6 operators stay on the CPU"),
        ("unlike", "artifact-broken", "made 1 Edge TPU subgraphs (operators mapped: 4); the file has 0"),
        ("junk", "artifact-broken", "made model_edgetpu.tflite of 13 bytes, which can't be read"),
        ("cut", "artifact-broken", "made model_edgetpu.tflite of 3000 bytes, which can't be read"),
    ],
)
def test_what_befalls_the_compiler_is_told(tmp_path: Path, mode: str, code: str, words: str) -> None:
    failure = compile_with(tmp_path, mode).failure

    assert (failure["code"], failure["who_must_act"]) == (code, "operator" if "environment" in code else "toolchain")
    assert words in failure["message"]
    assert code == "environment-missing" or failure["evidence"]["version"] == "16.0.384591198"
    assert failure["remedy"] or code in ("tool-crashed", "artifact-broken")


def test_a_crash_behind_a_script_is_a_crash(tmp_path: Path) -> None:
    """Given a script that does not exec the compiler, whose shell tells a signal as 128 and its number."""
    found = find_compiler(str(stand_in(tmp_path, "crash", execs=False)))
    with pytest.raises(ToolCrashed, match="died by SIGSEGV") as told:
        compile_models(found, [MODEL], _folder(tmp_path, "made"), Flags(14, False, 1, (), 1))

    assert told.value.evidence["exit"] == 139


def test_a_compiler_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "_GRACE_S", 0.5)
    found = find_compiler(str(stand_in(tmp_path, "hang")))
    with pytest.raises(ToolTimedOut, match=r"did not end within 1\.5 s"):
        compile_models(found, [MODEL], _folder(tmp_path, "made"), Flags(14, False, 1, (), 1))


def test_a_search_may_outlast_the_timer_of_one_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a search, whose every try has a timer of its own; then it is bounded by what a step may take."""
    monkeypatch.setattr(compiler, "_GRACE_S", 0.1)
    found = find_compiler(str(stand_in(tmp_path, "slow")))
    assert compile_models(found, [MODEL], _folder(tmp_path, "made"), Flags(14, True, 1, (), 1)).runs == 1

    monkeypatch.setattr(compiler, "MOST_S", 0.8)
    with pytest.raises(ToolTimedOut):
        compile_models(found, [MODEL], _folder(tmp_path, "late"), Flags(14, True, 1, (), 1))


@pytest.mark.parametrize(
    "fault", ["missing", "nameless", "old", "unlike the planned", "not runnable", "gone meanwhile"]
)
def test_without_a_usable_compiler_the_prediction_comes_along(tmp_path: Path, fault: str) -> None:
    told: dict[str, Any] = {"input_specs": INPUTS, "output_specs": OUTPUTS}
    program = stand_in(tmp_path, fault if fault in ("nameless", "old") else "good")
    told |= {"compiler": str(tmp_path / "nobody_has_it" if fault == "missing" else program)}
    if fault == "unlike the planned":
        told["compiler_sha256"] = "0" * 64
    if fault == "not runnable":
        program.write_text("#!/no/such/interpreter\n")
    if fault == "gone meanwhile":
        program.write_text(f"#!/bin/sh\necho {VERSION}\nprintf '#!/no/such/interpreter\\n' > {program}\n")
    failure = run_call("litert", Call(STAGE, {"model": MODEL}, told), tmp_path / "work").failure

    assert (failure["code"], failure["who_must_act"]) == ("environment-missing", "operator")
    assert failure["evidence"]["edgetpu"]["predicted"] is True
    assert all(operator["mapped"] for operator in failure["evidence"]["edgetpu"]["operators"])


def test_a_model_that_it_would_refuse_is_not_given_to_it(tmp_path: Path) -> None:
    """Given a float model and a compiler that would crash; then the compiler is not called at all."""
    failure = compile_with(tmp_path, "crash", models() / "good.tflite").failure

    assert failure["code"] == "conversion-failed"
    assert "was not called" in failure["message"]
    assert "not quantized" in failure["message"]


@pytest.mark.parametrize(
    ("recipe", "words"), [("int8-full-integer", "The farm's own converter wrote this"), ("float32", "TensorFlow 2.8")]
)
def test_an_operator_that_is_too_new_is_named_with_who_wrote_it(tmp_path: Path, recipe: str, words: str) -> None:
    """Given a convolution of version 6; then it is the farm's converter's when a recipe made the file."""
    image = Tensor((1, 8, 8, 4))
    operator = Op("CONV_2D", (0, 1, 2), (3,), 6)
    path = tmp_path / "new.tflite"
    path.write_bytes(tflite([image, weights(4, 3, 3, 4), bias(4), image], [operator]))
    failure = compile_with(tmp_path, "crash", path, recipe=recipe).failure

    assert failure["code"] == "conversion-failed"
    assert "CONV_2D (operator 0) has version 6" in failure["message"]
    assert words in failure["remedy"]


def test_a_split_model_is_a_folder_of_segments_in_their_order(tmp_path: Path) -> None:
    """Given eleven segments, whose names don't sort as they run; then a runtime takes them in order."""
    found = compile_with(tmp_path, "good", num_segments=11)

    assert [part.name for part in segments(found.output("model"))] == [
        f"model_segment_{number}_of_11_edgetpu.tflite" for number in range(11)
    ]
    assert sorted(path.suffix for path in found.output("model").iterdir()) == [".tflite"] * 11
    assert found.facts["edgetpu"]["edge_tpu_subgraphs"] == 11
    assert "--num_segments=11" in found.result["reproduce"]


def test_a_lost_segment_is_told(tmp_path: Path) -> None:
    failure = compile_with(tmp_path, "lost", num_segments=2).failure

    assert failure["code"] == "artifact-broken"
    assert "2 were due" in failure["message"]


def test_models_that_share_the_memory_are_compiled_together_and_each_is_told_by_itself(tmp_path: Path) -> None:
    """Given the step of all models and then, of each, the one that takes its share; those are bound to their own."""
    other = PAIRS / "gabor_64x64_p4.tflite"
    sources = {"bright": MODEL, "gabor": other}
    told = {"compiler": str(stand_in(tmp_path, "good")), "input_specs": INPUTS, "output_specs": OUTPUTS}
    call = Call(STAGE, {"model": MODEL, "beside-1": other}, told | {"together": list(sources)})
    found = run_call("litert", call, tmp_path / "work")

    assert found.result["reproduce"].endswith("model.tflite beside-1.tflite")
    assert found.facts["edgetpu"]["edge_tpu_subgraphs"] == 2
    assert [one["model"] for one in found.facts["edgetpu"]["prediction"]["models"]] == list(sources)
    taken: dict[str, Call] = {}
    for role, source in zip(ROLES, sources.values(), strict=True):
        given = read_model(source.read_bytes())
        specs = {f"{what}_specs": declared_specs(given, getattr(given, f"{what}s")) for what in ("input", "output")}
        taken[str(source)] = Call(SHARE, {"model": source, "compiled": found.output(role)}, encode(specs))
    assert (
        len({token for role in ROLES for token in read_compiled(found.output(role).read_bytes()).caching_tokens}) == 1
    )
    shares = run_calls("litert", taken, tmp_path / "shares")
    for role, source, share in zip(ROLES, sources.values(), shares.values(), strict=True):
        made = found.output(role).read_bytes()
        compiled, facts = read_compiled(made), share.facts["edgetpu"]
        assert share.output("model").read_bytes() == made
        told = found.facts["edgetpu"]["models"][role]
        assert (told["memory"], told["compiler"]["version"]) == (facts["memory"], "16.0.384591198")
        assert [one["input_name"] for one in told["report"]["models"]] == [f"{role}.tflite"]
        assert told["operators"] == [{"type": "CONV_2D", "count": 4, "status": "Mapped to Edge TPU"}]
        assert facts["memory"] == {"cached_bytes": compiled.cached_bytes, "streamed_bytes": compiled.streamed_bytes}
        assert (facts["predicted"], facts["prediction"]["predicted"]) == (False, True)
        bound = [binding["source"] for binding in share.result["contract"]["inputs"]]
        assert bound == taken[str(source)].options["input_specs"]


def test_files_that_do_not_share_the_memory_are_no_result_of_compiling_together(tmp_path: Path) -> None:
    """Given a compiler that gives each file a caching token of its own, as it does of models compiled by themselves."""
    sources = {"model": MODEL, "beside-1": PAIRS / "gabor_64x64_p4.tflite"}
    told = {"compiler": str(stand_in(tmp_path, "apart")), "input_specs": INPUTS, "output_specs": OUTPUTS}
    call = Call(STAGE, sources, told | {"together": ["bright", "gabor"]})
    failure = run_call("litert", call, tmp_path / "work").failure

    assert (failure["code"], failure["who_must_act"]) == ("conversion-failed", "toolchain")
    assert "their files do not share the memory" in failure["message"]
    assert "bright: 0x5bc21d7ed7dac9ba; gabor: 0xfb47cac5b08990d8" in failure["message"]


def test_a_share_that_is_another_models_is_refused(tmp_path: Path) -> None:
    compiled = PAIRS / "gabor_64x64_p4_edgetpu.tflite"
    told = {"input_specs": INPUTS, "output_specs": OUTPUTS}
    failure = run_call("litert", Call(SHARE, {"model": MODEL, "compiled": compiled}, told), tmp_path / "work").failure

    assert failure["code"] == "contract-mismatch"


def test_a_share_that_is_damaged_is_not_the_submitters(tmp_path: Path) -> None:
    path = tmp_path / "cut.tflite"
    path.write_bytes((PAIRS / "bright_16x16_edgetpu.tflite").read_bytes()[:3000])
    told = {"input_specs": INPUTS, "output_specs": OUTPUTS}
    failure = run_call("litert", Call(SHARE, {"model": MODEL, "compiled": path}, told), tmp_path / "work").failure

    assert (failure["code"], failure["who_must_act"]) == ("artifact-broken", "toolchain")
    assert failure["evidence"]["tool"] == "edgetpu_compiler"


def test_of_several_models_the_one_that_it_would_refuse_is_named_with_what_becomes_of_the_others(
    tmp_path: Path,
) -> None:
    """Given a convolution of version 6 in the second model, and a compiler that would crash; then it is not called."""
    image = Tensor((1, 8, 8, 4))
    path = tmp_path / "new.tflite"
    path.write_bytes(tflite([image, weights(4, 3, 3, 4), bias(4), image], [Op("CONV_2D", (0, 1, 2), (3,), 6)]))
    told = {"compiler": str(stand_in(tmp_path, "crash")), "input_specs": INPUTS, "output_specs": OUTPUTS}
    call = Call(STAGE, {"model": MODEL, "beside-1": path}, told | {"together": ["bright", "hands"]})
    failure = run_call("litert", call, tmp_path / "work").failure

    assert failure["code"] == "conversion-failed"
    assert "was not called, for it would refuse hands: " in failure["message"]
    assert "CONV_2D (operator 0) has version 6" in failure["message"]
    assert "None of 2 models is compiled together then; each is by itself" in failure["message"]
    assert "leave those models out" in failure["remedy"]
    assert [one["model"] for one in failure["evidence"]["edgetpu"]["models"]] == ["bright", "hands"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"intermediate_tensors": ["no/such"]}, "no/such, and the model has no such tensor"),
        ({"num_segments": 0}, "at least 1"),
        ({"compile_timeout_s": 0}, "at least 1"),
        ({"compile_timeout_s": 3600}, "compile_timeout_s is 3600, and 1710 is the most"),
    ],
)
def test_options_that_cannot_be_are_the_submitters(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    failure = compile_with(tmp_path, "crash", **options).failure

    assert (failure["code"], failure["who_must_act"]) == ("bad-request", "submitter")
    assert words in failure["message"]


def test_a_tensor_of_the_model_may_end_the_part_on_the_device(tmp_path: Path) -> None:
    name = INPUTS[0]["name"]
    found = compile_with(tmp_path, "good", intermediate_tensors=[name])

    assert f"--intermediate_tensors={name}" in found.result["reproduce"]


def test_another_compiler_than_the_planned_one_is_the_operators_to_mend(tmp_path: Path) -> None:
    """Given a step whose key holds one compiler, and a host with another; then nothing is made under that key."""
    failure = compile_with(tmp_path, "good", compiler_sha256="0" * 64).failure

    assert (failure["code"], failure["who_must_act"]) == ("environment-missing", "operator")
    assert "0" * 64 in failure["message"]
    assert "16.0.384591198" in failure["message"]
    assert "farm retry" in failure["remedy"]


def test_a_host_attests_the_compiler_that_its_steps_find(tmp_path: Path) -> None:
    program = stand_in(tmp_path, "good")

    assert program_digest(f"/nowhere:{tmp_path}") == hashlib.sha256(program.read_bytes()).hexdigest()
    assert compile_with(tmp_path, "good", compiler_sha256=program_digest(str(tmp_path))).facts["edgetpu"]
    assert program_digest("/nowhere") is None


def test_it_runs_in_the_sandbox(tmp_path: Path) -> None:
    """Given the exec policy; then a compiler outside the environment runs where the call makes it readable."""
    tmp_path.chmod(0o755)
    program, work = stand_in(tmp_path, "good"), tmp_path / "work"
    work.mkdir()
    told = {"compiler": str(program), "input_specs": INPUTS, "output_specs": OUTPUTS}
    (work / "call.json").write_text(json.dumps({"stage": STAGE, "files": {"model": str(MODEL)}, "options": told}))
    call = SandboxCall(
        environment=PYTHON.parents[1],
        entry="workers.stages.harness:main",
        work=work,
        readable=(program, STAND_IN, PAIRS),
        limits=Limits(wall_s=60, memory_bytes=1 << 30, disk_bytes=1 << 28, file_bytes=1 << 28),
        spawns=True,
    )
    with Sandbox(folder=tmp_path / "sandbox", accept=set(Level), code_root=ROOT, slots=1) as sandbox:
        ending = sandbox.run(call)

    assert (ending.end, ending.exit_code) == ("exit", 0), ending
    result = json.loads((work / "result.json").read_text())
    assert result["facts"]["edgetpu"]["edge_tpu_subgraphs"] == 1
