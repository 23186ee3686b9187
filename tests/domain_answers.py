"""Concluded results as the domain tells them, for tests of constraints and answers."""

from __future__ import annotations

from typing import Any


def result(
    recipe: str = "float32",
    *,
    runtime: str = "onnxruntime",
    p90: float = 10_000.0,
    size: int = 4_000_000,
    accuracy: float | None = 0.89,
    metric: str = "top1",
    sqnr: float | None = 40.0,
    peak: int | None = 50_000_000,
    reasons: tuple[str, ...] = (),
    failed: str | None = None,
    host: str | None = None,
    **summed: Any,
) -> dict[str, Any]:
    """Make a result of one model on one target; times in µs, sizes in bytes; `summed` are figures of its summary."""
    ref = {"model": "m", "target": "t", "target_runtime": runtime, "recipe": recipe}
    if failed is not None:
        return {**ref, "state": "failed", "verdict": "failed", "message": failed}
    summary = {"p50": 0.9 * p90, "p90": p90, "p99": 1.5 * p90, "first_load_time": 5_000.0} | summed
    if peak is not None:
        summary |= {"inference_memory_peak_range": [peak // 2, peak]}
    score = {"metric": metric, "value": accuracy, "float_value": 0.89, "samples": 100}
    return {
        **ref,
        "state": "succeeded",
        "verdict": "ok",
        "artifact": {"size_bytes": size},
        "numerics": {"sqnr_db": sqnr},
        "accuracy": None if accuracy is None else score,
        "execution_summary": summary,
        "conditions": {"valid": not reasons, "reasons": list(reasons), "host": host},
    }
