"""Two runs of one failure have one signature; two failures have two."""

from __future__ import annotations

import pytest

from farm.domain.errors import ArtifactBroken, ConversionFailed, FarmError, ToolCrashed, ToolOutOfMemory, ToolTimedOut
from farm.domain.signature import NEUTRAL_NAME, Signature, normalized, signature_of, without_names


def signature(error: FarmError) -> Signature:
    return signature_of(error.failure)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("tensor t12 has 3 axes", "tensor t7 has 14 axes"),
        ("at 0x7ffe91c0 in step 4", "at 0xAB in step 5"),
        ("cannot read /tmp/job-1/run/model.onnx", "cannot read /srv/other/model.onnx"),
        ("shapes (1, 64, 112, 112) and (64,)", "shapes (8, 2) and (3, 3, 3)"),
        ("[1,4,8,8] vs [1, 4]", "[2,9] vs [7, 7, 7, 7]"),
        ("node Relu_12 follows Conv_3", "node Relu_4\n follows  Conv_11"),
        ("loss 1.5e-05 > 1e-6", "loss 0.25 > 1"),
        ("inputs t1, t2, t3 clash", "inputs t40, t5 clash"),
        ("tool 2.6.9 failed", "tool 2.7.0 failed"),
    ],
)
def test_what_differs_from_run_to_run_does_not_count(first: str, second: str) -> None:
    assert normalized(first) == normalized(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("unresolved custom op: ONNX_DET", "unresolved custom op: ONNX_STFT"),
        ("Conv failed", "Conv succeeded"),
        ("tensor t1 has no shape", "tensor t1 has no type"),
    ],
)
def test_what_is_said_counts(first: str, second: str) -> None:
    assert normalized(first) != normalized(second)


def test_a_long_list_at_the_end_does_not_count() -> None:
    start = "The tool does not know these operators of the model, which it needs for its output: " * 3

    assert normalized(start + "A, B, C") == normalized(start + "B")


def test_a_crash_is_its_signal_and_a_limit_its_kind() -> None:
    crash = ToolCrashed("onnx-to-tflite crashed with SIGSEGV.", signal="SIGSEGV")

    assert str(signature(crash)) == "tool-crashed: SIGSEGV"
    assert signature(crash) != signature(ToolCrashed("onnx-to-tflite crashed with SIGABRT.", signal="SIGABRT"))
    assert signature(ToolTimedOut("did not end within 600 s")).message == "timed out"
    assert signature(ToolTimedOut("did not end within 5 s")) == signature(ToolTimedOut("did not end within 9 s"))
    assert signature(ToolOutOfMemory("needed more than 8.0 GiB")).message == "out of memory"


def test_code_and_operator_tell_failures_apart() -> None:
    by_conversion = ConversionFailed("it failed", operator="Det")

    assert str(signature(by_conversion)) == "conversion-failed at Det: it failed"
    assert signature(by_conversion) != signature(ConversionFailed("it failed", operator="STFT"))
    assert signature(by_conversion) != signature(ArtifactBroken("it failed", operator="Det"))


def test_a_models_names_give_way_to_a_neutral_one() -> None:
    said = "node=/block.3/conv_out has no shape; block is fine, logits_prequant is not"
    names = ["/block.3/conv_out", "/block.3/conv", "logits", "", "absent"]

    assert (
        without_names(said, names) == f"node={NEUTRAL_NAME} has no shape; block is fine, {NEUTRAL_NAME}_prequant is not"
    )
    assert without_names("nothing of it", names) == "nothing of it"
