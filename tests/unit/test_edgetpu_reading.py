"""Damaged models are refused by name, and nothing else ever comes out of the readers."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from farm.domain.errors import CorruptModel
from tests.edgetpu_models import Op, Tensor, tflite
from workers.edgetpu.compiled import read_compiled
from workers.edgetpu.flatbuffer import Reader
from workers.edgetpu.model import declared_specs, read_model
from workers.edgetpu.predict import predict

PAIRS = Path(__file__).parents[1] / "edgetpu_pairs"
EXTREMES = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
ROUNDS = 1500
READERS: tuple[tuple[Callable[[bytes], object], str], ...] = (
    (predict, "gabor_64x64_p4.tflite"),
    (predict, "bright_16x16.tflite"),
    (read_compiled, "gabor_64x64_p4_edgetpu.tflite"),
)


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Cut the file, or overwrite a few of its bytes and words, more often near its ends."""
    if chance.random() < 0.15:
        return data[: chance.randrange(len(data))]
    changed = bytearray(data)
    for _ in range(chance.choice((1, 2, 4, 16))):
        near = chance.randrange(min(len(data), 4000))
        at = chance.choice((chance.randrange(len(data)), near, len(data) - 1 - near))
        if chance.random() < 0.5:
            changed[at] = chance.randrange(256)
        else:
            word = chance.choice((*EXTREMES, chance.randrange(64), chance.getrandbits(32)))
            struct.pack_into("<I", changed, min(at & ~3, len(data) - 4), word)
    return bytes(changed)


@pytest.mark.parametrize(("read", "name"), READERS)
def test_damage_is_read_or_refused(read: Callable[[bytes], object], name: str) -> None:
    data = (PAIRS / name).read_bytes()
    refused = 0
    for seed in range(ROUNDS):
        try:
            read(damaged(data, random.Random(seed)))
        except CorruptModel:
            refused += 1
    assert 0 < refused < ROUNDS


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\0" * 64, b"\x08\0\0\0TFL3", b"\xff" * 64])
def test_what_is_no_model_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptModel):
        predict(data)
    with pytest.raises(CorruptModel):
        read_compiled(data)


def test_an_operator_of_a_missing_tensor_is_refused() -> None:
    data = tflite([Tensor((1, 4)), Tensor((1, 4))], [Op("RELU", (0,), (9,))], outputs=(1,))
    with pytest.raises(CorruptModel, match="not among its 2"):
        read_model(data)


def test_vectors_that_share_bytes_do_not_make_a_small_file_expensive() -> None:
    reader = Reader(tflite([Tensor((1,) * 8)], [Op("RELU", (0,), (0,))]))
    shape = reader.root(b"TFL3").tables(2)[0].tables(0)[0]
    with pytest.raises(CorruptModel, match="more elements than it has bytes"):
        _ = [shape.integers(0) for _ in range(reader.size)]


def test_a_tensor_of_too_many_dimensions_is_refused() -> None:
    with pytest.raises(CorruptModel, match="17 dimensions"):
        read_model(tflite([Tensor((1,) * 17)], [Op("RELU", (0,), (0,))]))


def test_a_model_that_was_not_compiled_has_no_edge_tpu_part() -> None:
    compiled = read_compiled(tflite([Tensor((1, 4)), Tensor((1, 4))], [Op("RELU", (0,), (1,))]))
    assert (compiled.edge_tpu_subgraphs, compiled.min_runtime_version) == (0, 0)
    assert compiled.cpu_operators == ((0, "RELU"),)


def test_a_custom_operator_without_its_package_is_refused() -> None:
    with pytest.raises(CorruptModel):
        read_compiled(tflite([Tensor((1, 4)), Tensor((1, 4))], [Op("edgetpu-custom-op", (0,), (1,))]))


def test_declared_inputs_and_outputs_carry_shape_and_type() -> None:
    model = read_model(tflite([Tensor((1, 4), signature=(-1, 4)), Tensor((1, 4))], [Op("RELU", (0,), (1,))]))
    assert [str(each) for each in declared_specs(model, (*model.inputs, *model.outputs))] == [
        "t0:int8[?,4]",
        "t1:int8[1,4]",
    ]
