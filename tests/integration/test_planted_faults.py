"""Faults planted into real models and real runs, and what the farm says of each: the stage, the tensor, the cause.

1. a bad pass, which changes one constant
2. a wrong transpose, which no shape tells
3. a model left in training mode
4. int8 that saturates, calibrated on too small a range
5. an emulated processor that computes int8 wrongly
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farm.catalog import catalogue
from farm.domain.bisection import Figure, LayerFigures, bisect
from farm.domain.catalogue import LiveHost, Target
from farm.domain.codec import decode
from farm.domain.facts import Format, ModelFacts, TensorSpec
from farm.domain.plan import Plan
from farm.domain.planner import make_plan
from farm.domain.stage import REGISTRY, StageSpec
from farm.domain.wanted import Submitted, Wanted, World
from farm.report.explain import explain
from farm.report.model import Report
from tests import report_samples as samples
from tests.domain_run import Run
from tests.domain_world import file
from tests.emulated_fixtures import SERVICES, Elsewhere, farm_elsewhere, root_of
from tests.planned_run import run_all
from tests.stage_fixtures import PREPARED, ROOT, Answer, Call, run_calls
from tests.stage_fixtures import spec as tensor
from workers.runtimes.binding import dequantize
from workers.stages.compare.numerics import OutputError, summarize

pytestmark = pytest.mark.toolchain

IMAGE, SCORES = tensor("image", "float32", 1, 3, 16, 16), tensor("scores", "float32", 1, 10)
SPECS = {"input_specs": [IMAGE], "output_specs": [SCORES]}
FLOAT_DB, INT8_DB = 60.0, 20.0
RECORDED = json.loads((ROOT / "tests" / "recorded_qemu_max.json").read_text())


@dataclass(frozen=True)
class Faults:
    """What the stages and the prover said of every planted model."""

    folder: Path
    answers: dict[str, Answer]
    proven: dict[str, Any]

    def figure(self, stage: str, name: str, limit_db: float = FLOAT_DB) -> Figure:
        """Tell the comparison of a model as that of what `stage` made."""
        numerics = self.answers[f"compare {name}"].facts["numerics"]
        return Figure(stage, "onnx", "onnxruntime", "build", "builder", limit_db, numerics)


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Faults:
    folder = tmp_path_factory.mktemp("planted")
    made = subprocess.run(
        [ROOT / ".envs" / "builder" / "bin" / "python", ROOT / "tests" / "planted_models.py", folder],
        env=PREPARED,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert made.returncode == 0, made.stderr[-3000:]
    first = run_calls("builder", _made_of(folder), tmp_path_factory.mktemp("first"))
    second = run_calls("builder", _compared(folder, first), tmp_path_factory.mktemp("second"))
    return Faults(folder, first | second, json.loads(made.stdout))


def _made_of(folder: Path) -> dict[str, Call]:
    good = folder / "good.onnx"
    return {
        "reference": Call("reference-onnx", {"model": good, "samples": folder / "pictures.npz"}, SPECS),
        "quantized": Call(
            "quantize-onnx-int8-static", {"model": good, "calibration": folder / "dark_pictures.npz"}, SPECS
        ),
        "dropping": Call("inspect-onnx", {"model": folder / "dropping.onnx"}),
        "norming": Call("inspect-onnx", {"model": folder / "norming.onnx"}),
    }


def _compared(folder: Path, first: dict[str, Answer]) -> dict[str, Call]:
    given = {name: folder / f"{name}.onnx" for name in ("good", "one_constant", "swapped_input", "swapped_inside")}
    given["quantized"] = first["quantized"].output("model")
    reference = first["reference"].output("samples")
    contract = first["quantized"].result["contract"]
    calls = {
        f"compare {name}": Call("compare-onnxruntime", {"model": path, "samples": reference}, SPECS)
        for name, path in given.items()
    }
    files = {"model": given["quantized"], "float": given["good"], "samples": reference}
    return calls | {"layers": Call("trace-onnx", files, SPECS, contract)}


def test_1_a_pass_that_changes_one_constant_is_named(faults: Faults) -> None:
    told = bisect([faults.figure("export", "good"), faults.figure("fold-constants", "one_constant")], "box")

    assert (told["first_bad_stage"], told["first_bad_tensor"]) == ("fold-constants", "scores")
    assert told["by_stage"][0]["sqnr_db"] == 200.0
    assert told["by_stage"][1]["sqnr_db"] < FLOAT_DB


@pytest.mark.parametrize("name", ["swapped_input", "swapped_inside"])
def test_2_a_transpose_that_no_shape_tells_is_named_by_the_numbers(faults: Faults, name: str) -> None:
    """Given a stage that says it changed nothing."""
    assert faults.answers[f"compare {name}"].facts["artifact"]["inputs"] == [IMAGE]

    told = bisect([faults.figure("export", "good"), faults.figure("to-channels-last", name)], "box")

    assert told["first_bad_stage"] == "to-channels-last"
    assert told["by_stage"][1]["sqnr_db"] < INT8_DB


def test_2_a_converter_that_swaps_axes_is_told_by_the_probe(faults: Faults) -> None:
    """The one at the input is declared, so that callers swap them too; the one inside is refused."""
    assert faults.proven["swapped_input"]["changes"] == ["input image: axes in the order [0, 1, 3, 2]"]
    assert "computes something else" in faults.proven["swapped_inside"]["refused"]


@cache
def planted_specs() -> dict[str, StageSpec]:
    """Load the faulty stages, and take them out of the registry again, where other tests would meet them."""
    from tests.planted_stages import BAD_PASS, WRONG_TRANSPOSE

    return {name: REGISTRY.pop(name) for name in (BAD_PASS, WRONG_TRANSPOSE)}


def planned_with(*stages: str) -> Run:
    """Plan ONNX → OpenVINO IR → float16 with these two stages, and what compares and measures them."""
    known = catalogue()
    specs = {**known.specs, **planted_specs()}
    around = ("reference-onnx", "compare-openvino", "measure-openvino", "trace-openvino-ir")
    box = Target("box", ("x86_64",), {"openvino": "openvino"}, {"name": "box"})
    serves, locks = ("build.x86_64", "target.box"), dict(known.locks)
    world = World(
        replace(known, specs={name: specs[name] for name in (*around, *stages)}),
        {"box": box},
        (LiveHost("box", "box", "x86_64", True, serves, locks),),
    )
    facts = ModelFacts(Format.ONNX, (decode(TensorSpec, IMAGE),), (decode(TensorSpec, SCORES),))
    wanted = Wanted("job", ("box",), ("openvino",), ("float16",))
    plan = make_plan(wanted, [Submitted("net", file("net.onnx"), facts)], world)
    assert isinstance(plan, Plan), plan
    return Run(plan)


@pytest.fixture(scope="module")
def told_of_plans(faults: Faults, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Run one plan with a bad pass and one with a wrong transpose; return what their reports tell of the numerics."""
    runs = {
        "bad pass": planned_with("planted-onnx-to-openvino-ir", "quantize-openvino-ir-float16"),
        "wrong transpose": planned_with("onnx-to-openvino-ir", "planted-openvino-ir-float16"),
    }
    loop = ("-m", "tests.planted_stages")
    run_all(runs, {"model": faults.folder / "good.onnx"}, tmp_path_factory.mktemp("plans"), loop=loop)
    return {name: run.body("openvino", "float16")["numerics"] for name, run in runs.items()}


def test_1_a_planned_stage_that_changes_a_constant_is_the_first_bad_one(
    told_of_plans: dict[str, dict[str, Any]],
) -> None:
    told = told_of_plans["bad pass"]
    first, second = told["by_stage"][:2]

    assert told["first_bad_stage"] == "planted-onnx-to-openvino-ir"
    assert (first["stage"], second["stage"]) == ("planted-onnx-to-openvino-ir", "quantize-openvino-ir-float16")
    assert first["sqnr_db"] < first["limit_db"]


def test_2_a_planned_stage_that_swaps_axes_is_the_first_bad_one(told_of_plans: dict[str, dict[str, Any]]) -> None:
    """The one before it is not, though what is measured is bad either way; the first layer behind the swap is named."""
    told = told_of_plans["wrong transpose"]
    first, second = told["by_stage"][:2]

    assert (told["first_bad_stage"], told["first_bad_tensor"]) == ("planted-openvino-ir-float16", "conv0")
    assert first["stage"] == "onnx-to-openvino-ir"
    assert first["sqnr_db"] >= first["limit_db"]
    assert second["sqnr_db"] < second["limit_db"]


@pytest.mark.parametrize(
    ("name", "operator"), [("dropping", "Dropout (drop)"), ("norming", "BatchNormalization (norm)")]
)
def test_3_a_model_left_in_training_mode_is_refused_by_its_operator(faults: Faults, name: str, operator: str) -> None:
    """Those of torch are in tests/contract/test_transform_stages.py and test_inspect_bad_input.py."""
    failure = faults.answers[name].failure

    assert failure["who_must_act"] == "submitter"
    assert "in training mode" in failure["message"]
    assert operator in failure["message"]
    assert "eval()" in failure["remedy"]


def test_4_saturated_int8_names_the_stage_the_layer_and_the_cause(faults: Faults) -> None:
    layers = faults.answers["layers"].facts
    figures = [
        faults.figure("export", "good"),
        faults.figure("quantize-onnx-int8-static", "quantized", INT8_DB),
    ]
    told = bisect(figures, "box", LayerFigures("quantize-onnx-int8-static", layers["layers"], layers["note"]))

    assert told["first_bad_stage"] == "quantize-onnx-int8-static"
    assert told["first_bad_tensor"] == "image", "the input is what was calibrated on a twentieth of its range"
    numerics = dict(figures[-1].numerics) | told
    (story,) = explain(
        Report.model_validate(samples.report(samples.result("int8-static", "degraded", numerics=numerics)))
    )
    assert any("of the values of image are cut off" in sentence for sentence in story.told)
    assert story.action.startswith("Calibrate with samples that span the range in use")


def recorded(name: str) -> dict[str, Any]:
    """Compare what a processor answered with what an x86-64 one answers."""
    spec = TensorSpec("scores", "uint8", (256,), RECORDED["scale"], RECORDED["zero_point"])
    expected, actual = (dequantize(np.array(RECORDED[of], np.uint8), spec) for of in ("cortex-a72", name))
    error = OutputError()
    error.add(expected, actual)
    return summarize({"scores": error}, 1)


def test_5_a_processor_that_computes_int8_wrongly_is_named_and_not_the_file() -> None:
    """Given what QEMU_CPU=max answered once: every other output is wrong, and nothing crashes."""
    built = Figure("source", "tflite", "litert", "build", "builder", FLOAT_DB, recorded("cortex-a72"))
    there = Figure("source", "tflite", "litert", "target", "emulated", FLOAT_DB, recorded("max"))

    told = bisect([built, there], "emulated-aarch64")

    assert told["first_bad_stage"] == "compare on emulated-aarch64"
    assert "what executes it on emulated is not" in told["disagreement"]
    assert there.sqnr_db is not None
    assert there.sqnr_db < 10


def test_5_the_record_is_what_a_sound_processor_answers(tmp_path: Path) -> None:
    """Else the recorded fault would be held against another model's answers."""
    script = (
        "import json, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from workers.runtimes.litert import LiteRtSession\n"
        "session = LiteRtSession(Path(sys.argv[1]))\n"
        "(given,) = session.inputs\n"
        "shape = tuple(1 if isinstance(axis, str) else axis for axis in given.shape)\n"
        "values = (np.arange(256) * 37 % 256).astype(np.uint8).reshape(shape)\n"
        "(answer,) = session.run({given.name: values}).values()\n"
        "print(json.dumps(answer.ravel().tolist()))\n"
    )
    done = subprocess.run(
        [ROOT / ".envs" / "litert" / "bin" / "python", "-c", script, ROOT / RECORDED["model"]],
        env=PREPARED,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == RECORDED["cortex-a72"]


@pytest.fixture(scope="module")
def with_wrong_processor() -> Iterator[Elsewhere]:
    """A farm with a sound builder, and an emulated host whose processor computes int8 wrongly."""
    with ExitStack() as held:
        farm = held.enter_context(farm_elsewhere(*SERVICES, "worker"))
        held.enter_context(farm.host(root_of("aarch64"), "emulated-aarch64", "--cpu", "max"))
        yield farm


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.timeout(580)
def test_5_an_emulated_host_that_computes_int8_wrongly_is_named(with_wrong_processor: Elsewhere) -> None:
    report = with_wrong_processor.submit(
        str(ROOT / RECORDED["model"]), "--target", "emulated-aarch64", "--runtime", "litert"
    )

    (result,) = report["results"]
    assert result["failure_type"] == "numerics-broken"
    assert result["numerics"]["first_bad_stage"] == "compare on emulated-aarch64"
    assert "The hosts disagree about one file" in result["numerics"]["disagreement"]
    assert result["who_must_act"] == "operator"
    told = with_wrong_processor.command("explain", report["job"]).stdout
    assert "The hosts disagree about one file" in " ".join(told.split())
