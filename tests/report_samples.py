"""Reports as the farm sends them, with every kind of result."""

from __future__ import annotations

from typing import Any

SHA = "0123456789abcdef" * 4
HOSTILE = "evil</a><script>alert(1)</script>\x1b[31m\u202e../"


def result(recipe: str = "float32", verdict: str | None = "ok", **changes: Any) -> dict[str, Any]:
    """Make one measured result; `changes` replace top-level fields."""
    made: dict[str, Any] = {
        "model": "digits",
        "target": "x86-64-v3",
        "target_runtime": "onnxruntime",
        "recipe": recipe,
        "state": "failed" if verdict == "failed" else "succeeded",
        "verdict": verdict,
        "verdicts": [verdict] if verdict else [],
        "artifact": {
            "files": [{"name": "digits.onnx", "sha256": SHA, "size_bytes": 219_432}],
            "size_bytes": 219_432,
            "inputs": [],
            "outputs": [],
            "format": "onnx",
            "contract_changes": ["input x: axis 0 (batch) fixed at 1"],
        },
        "numerics": {"sqnr_db": 141.2, "cosine": 1.0, "max_abs_error": 2.1e-6, "samples": 8},
        "accuracy": {"metric": "top1", "value": 0.9733, "float_value": 0.9733, "samples": 450},
        "execution_summary": summary(),
        "execution_detail": None,
        "conditions": conditions(),
        "tool_versions": [{"name": "onnxruntime", "version": "1.32.0"}],
        "steps": [step("torch-to-onnx", run_time_s=3.1), step("measure-onnxruntime", run_time_s=6.2)],
    }
    return made | changes


def summary(*, p50: float = 812.4, p90: float = 861.0, **changes: Any) -> dict[str, Any]:
    made = {
        "scenario": "single_stream",
        "threads": 1,
        "estimated_inference_time": p50,
        "p50": p50,
        "p90": p90,
        "p99": p90 * 1.1,
        "first_load_time": 21_000.0,
        "warm_load_time": 9_000.0,
        "inference_memory_peak_range": [30_000_000, 31_000_000],
        "all_inference_times": [[p50, p90], [p50, p90], [p50, p90]],
        "versus_float": 1.0,
        "reused": False,
    }
    return made | changes


def conditions(*, valid: bool = True, reasons: tuple[str, ...] = (), emulated: bool | None = False) -> dict[str, Any]:
    return {
        "valid": valid,
        "reasons": list(reasons),
        "emulated": emulated,
        "host": "bench-1",
        "profile": "x86-64-v3",
        "cpu": "AMD EPYC",
        "governor": None,
    }


def step(stage: str, *, run_time_s: float | None = 1.0, state: str = "succeeded", **changes: Any) -> dict[str, Any]:
    made = {
        "step": f"s-{stage}",
        "stage": stage,
        "state": state,
        "key": SHA,
        "reused": False,
        "attempts": 1,
        "isolation": "full",
        "queue_time_s": 0.4,
        "run_time_s": run_time_s,
        "host": "bench-1",
    }
    return made | changes


def invalid_result() -> dict[str, Any]:
    return result(
        "int8-static",
        "invalid-measurement",
        verdicts=["invalid-measurement", "degraded"],
        conditions=conditions(valid=False, reasons=("loaded", "steal")),
        execution_summary=summary(p50=533.3, p90=990.0, versus_float=1.52),
        numerics={"sqnr_db": 18.4, "cosine": 0.98, "max_abs_error": 0.2},
    )


def emulated_result() -> dict[str, Any]:
    return result(
        "float32",
        "invalid-measurement",
        target="raspberry-pi-5",
        conditions=conditions(valid=False, reasons=("emulated",), emulated=True) | {"host": "qemu-1"},
    )


def failed_result() -> dict[str, Any]:
    return result(
        "int8-static",
        "failed",
        target_runtime="litert",
        failure_type="conversion-failed",
        who_must_act="toolchain",
        retryable=False,
        message="onnx2tf 2.6.9 has no conversion for operator GridSample.",
        remedy="Replace GridSample, or ask for runtime onnxruntime.",
        artifact=None,
        numerics=None,
        accuracy=None,
        execution_summary=None,
        conditions=None,
        steps=[step("onnx-to-tflite", state="failed", reproduce="onnx2tf -i model.onnx -o out")],
    )


def stage_numerics(stage: str, sqnr_db: float, *, where: str = "build", limit_db: float = 20.0) -> dict[str, Any]:
    return {
        "stage": stage,
        "format": "tflite",
        "runtime": "litert",
        "where": where,
        "host": "pi-5" if where == "target" else "builder-1",
        "sqnr_db": sqnr_db,
        "psnr_db": sqnr_db + 6.0,
        "cosine": 0.99,
        "max_abs_error": 0.2,
        "worst_output": "logits",
        "limit_db": limit_db,
    }


def disagreeing_result() -> dict[str, Any]:
    unchecked = stage_numerics("torch-to-onnx", 0.0, limit_db=60.0) | {"runtime": None, "host": None, "sqnr_db": None}
    return result(
        "int8-static",
        "degraded",
        target="raspberry-pi-5",
        target_runtime="litert",
        numerics={
            "sqnr_db": 3.1,
            "cosine": 0.7,
            "max_abs_error": 160.0,
            "by_stage": [
                unchecked | {"not_checked": "not checked: no live build host has environment onnxruntime."},
                stage_numerics("quantize-tflite-int8-static", 31.0),
                stage_numerics("quantize-tflite-int8-static", 3.1, where="target"),
            ],
            "first_bad_stage": "compare on raspberry-pi-5",
            "first_bad_tensor": "logits",
            "disagreement": "The hosts disagree about one file: 3.1 dB on pi-5, 31.0 dB on builder-1.",
        },
    )


def poor_layers_result(tensor: str = "/act2/Relu_output_0", **numerics: Any) -> dict[str, Any]:
    """Return a degraded int8 result whose layers get worse one by one."""
    figures = {"cosine": 0.9, "max_abs_error": 0.25, "max_abs_value": 3.0}
    layers = [{"tensor": "conv1", "operator": "Conv", "sqnr_db": 40.0, **figures}]
    layers += [{"tensor": "/act2/Relu_output_0", "operator": "Relu", "sqnr_db": 12.0, **figures}]
    layers += [{"tensor": f"conv{n}", "operator": "Conv", "sqnr_db": 13.0 - n, **figures} for n in range(3, 7)]
    told = {
        "sqnr_db": 9.0,
        "cosine": 0.9,
        "max_abs_error": 1.0,
        "by_stage": [stage_numerics("quantize-onnx-int8-static", 9.0)],
        "first_bad_stage": "quantize-onnx-int8-static",
        "first_bad_tensor": tensor,
        "per_layer": layers,
        "per_layer_note": "7 of 9 tensors are compared: the others have no counterpart.",
    }
    return result("int8-static", "degraded", numerics=told | numerics)


def slow_result() -> dict[str, Any]:
    return result(
        "int8-static",
        "slower-than-float",
        target_runtime="litert",
        execution_summary=summary(p50=1912.0, p90=2004.0, versus_float=0.42, reused=True, age_s=7200.0),
        execution_detail=[
            {"name": f"conv_{n}", "type": "CONV_2D", "compute_unit": "CPU", "execution_time": 100.0 * n}
            for n in range(1, 16)
        ],
    )


def report(*results: dict[str, Any], state: str = "succeeded", **changes: Any) -> dict[str, Any]:
    made = {
        "schema_version": "1",
        "job": "j-7f3a9c",
        "project": "default",
        "name": "demo",
        "labels": {"team": "vision"},
        "retry_of": None,
        "state": state,
        "reasons": [],
        "created": "2026-11-24T05:00:00Z",
        "ended": "2026-11-24T05:01:10Z",
        "answer": None,
        "results": list(results),
    }
    return made | changes


def full_report() -> dict[str, Any]:
    """Give one report with every kind of result, hostile names among them."""
    hostile = result(model=HOSTILE, recipe="float32")
    return report(
        result(),
        invalid_result(),
        emulated_result(),
        failed_result(),
        slow_result(),
        disagreeing_result(),
        hostile,
        state="partial",
    )


def refused_report() -> dict[str, Any]:
    reasons = [
        {
            "code": "unknown-name",
            "message": "There is no target 'x86-64-v33'; did you mean x86-64-v3?",
            "who_must_act": "submitter",
            "remedy": "See `farm targets`.",
            "model": None,
        },
        {
            "code": "open-axis",
            "message": "Input 'x' has an open axis 2 (height).",
            "who_must_act": "submitter",
            "remedy": "Add --input 'x:float32[1,3,SIZE,640]'.",
            "model": "det",
        },
    ]
    return report(state="refused", reasons=reasons)
