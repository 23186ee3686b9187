"""What the compiler prints, as its documentation and its users show it."""

from __future__ import annotations

import pytest

from workers.edgetpu.compiler_log import OperatorRow, parse_compiler_log, with_logs
from workers.edgetpu.limits import Status
from workers.edgetpu.messages import MessageStage, diagnose, known_messages

START = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.
"""
SUCCESS = (
    START
    + """
Model compiled successfully in 986 ms.

Input model: retina.tflite
Input size: 2.88MiB
Output model: retina_edgetpu.tflite
Output size: 3.31MiB
On-chip memory used for caching model parameters: 3.86MiB
On-chip memory remaining for caching model parameters: 3.83MiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1
Total number of operations: 134
Operation log: retina_edgetpu.log

Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of the model will
instead run on the CPU, which is slower.
Number of operations that will run on Edge TPU: 83
Number of operations that will run on CPU: 4

Operator                       Count      Status

CONV_2D                        83         Mapped to Edge TPU
CONV_2D                        2          More than one subgraph is not supported
RESIZE_BILINEAR                1          """
    + Status.LIMITATION
    + """
PosenetDecoderOp               1          Operation is working on an unsupported data type
Compilation child process completed within timeout period.
Compilation succeeded! \n"""
)
FAILED_TRY = "Try to compile segment with 12 ops\nERROR: Internal compiler error. Aborting!\nCompilation failed!\n"


def test_every_line_of_a_success_is_read() -> None:
    report = parse_compiler_log(SUCCESS)
    (model,) = report.models
    assert report.succeeded
    assert (report.compiler_version, report.timeout_s, report.compiled_ms) == ("16.0.384591198", 180, 986)
    assert (model.input_name, model.output_name) == ("retina.tflite", "retina_edgetpu.tflite")
    assert model.log_name == "retina_edgetpu.log"
    assert (model.input_bytes, model.output_bytes) == (round(2.88 * 1024**2), round(3.31 * 1024**2))
    assert (model.cached_bytes, model.streamed_bytes) == (round(3.86 * 1024**2), 0)
    assert model.remaining_bytes == round(3.83 * 1024**2)
    assert (model.edge_tpu_subgraphs, model.total_operators) == (1, 134)
    assert (model.edge_tpu_operators, model.cpu_operators) == (83, 4)
    assert report.operators[0] == OperatorRow("CONV_2D", 83, Status.MAPPED)
    assert report.operators[-1] == OperatorRow("PosenetDecoderOp", 1, Status.DATA_TYPE)
    assert (report.mapped_count, report.cpu_count) == (83, 4)


def test_the_reasons_of_a_partial_mapping_are_diagnosed() -> None:
    found = [each.message.id for each in parse_compiler_log(SUCCESS).diagnoses]
    assert found == ["edgetpu-partial", "edgetpu-st-one-subgraph", "edgetpu-st-dtype", "edgetpu-st-unspecified"]


def test_failed_tries_before_a_success_are_no_failure() -> None:
    report = parse_compiler_log(START + FAILED_TRY * 3 + SUCCESS)
    assert report.succeeded
    assert report.tries == 3
    assert "edgetpu-internal-error" not in [each.message.id for each in report.diagnoses]


def test_a_failure_after_a_good_try_is_a_failure() -> None:
    report = parse_compiler_log(SUCCESS + FAILED_TRY)
    assert not report.succeeded
    assert [each.message.id for each in report.diagnoses if each.message.retry] == ["edgetpu-internal-error"]


def test_older_compilers_print_no_outcome() -> None:
    text = "Edge TPU Compiler version 2.0.291256449\n\nModel compiled successfully in 31 ms.\n\nInput: m.tflite\n"
    report = parse_compiler_log(text + "Output: m_edgetpu.tflite\n")
    assert report.succeeded
    assert [(each.input_name, each.output_name) for each in report.models] == [("m.tflite", "m_edgetpu.tflite")]


def test_each_co_compiled_model_is_told_apart() -> None:
    parts = [
        f"Input model: {name}.tflite\nInput size: 1.00KiB\nOutput model: {name}_edgetpu.tflite\n"
        f"On-chip memory used for caching model parameters: {used}KiB\n"
        for name, used in (("a", "1.00"), ("b", "2.00"))
    ]
    report = parse_compiler_log(START + "Models compiled successfully in 5 ms.\n\n" + "\n".join(parts))
    assert [(each.input_name, each.cached_bytes) for each in report.models] == [("a.tflite", 1024), ("b.tflite", 2048)]


@pytest.mark.parametrize(
    ("said", "identifier", "named"),
    [
        (
            "ERROR: Didn't find op for builtin opcode 'CONV_2D' version '6'\n",
            "edgetpu-op-version-too-new",
            ("CONV_2D", "6"),
        ),
        (
            "ERROR: Op builtin_code out of range: 150. Are you using old TFLite binary\n",
            "edgetpu-builtin-out-of-range",
            ("150",),
        ),
        ("Invalid model: m.tflite\nModel not quantized\n", "edgetpu-not-quantized", ()),
        ("Compilation failed due to large activation tensors in model.\n", "edgetpu-large-activations", ()),
        ("Compilation timeout. This is usually caused by large activations in the model\n", "edgetpu-timeout", ()),
        ("Encountered unresolved custom op: Atan.\n", "edgetpu-unresolved-custom-op", ("Atan.",)),
    ],
)
def test_a_failure_names_its_cause(said: str, identifier: str, named: tuple[str, ...]) -> None:
    first = parse_compiler_log(f"{START}{said}Compilation failed!\n").diagnoses[0]
    assert (first.message.id, first.named) == (identifier, named)
    assert first.message.cause
    assert first.message.remedy


def test_a_crash_without_a_word_is_diagnosed() -> None:
    silent = "Compilation child process completed within timeout period.\nCompilation failed! \n"
    report = parse_compiler_log(START + silent)
    assert [each.message.id for each in report.diagnoses] == ["edgetpu-silent-failure"]


def test_an_output_of_nothing_is_a_failure_without_facts() -> None:
    report = parse_compiler_log("")
    assert not report.succeeded
    assert (report.models, report.operators, report.diagnoses) == ((), (), ())


def test_runtime_messages_are_known_apart_from_the_compilers() -> None:
    said = "F driver/usb/usb_driver.cc:841] transfer on tag 1 failed. Abort. Deadline exceeded: USB transfer error 2"
    assert [each.message.id for each in diagnose(said, [MessageStage.RUNTIME])] == ["edgetpu-usb-deadline"]
    assert diagnose(said, [MessageStage.COMPILE, MessageStage.MAPPING]) == ()


def test_messages_have_unique_names_and_a_way_to_be_found() -> None:
    messages = known_messages()
    assert len({each.id for each in messages}) == len(messages)
    assert all(each.pattern or each.check for each in messages)


TOGETHER = """Edge TPU Compiler version 16.0.384591198
Models compiled successfully in 10 ms.

Input model: model.tflite
Output model: model_edgetpu.tflite
Number of Edge TPU subgraphs: 1
{first}
Input model: beside-1.tflite
Output model: beside-1_edgetpu.tflite
Number of Edge TPU subgraphs: 0
{second}
Compilation succeeded!
"""
MAPPED_TABLE = "Operator   Count   Status\n\nCONV_2D   4   Mapped to Edge TPU\n"
LEFT_TABLE = f"Operator   Count   Status\n\nCONV_2D   2   {Status.DATA_TYPE.value}\n"


@pytest.mark.parametrize("printed", [(MAPPED_TABLE, LEFT_TABLE), (MAPPED_TABLE, ""), ("", "")])
def test_every_table_is_one_models_whether_it_was_printed_or_logged(printed: tuple[str, str]) -> None:
    logs = {"model_edgetpu.tflite": MAPPED_TABLE, "beside-1_edgetpu.tflite": LEFT_TABLE}
    report = with_logs(parse_compiler_log(TOGETHER.format(first=printed[0], second=printed[1])), logs)

    assert [model.operators for model in report.models] == [
        (OperatorRow("CONV_2D", 4, Status.MAPPED),),
        (OperatorRow("CONV_2D", 2, Status.DATA_TYPE),),
    ]
    assert report.operators == tuple(row for model in report.models for row in model.operators)
