"""Channels last and 32 bits at the edges of real ONNX models: ONNX Runtime gives what it gave before."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from farm.domain.artifact import Contract
from farm.domain.codec import decode
from tests.stage_fixtures import PREPARED, ROOT, Answer, Call, spec
from tests.transform_fixtures import CUBE, compared_db, compared_in, cube_model, scratch

pytestmark = pytest.mark.toolchain
STAGE = "optimize-onnx-edges"
WIDE_SCRIPT = """
import sys
import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper
table = numpy_helper.from_array(np.random.default_rng(3).standard_normal((9, 4)), "table")
nodes = [
    helper.make_node("Gather", ["table", "ids"], ["rows"]),
    helper.make_node("Add", ["rows", "offset"], ["seen"]),
    helper.make_node("ArgMax", ["seen"], ["best"], axis=1, keepdims=0),
]
make = helper.make_tensor_value_info
given = [make("ids", TensorProto.INT64, [3]), make("offset", TensorProto.DOUBLE, [3, 4])]
told = [make("seen", TensorProto.DOUBLE, [3, 4]), make("best", TensorProto.INT64, [3])]
graph = helper.make_graph(nodes, "wide", given, told, initializer=[table])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), sys.argv[1])
"""
IDS, OFFSET = spec("ids", "int64", 3), spec("offset", "float64", 3, 4)
SEEN, BEST = spec("seen", "float64", 3, 4), spec("best", "int64", 3)


@cache
def wide_model() -> Path:
    path = scratch() / "wide.onnx"
    subprocess.run(
        [ROOT / ".envs" / "builder" / "bin" / "python", "-c", WIDE_SCRIPT, str(path)], env=PREPARED, check=True
    )
    return path


def cube(**options: Any) -> Call:
    seen = spec("seen", "float32", 1, 8, 8, 8)
    return Call(STAGE, {"model": cube_model()}, {"input_specs": CUBE, "output_specs": [seen], **options})


def wide(**options: Any) -> Call:
    told = {"input_specs": [IDS, OFFSET], "output_specs": [SEEN, BEST], "ranges": {"ids": [0, 8]}}
    return Call(STAGE, {"model": wide_model()}, told | options)


@cache
def answers() -> dict[str, Answer]:
    calls = {
        "input": cube(channel_last_inputs=["cube"]),
        "both": cube(channel_last_inputs=["cube"], channel_last_outputs=["seen"]),
        "narrow": wide(narrow_64_bit=True),
    }
    return compared_in("builder", calls)


def contract(name: str) -> Contract:
    return decode(Contract, answers()[name].result["contract"])


@pytest.mark.parametrize("name", ["input", "both", "narrow"])
def test_it_computes_what_the_model_does(name: str) -> None:
    assert compared_db(answers()[name]) > 100


def test_an_input_whose_channels_are_last_is_told_by_the_contract() -> None:
    (given,), (told,) = contract("input").inputs, contract("input").outputs

    assert (given.transpose, told.transpose) == ((0, 2, 3, 1), None)
    assert any("NHWC" in change for change in contract("input").changes)


def test_outputs_too_have_their_channels_last_on_request() -> None:
    (told,) = contract("both").outputs

    assert told.transpose == (0, 2, 3, 1)


def test_64_bits_become_32_at_the_edges_and_that_is_told() -> None:
    found = contract("narrow")

    assert [b.artifact.dtype for b in (*found.inputs, *found.outputs)] == ["int32", "float32", "float32", "int32"]
    assert "input ids: int64 → int32" in found.changes
    assert "output seen: float64 → float32" in found.changes
