"""Every runtime, on real small models: describe, load, run; and the stages that are written once over them."""

from typing import Any

import numpy as np
import pytest

from farm.domain.facts import Format
from farm.domain.stage import Kind
from tests.stage_fixtures import Answer, Call, model_file, run_calls, spec
from workers.runtimes import deployable_runtimes, load_runtimes, runtime_of
from workers.stages import load_specs

pytestmark = pytest.mark.toolchain

FILES = {
    Format.TORCH_EXPORTED_PROGRAM: "good.pt2",
    Format.TORCHSCRIPT: "good.pt",
    Format.TORCH_STATE_DICT: "good_state",
    Format.HUGGING_FACE: "good_vit",
    Format.ONNX: "good.onnx",
    Format.ORT: "good.ort",
    Format.EXECUTORCH: "good.pte",
    Format.TF_SAVEDMODEL: "good_savedmodel",
    Format.KERAS: "good.keras",
    Format.KERAS_H5: "good.h5",
    Format.TFLITE: "good.tflite",
    Format.OPENVINO_IR: "good_openvino",
}
NCHW, NHWC = (1, 3, 8, 8), (1, 8, 8, 3)
INPUTS = {
    Format.TORCH_EXPORTED_PROGRAM: spec("image", "float32", *NCHW),
    Format.TORCHSCRIPT: spec("image", "float32", *NCHW),
    Format.TORCH_STATE_DICT: spec("image", "float32", *NCHW),
    Format.HUGGING_FACE: spec("pixel_values", "float32", *NCHW),
    Format.ONNX: spec("image", "float32", *NCHW),
    Format.ORT: spec("image", "float32", *NCHW),
    Format.EXECUTORCH: spec("input_0", "float32", *NCHW),
    Format.TF_SAVEDMODEL: spec("image", "float32", *NHWC),
    Format.KERAS: spec("image", "float32", *NHWC),
    Format.KERAS_H5: spec("image", "float32", *NHWC),
    Format.TFLITE: spec("serving_default_image:0", "float32", *NHWC),
    Format.OPENVINO_IR: spec("image", "float32", *NCHW),
}
SOURCES = tuple(
    s for runtime in load_runtimes().values() for s in runtime.accepts if s in FILES and runtime_of(s) is runtime
)
DEPLOYABLE = tuple(runtime.name for runtime in deployable_runtimes() if runtime.device is None)
"""What needs an accelerator is tested apart: see test_edgetpu_library."""


@pytest.fixture(scope="module")
def on_builder(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """Inspect each source, and run it twice on 3 generated samples."""
    calls: dict[str, dict[str, Call]] = {}
    for source in SOURCES:
        given, run = {"model": model_file(FILES[source])}, {"input_specs": [INPUTS[source]], "samples": 3}
        calls.setdefault(runtime_of(source).builds_in, {}).update(
            {
                f"{source} inspected": Call(f"inspect-{source}", given),
                f"{source} first": Call(f"reference-{source}", given, run),
                f"{source} again": Call(f"reference-{source}", given, run),
            }
        )
    answers = (run_calls(name, given, tmp_path_factory.mktemp("builder")) for name, given in calls.items())
    return {name: answer for each in answers for name, answer in each.items()}


@pytest.fixture(scope="module")
def inspected(on_builder: dict[str, Answer]) -> dict[str, Answer]:
    return {source: on_builder[f"{source} inspected"] for source in SOURCES}


@pytest.fixture(scope="module")
def references(on_builder: dict[str, Answer]) -> dict[str, Answer]:
    return on_builder


def arrays(answer: Answer, prefix: str) -> dict[str, np.ndarray[Any, Any]]:
    with np.load(answer.output("samples")) as stored:
        return {key.removeprefix(prefix): stored[key] for key in stored if key.startswith(prefix)}


def test_a_new_runtime_needs_a_model_here() -> None:
    assert set(SOURCES) == set(FILES)


@pytest.mark.parametrize("source", SOURCES)
def test_inspection_names_what_the_runtime_feeds(inspected: dict[str, Answer], source: Format) -> None:
    facts = inspected[source].facts
    assert facts["format"] == source
    assert [found["name"] for found in facts["inputs"]] == [INPUTS[source]["name"]]
    assert facts["parameters"] is None if source is Format.EXECUTORCH else facts["parameters"] > 100
    assert sum(facts["operators"].values()) >= 3
    assert facts["size_bytes"] > 500


@pytest.mark.parametrize("source", sorted(set(SOURCES) - {Format.TORCHSCRIPT, Format.EXECUTORCH}))
def test_inspection_reads_dtype_and_open_axes(inspected: dict[str, Answer], source: Format) -> None:
    (found,) = inspected[source].facts["inputs"]
    open_axes = [axis for axis in found["shape"] if isinstance(axis, str)]
    assert found["dtype"] == "float32"
    assert len(found["shape"]) == 4
    assert found["shape"][0] == open_axes[0]


def test_open_axes_keep_the_names_of_the_file(inspected: dict[str, Answer]) -> None:
    assert inspected[Format.ONNX].facts["inputs"][0]["shape"] == ["batch", 3, 8, "?"]
    assert inspected[Format.KERAS].facts["inputs"][0]["shape"] == ["?", 8, 8, 3]


def test_torchscript_says_that_it_does_not_know(inspected: dict[str, Answer]) -> None:
    (found,) = inspected[Format.TORCHSCRIPT].facts["inputs"]
    assert (found["dtype"], found["shape"]) == ("unknown", None)


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_runs_and_repeats(references: dict[str, Answer], inspected: dict[str, Answer], source: Format) -> None:
    first, again = (arrays(references[f"{source} {attempt}"], "output/") for attempt in ("first", "again"))
    declared = [found["name"] for found in inspected[source].facts["outputs"]]
    assert list(first) == declared
    for name, values in first.items():
        assert values.shape[0] == 3
        assert np.isfinite(values).all()
        assert np.ptp(values) > 0
        np.testing.assert_array_equal(values, again[name])


@pytest.mark.parametrize("source", [Format.KERAS, Format.KERAS_H5, Format.TFLITE])
def test_one_model_in_four_formats_is_one_function(references: dict[str, Answer], source: Format) -> None:
    """Outputs are matched by their last axis, since every format names them differently."""
    expected = arrays(references[f"{Format.TF_SAVEDMODEL} first"], "output/")
    found = {values.shape[-1]: values for values in arrays(references[f"{source} first"], "output/").values()}
    for values in expected.values():
        np.testing.assert_allclose(found[values.shape[-1]], values, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("other", [Format.TORCHSCRIPT, Format.TORCH_STATE_DICT])
def test_torch_formats_are_one_function(references: dict[str, Answer], other: Format) -> None:
    program = list(arrays(references["torch-exported-program first"], "output/").values())
    for one, another in zip(program, arrays(references[f"{other} first"], "output/").values(), strict=True):
        np.testing.assert_allclose(one, another, rtol=1e-5, atol=1e-6)


def artifact_of(runtime: str) -> Format:
    return load_runtimes()[runtime].accepts[0]


@pytest.fixture(scope="module", params=DEPLOYABLE)
def on_target(
    request: pytest.FixtureRequest,
    references: dict[str, Answer],
    inspected: dict[str, Answer],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Answer]:
    """Take the source itself as the artifact, in the runtime's own environment."""
    runtime = request.param
    source = artifact_of(runtime)
    samples = references[f"{source} first"].output("samples")
    specs = {"input_specs": [INPUTS[source]], "output_specs": inspected[source].facts["outputs"]}
    model, quick = model_file(FILES[source]), {"min_s": 0.05, "min_runs": 20}
    wrong = specs | {"output_specs": [spec("absent", "float32", 1, 5)]}
    calls = {
        "compare": Call(f"compare-{runtime}", {"model": model, "samples": samples}, specs),
        "mismatch": Call(f"compare-{runtime}", {"model": model, "samples": samples}, wrong),
        "broken": Call(f"compare-{runtime}", {"model": samples, "samples": samples}, specs),
        "evaluate": Call(
            f"evaluate-{runtime}", {"model": model, "evaluation": samples}, specs | {"metric": "agreement"}
        ),
        "unlabelled": Call(f"evaluate-{runtime}", {"model": model, "evaluation": samples}, specs | {"metric": "top1"}),
        "misspelt": Call(f"evaluate-{runtime}", {"model": model, "evaluation": samples}, specs | {"metric": "top-1"}),
        "measure": Call(f"measure-{runtime}", {"model": model}, specs | quick),
        "memory": Call(f"measure-{runtime}", {"model": model}, specs | {"mode": "memory"}),
    }
    environment = load_runtimes()[runtime].environment
    return run_calls(environment, calls, tmp_path_factory.mktemp(runtime))


def test_the_source_compared_with_itself_is_equal(on_target: dict[str, Answer]) -> None:
    numerics = on_target["compare"].facts["numerics"]
    assert numerics["sqnr_db"] > 120
    assert numerics["cosine"] == pytest.approx(1.0, abs=1e-9)
    assert numerics["samples"] == 3
    assert numerics["max_abs_error"] < 1e-5


def test_the_artifact_is_described_by_its_runtime(on_target: dict[str, Answer]) -> None:
    artifact = on_target["compare"].facts["artifact"]
    assert artifact["inputs"][0]["dtype"] == "float32"
    assert artifact["contract_changes"] == []
    assert on_target["compare"].result["tool_versions"]


def test_undeclared_outputs_are_a_mismatch(on_target: dict[str, Answer]) -> None:
    failure = on_target["mismatch"].failure
    assert failure["code"] == "contract-mismatch"
    assert "'absent' is missing" in failure["message"]
    assert failure["who_must_act"] == "toolchain"


def test_a_file_that_is_no_model_is_a_broken_artifact(on_target: dict[str, Answer]) -> None:
    assert on_target["broken"].failure["code"] == "artifact-broken"


def test_agreement_with_itself_is_one(on_target: dict[str, Answer]) -> None:
    accuracy = on_target["evaluate"].facts["accuracy"]
    assert accuracy["value"] == pytest.approx(1.0, abs=1e-5)
    assert accuracy["float_value"] == 1.0
    assert accuracy["samples"] == 3


def test_a_metric_of_labels_needs_labels(on_target: dict[str, Answer]) -> None:
    failure = on_target["unlabelled"].failure
    assert (failure["code"], failure["who_must_act"]) == ("bad-data", "submitter")
    assert "labels" in failure["message"]


def test_an_unknown_metric_names_near_misses(on_target: dict[str, Answer]) -> None:
    failure = on_target["misspelt"].failure
    assert failure["code"] == "bad-request"
    assert "top1" in failure["message"]


def test_a_process_measures(on_target: dict[str, Answer]) -> None:
    run = on_target["measure"].facts
    assert len(run["times_us"]) >= 20
    assert all(time > 0 for time in run["times_us"])
    assert run["first_load_us"] > min(run["times_us"])
    assert run["warm_load_us"] > 0
    assert run["batch"] & (run["batch"] - 1) == 0


def test_the_memory_pass_reads_a_peak(on_target: dict[str, Answer]) -> None:
    assert 10 << 20 < on_target["memory"].facts["peak_memory_bytes"] < 2 << 30


@pytest.mark.parametrize("kind", [Kind.COMPARE, Kind.EVALUATE, Kind.MEASURE])
def test_every_deployable_runtime_has_its_stages(kind: Kind) -> None:
    found = {spec.runtime: spec for spec in load_specs().values() if spec.kind is kind}
    for runtime in deployable_runtimes():
        stage = found[runtime.name]
        assert stage.environment == runtime.environment
        assert stage.source is None
        assert stage.fresh is (kind is Kind.MEASURE)
