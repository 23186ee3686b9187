"""The documented limits of the Edge TPU compiler, one operator at a time, and how they split a graph."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.edgetpu_models import FLOAT32, INT8, INT32, UINT8, Op, Tensor, bias, index, tflite, weights
from workers.edgetpu.limits import FULL_CACHE_BYTES, SMALLEST_CACHE_BYTES, Status
from workers.edgetpu.model import DataType
from workers.edgetpu.predict import Prediction, predict

IMAGE = Tensor((1, 8, 8, 4))


@dataclass(frozen=True)
class Case:
    """One operator between a quantized input (tensor 0) and output (the last tensor)."""

    name: str
    operator: Op
    tensors: tuple[Tensor, ...]
    status: Status | None


def case(name: str, kind: str, *tensors: Tensor, status: Status | None = None, **options: tuple[str, int]) -> Case:
    last = len(tensors) - 1
    slots = {int(slot.removeprefix("slot")): value for slot, value in options.items()}
    return Case(name, Op(kind, tuple(range(last)), (last,), options=slots), tensors, status)


LIMITATION, RANK, TYPE, UNSUPPORTED = Status.LIMITATION, Status.RANK, Status.DATA_TYPE, Status.UNSUPPORTED
KERNEL, BIAS, OUT = weights(4, 3, 3, 4), bias(4), Tensor((1, 8, 8, 4))
FLAT = Tensor((1, 16))
CASES = (
    case("convolution", "CONV_2D", IMAGE, KERNEL, BIAS, OUT),
    case("equal dilation", "CONV_2D", IMAGE, KERNEL, BIAS, OUT, slot4=("i", 2), slot5=("i", 2)),
    case("unequal dilation", "CONV_2D", IMAGE, KERNEL, BIAS, OUT, slot4=("i", 2), slot5=("i", 1), status=LIMITATION),
    case("default dilation differs", "CONV_2D", IMAGE, KERNEL, BIAS, OUT, slot4=("i", 3), status=LIMITATION),
    case("computed weights", "CONV_2D", IMAGE, Tensor((1, 3, 3, 4)), BIAS, OUT, status=LIMITATION),
    case("float weights", "CONV_2D", IMAGE, Tensor((4, 1, 1, 4), FLOAT32, bytes(64)), BIAS, OUT, status=TYPE),
    case(
        "unequal depthwise",
        "DEPTHWISE_CONV_2D",
        IMAGE,
        weights(1, 3, 3, 4),
        BIAS,
        OUT,
        slot5=("i", 2),
        status=LIMITATION,
    ),
    case("uint8", "CONV_2D", Tensor((1, 8, 8, 4), UINT8), KERNEL, BIAS, OUT),
    case("int16", "ADD", Tensor((1, 4)), Tensor((1, 4), DataType.INT16), Tensor((1, 4)), status=TYPE),
    case("batch", "CONV_2D", Tensor((2, 8, 8, 4)), KERNEL, BIAS, Tensor((2, 8, 8, 4)), status=RANK),
    case("five dimensions", "RELU", Tensor((1, 1, 2, 2, 2)), Tensor((1, 1, 2, 2, 2))),
    case("four large dimensions", "RELU", Tensor((1, 2, 2, 2, 2)), Tensor((1, 2, 2, 2, 2)), status=RANK),
    case("pool", "AVERAGE_POOL_2D", IMAGE, OUT),
    case("pool with activation", "AVERAGE_POOL_2D", IMAGE, OUT, slot5=("b", 1), status=LIMITATION),
    case("max pool with activation", "MAX_POOL_2D", IMAGE, OUT, slot5=("b", 3), status=LIMITATION),
    case("dense", "FULLY_CONNECTED", FLAT, weights(4, 16), BIAS, Tensor((1, 4))),
    case(
        "dense of a batch", "FULLY_CONNECTED", Tensor((3, 16)), weights(4, 16), BIAS, Tensor((3, 4)), status=LIMITATION
    ),
    case("shuffled", "FULLY_CONNECTED", FLAT, weights(4, 16), BIAS, Tensor((1, 4)), slot1=("b", 1), status=LIMITATION),
    case("softmax", "SOFTMAX", FLAT, FLAT),
    case("softmax of rows", "SOFTMAX", Tensor((1, 4, 756, 16)), Tensor((1, 4, 756, 16))),
    case("largest softmax", "SOFTMAX", Tensor((1, 16384)), Tensor((1, 16384))),
    case("too large softmax", "SOFTMAX", Tensor((1, 16385)), Tensor((1, 16385)), status=LIMITATION),
    case("transpose", "TRANSPOSE", Tensor((1, 196, 3, 85)), index(0, 2, 1, 3), Tensor((1, 3, 196, 85))),
    case(
        "large transpose",
        "TRANSPOSE",
        *(Tensor((1, 784, 3, 85)), index(0, 2, 1, 3), Tensor((1, 3, 784, 85))),
        status=LIMITATION,
    ),
    case("scalar", "RESHAPE", Tensor((1, 1)), index(), Tensor(())),
    case("concatenation", "CONCATENATION", FLAT, FLAT, Tensor((1, 32))),
    case("zeros joined", "CONCATENATION", FLAT, weights(1, 16), Tensor((1, 32))),
    case("ones joined", "CONCATENATION", FLAT, Tensor((1, 4), INT8, b"\1" * 4), Tensor((1, 20)), status=LIMITATION),
    case("two zeros", "CONCATENATION", FLAT, weights(1, 4), weights(1, 4), Tensor((1, 24)), status=LIMITATION),
    case("mean of height and width", "MEAN", Tensor((1, 4, 4, 6)), index(1, 2), Tensor((1, 6))),
    case("mean of 64 x 128", "MEAN", Tensor((1, 64, 128, 4)), index(1, 2), Tensor((1, 4))),
    case("mean of 256 x 128", "MEAN", Tensor((1, 256, 128, 4)), index(1, 2), Tensor((1, 4)), status=LIMITATION),
    case("mean of the batch", "MEAN", IMAGE, index(0), OUT, status=LIMITATION),
    case("mean of depth 8", "MEAN", Tensor((1, 4, 4, 8)), index(-1), Tensor((1, 4, 4))),
    case("mean of depth 6", "MEAN", Tensor((1, 4, 4, 6)), index(-1), Tensor((1, 4, 4)), status=LIMITATION),
    case("sum of the batch", "SUM", IMAGE, index(0), OUT, status=LIMITATION),
    case("pad", "PAD", IMAGE, index(0, 0, 1, 1, 1, 1, 0, 0), Tensor((1, 10, 10, 4))),
    case("pad of the batch", "PAD", IMAGE, index(1, 0, 0, 0, 0, 0, 0, 0), OUT, status=LIMITATION),
    case("pack", "PACK", FLAT, FLAT, Tensor((1, 2, 16)), slot1=("i", 1)),
    case("pack of a batch", "PACK", IMAGE, Tensor((1, 1, 8, 8, 4)), slot1=("i", 0), status=LIMITATION),
    case("slope per channel", "PRELU", IMAGE, weights(1, 1, 4), OUT),
    case("slope per pixel", "PRELU", IMAGE, weights(8, 8, 4), OUT, status=LIMITATION),
    case("slice", "STRIDED_SLICE", FLAT, index(0, 0), index(1, 8), index(1, 1), Tensor((1, 8))),
    case("stride", "STRIDED_SLICE", FLAT, index(0, 0), index(1, 8), index(1, 2), Tensor((1, 4)), status=LIMITATION),
    case(
        "new axis",
        "STRIDED_SLICE",
        *(FLAT, index(0, 0), index(1, 8), index(1, 1), Tensor((1, 8))),
        slot3=("i", 1),
        status=LIMITATION,
    ),
    case("split", "SPLIT", index(1), FLAT, Tensor((1, 8))),
    case("split into one part", "SPLIT", index(0), IMAGE, OUT),
    case("known custom operator", "AudioSpectrogram", FLAT, Tensor((1, 4), FLOAT32), status=TYPE),
    case("up-sampling", "RESIZE_BILINEAR", Tensor((1, 24, 24, 4)), index(48, 48), Tensor((1, 48, 48, 4))),
    case("no change of size", "RESIZE_BILINEAR", Tensor((1, 300, 300, 4)), index(300, 300), Tensor((1, 300, 300, 4))),
    case(
        "one pixel", "RESIZE_BILINEAR", Tensor((1, 1, 1, 4)), index(33, 33), Tensor((1, 33, 33, 4)), status=LIMITATION
    ),
    case(
        "large",
        "RESIZE_NEAREST_NEIGHBOR",
        *(Tensor((1, 256, 256, 4)), index(512, 512), Tensor((1, 512, 512, 4))),
        status=LIMITATION,
    ),
    case("requantization", "QUANTIZE", Tensor((1, 4), UINT8), Tensor((1, 4))),
    case("unlisted", "LEAKY_RELU", FLAT, FLAT, status=UNSUPPORTED),
    case("unlisted activation", "HARD_SWISH", FLAT, FLAT, status=UNSUPPORTED),
    case("index result", "ARG_MAX", FLAT, index(1), Tensor((1,), DataType.INT64), status=TYPE),
    case("detection", "TFLite_Detection_PostProcess", FLAT, Tensor((1, 4), FLOAT32), status=TYPE),
)


@pytest.mark.parametrize("each", CASES, ids=[each.name for each in CASES])
def test_a_limit_is_told_in_the_compilers_words(each: Case) -> None:
    (operator,) = predict(tflite(each.tensors, [each.operator])).operators
    assert operator.mapped is (each.status is None)
    assert (operator.reason or "").startswith(each.status or "")
    assert operator.type == each.operator.type


def mapped(prediction: Prediction) -> list[int]:
    return [each.index for each in prediction.operators if each.mapped]


def chain(*kinds: str, branches: tuple[str, ...] = ()) -> bytes:
    """Write operators one after the other; each of `branches` is a subgraph of its own."""
    tensors = [FLAT] * (len(kinds) + 1)
    operators = [Op(kind, (number,), (number + 1,)) for number, kind in enumerate(kinds)]
    return tflite(tensors, operators, branches=[Op(kind, (0,), (1,)) for kind in branches])


def test_what_follows_an_unmapped_operator_stays_on_the_cpu() -> None:
    prediction = predict(chain("RELU", "LEAKY_RELU", "RELU", "RELU"))
    assert mapped(prediction) == [0]
    assert [each.reason for each in prediction.operators[2:]] == [Status.ONE_SUBGRAPH] * 2


def test_unsupported_operators_at_the_start_do_not_end_the_mapping() -> None:
    assert mapped(predict(chain("LEAKY_RELU", "ELU", "RELU", "RELU"))) == [2, 3]


def test_after_means_in_the_data_not_in_the_list() -> None:
    operators = [
        Op("RELU", (0,), (1,)),
        Op("LEAKY_RELU", (1,), (2,)),
        Op("RELU", (1,), (3,)),
        Op("ADD", (2, 3), (4,)),
    ]
    assert mapped(predict(tflite([FLAT] * 5, operators))) == [0, 2]


def test_float_inputs_and_outputs_leave_only_their_conversion_on_the_cpu() -> None:
    tensors = [Tensor((1, 16), FLOAT32), FLAT, FLAT, Tensor((1, 16), FLOAT32)]
    prediction = predict(
        tflite(tensors, [Op("QUANTIZE", (0,), (1,)), Op("RELU", (1,), (2,)), Op("DEQUANTIZE", (2,), (3,))])
    )
    assert mapped(prediction) == [1]
    assert (prediction.operators[0].reason or "").startswith(Status.LIMITATION)
    assert (prediction.operators[2].reason or "").startswith(Status.DATA_TYPE)


def test_operators_of_a_newer_runtime_need_it() -> None:
    model = tflite([FLAT, Tensor((16, 1))], [Op("EXPAND_DIMS", (0,), (1,))])
    assert mapped(predict(model)) == [0]
    assert mapped(predict(model, min_runtime_version=12)) == []


FLOATS = Tensor((1, 4), FLOAT32)
BYTES = Tensor((1, 4), UINT8)
REFUSED = {
    "quantize": tflite([FLOATS, FLOATS], [Op("RELU", (0,), (1,))]),
    "quantize it to full-integer": tflite([BYTES, FLOATS, FLOATS], [Op("CAST", (0,), (1,)), Op("RELU", (1,), (2,))]),
    "not quantized": tflite([FLOATS, weights(4, 4), bias(4), FLOATS], [Op("FULLY_CONNECTED", (0, 1, 2), (3,))]),
    "CONV_2D (operator 0) has version 6": tflite([IMAGE, KERNEL, BIAS, OUT], [Op("CONV_2D", (0, 1, 2), (3,), 6)]),
    "FULLY_CONNECTED (operator 0) has version 12": tflite(
        [FLAT, weights(4, 16), bias(4), Tensor((1, 4))], [Op("FULLY_CONNECTED", (0, 1, 2), (3,), 12)]
    ),
    "QUANTIZE (operator 0) has version 3": tflite([FLAT, FLAT], [Op("QUANTIZE", (0,), (1,), 3)]),
    "Encountered unresolved custom op: Atan": tflite([FLAT, FLAT], [Op("Atan", (0,), (1,))]),
    "already compiled": tflite([FLAT, FLAT], [Op("edgetpu-custom-op", (0,), (1,))]),
    "GELU (operator 0) has code 150": tflite([FLAT, FLAT], [Op("GELU", (0,), (1,))]),
    "operand t1, which is computed, of RESHAPE": tflite(
        [FLAT, Tensor((2,), INT32), FLAT], [Op("RESHAPE", (0, 1), (2,))]
    ),
    "shape [1, -1, 8, 4]": tflite([Tensor((1, 1, 8, 4), signature=(1, -1, 8, 4)), OUT], [Op("RELU", (0,), (1,))]),
    "tensor t1 with shape [1, -1]": tflite([FLAT, Tensor((1, -1))], [Op("RELU", (0,), (1,))]),
    "the results of WHERE": tflite([FLAT, FLAT], [Op("WHERE", (0,), (1,))]),
}


@pytest.mark.parametrize("says", REFUSED)
def test_what_the_compiler_would_not_read_is_refused_whole(says: str) -> None:
    prediction = predict(REFUSED[says])
    assert says in (prediction.refusal or "")
    assert [each.reason for each in prediction.operators] == [prediction.refusal] * len(prediction.operators)
    assert (mapped(prediction), prediction.memory.cached_bytes) == ([], 0)


DYNAMIC = [
    ("TRANSPOSE_CONV", 0), ("PADV2", 1), ("MIRROR_PAD", 1), ("FILL", 0), ("BROADCAST_TO", 1), ("SPLIT_V", 1),
    ("SPLIT_V", 2), ("REDUCE_PROD", 1), ("ARG_MAX", 1), ("ARG_MIN", 1), ("TOPK_V2", 1), ("BATCH_TO_SPACE_ND", 1),
    ("BATCH_TO_SPACE_ND", 2), ("SPACE_TO_BATCH_ND", 1), ("SPACE_TO_BATCH_ND", 2), ("RANGE", 1), ("ONE_HOT", 1),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "position"), DYNAMIC)
def test_a_size_that_is_computed_refuses_the_model(kind: str, position: int) -> None:
    """Given an operand that says how large a result is; then it is constant, or the model is refused whole."""
    operands = [1, 1, 1]
    operands[position] = 2
    operators = [Op("RELU", (0,), (1,)), Op(kind, tuple(operands), (3,))]
    computed = predict(tflite([FLAT, FLAT, Tensor((2,), INT32), FLAT], [Op("CAST", (0,), (2,)), *operators]))
    stored = predict(tflite([FLAT, FLAT, index(1, 1), FLAT], operators))

    assert f"operand t2, which is computed, of {kind}" in (computed.refusal or "")
    assert stored.refusal is None


def test_operators_of_other_subgraphs_are_listed_too() -> None:
    """Given a condition with two branches; then the list goes on where that of the main subgraph ends."""
    prediction = predict(chain("RELU", "RELU", branches=("ADD", "MUL")))

    assert [(each.index, each.type, each.mapped) for each in prediction.operators] == [
        (0, "RELU", True),
        (1, "RELU", True),
        (2, "ADD", False),
        (3, "MUL", False),
    ]
    assert prediction.operators[3].reason == "It is in subgraph 2, and only the main one is mapped"


def test_an_open_batch_is_fixed_to_one_wherever_it_moves() -> None:
    tensors = [Tensor((1, 4, 2), signature=(-1, 4, 2)), index(1, 0, 2), Tensor((4, 1, 2), signature=(4, -1, 2))]
    assert mapped(predict(tflite(tensors, [Op("TRANSPOSE", (0, 1), (2,))]))) == [0]


def test_a_layer_that_does_not_fit_is_streamed_whole() -> None:
    size = 3000
    tensors = [Tensor((1, size)), weights(size, size), bias(size), Tensor((1, size)), bias(4), Tensor((1, 4))]
    large = Op("FULLY_CONNECTED", (0, 1, 2), (3,))
    memory = predict(tflite([*tensors, weights(4, size)], [large, Op("FULLY_CONNECTED", (3, 6, 4), (5,))])).memory
    assert memory.streamed_bytes >= size * size
    assert 4 * size <= memory.cached_bytes < 5 * 4 * size


def test_a_layer_of_very_many_inputs_is_streamed_however_small() -> None:
    tensors = [Tensor((1, 16384)), weights(1, 16384), bias(1), Tensor((1, 1))]
    memory = predict(tflite(tensors, [Op("FULLY_CONNECTED", (0, 1, 2), (3,))])).memory
    assert (memory.cached_bytes, memory.streamed_bytes) == (0, pytest.approx(262144, rel=0.01))


def test_layers_that_fit_alone_fill_the_memory_before_the_rest_is_streamed() -> None:
    """Given four layers of 2.25 MB; then the memory is full, as logs of the compiler show, and the rest streamed."""
    size = 1500
    layers = range(4)
    tensors = [Tensor((1, size)), *(t for _ in layers for t in (weights(size, size), bias(size), Tensor((1, size))))]
    chain = [Op("FULLY_CONNECTED", (3 * n, 3 * n + 1, 3 * n + 2), (3 * n + 3,)) for n in layers]
    memory = predict(tflite(tensors, chain)).memory

    assert (memory.cached_bytes, memory.remaining_bytes) == (FULL_CACHE_BYTES, 0)
    assert memory.streamed_bytes == pytest.approx(4 * size * (size + 8) - FULL_CACHE_BYTES, rel=0.02)


def test_large_activations_leave_less_room_for_parameters() -> None:
    small = predict(tflite([IMAGE, OUT], [Op("RELU", (0,), (1,))])).memory
    huge = predict(tflite([Tensor((1, 2000, 2000, 3))] * 2, [Op("RELU", (0,), (1,))])).memory
    assert small.remaining_bytes > huge.remaining_bytes == SMALLEST_CACHE_BYTES


def test_facts_are_labelled_as_predicted() -> None:
    facts = predict(chain("RELU", "LEAKY_RELU")).as_facts()
    assert facts["predicted"] is True
    assert facts["operators"][1] == {
        "index": 1,
        "type": "LEAKY_RELU",
        "mapped": False,
        "reason": Status.UNSUPPORTED.value,
    }
    assert set(facts["memory"]) == {"cached_bytes", "remaining_bytes", "streamed_bytes"}


@pytest.mark.parametrize("axis", [-9, 9])
def test_a_mean_over_an_axis_that_there_is_not_is_read(axis: int) -> None:
    """Given a damaged file; then looking at it ends in a prediction, and not in an error of ours."""
    operator = Op("MEAN", (0, 1), (2,))
    assert len(predict(tflite([IMAGE, index(axis), FLAT], [operator])).operators) == 1
