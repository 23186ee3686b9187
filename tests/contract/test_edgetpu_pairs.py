"""The prediction against what the real compiler made of public models (tests/edgetpu_pairs)."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from workers.edgetpu.compiled import read_compiled
from workers.edgetpu.predict import predict

PAIRS = Path(__file__).parents[1] / "edgetpu_pairs"
with (PAIRS / "truth.csv").open(newline="") as file:
    TRUTH = {row["source"]: row for row in csv.DictReader(file)}
COMPILED = [name for name in TRUTH if (PAIRS / name.replace(".tflite", "_edgetpu.tflite")).is_file()]
TOLERANCE, TOLERANCE_BYTES = 0.20, 4096


@pytest.mark.parametrize("source", TRUTH)
def test_operators_left_on_the_cpu_are_those_that_the_compiler_left(source: str) -> None:
    prediction = predict((PAIRS / source).read_bytes())
    assert Counter(each.type for each in prediction.cpu_operators) == json.loads(TRUTH[source]["cpu_left_by_type"])
    assert len(prediction.operators) == int(TRUTH[source]["src_ops"])


@pytest.mark.parametrize("source", TRUTH)
def test_memory_is_close_to_what_the_compiled_file_holds(source: str) -> None:
    memory = predict((PAIRS / source).read_bytes()).memory
    for predicted, column in (
        (memory.cached_bytes, "params_cached_bytes"),
        (memory.streamed_bytes, "params_streamed_bytes"),
    ):
        actual = int(TRUTH[source][column])
        assert abs(predicted - actual) <= max(TOLERANCE * actual, TOLERANCE_BYTES)


@pytest.mark.parametrize("source", COMPILED)
def test_a_compiled_file_is_read_back(source: str) -> None:
    compiled = read_compiled((PAIRS / source.replace(".tflite", "_edgetpu.tflite")).read_bytes())
    truth = TRUTH[source]
    assert compiled.min_runtime_version == int(truth["min_runtime_version"])
    assert compiled.cached_bytes == int(truth["params_cached_bytes"])
    assert compiled.streamed_bytes == int(truth["params_streamed_bytes"])
    assert compiled.edge_tpu_subgraphs == int(truth["custom_ops"])
    assert Counter(name for _, name in compiled.cpu_operators) == json.loads(truth["cpu_left_by_type"])


@pytest.mark.parametrize("source", COMPILED)
def test_the_unmapped_operators_follow_in_the_same_order(source: str) -> None:
    compiled = read_compiled((PAIRS / source.replace(".tflite", "_edgetpu.tflite")).read_bytes())
    left = [each.type for each in predict((PAIRS / source).read_bytes()).cpu_operators]
    assert left == [name for _, name in compiled.cpu_operators]
