"""What a foreign exception means, table by table."""

import errno

import pytest

from farm.domain.errors import (
    BadRequest,
    ConversionFailed,
    CorruptModel,
    CustomOperator,
    FarmBug,
    FarmError,
    Incompatible,
    MissingFile,
    ToolOutOfDisk,
    ToolOutOfMemory,
    UnsafeModel,
)
from workers.stages.foreign import translate

EXAMPLES: tuple[tuple[str, str, str, type[FarmError]], ...] = (
    ("_pickle", "UnpicklingError", "Weights only load failed. In PyTorch 2.6, we changed", UnsafeModel),
    ("torch", "RuntimeError", "PytorchStreamReader failed reading zip archive", CorruptModel),
    ("torch", "GuardOnDataDependentSymNode", "Could not guard on data-dependent expression", ConversionFailed),
    ("torch", "UserError", "Constraints violated (batch)! specialized it to be a constant", ConversionFailed),
    ("torch", "UnsupportedOperatorError", "Exporting the operator 'aten::x' to ONNX opset 20", ConversionFailed),
    ("torch", "RuntimeError", "Unknown builtin op: acme::foo.", CustomOperator),
    (
        "torch",
        "RuntimeError",
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes",
        ToolOutOfMemory,
    ),
    ("litert_torch", "RuntimeError", "Lowering not found: aten.foo", ConversionFailed),
    ("onnxruntime", "Fail", "External data path does not exist: weights.bin", MissingFile),
    ("onnx", "ValidationError", "external data location escapes the directory of the model", UnsafeModel),
    ("onnxruntime", "Fail", "acme:Foo(-1) is not a registered function/op", CustomOperator),
    ("onnxruntime", "InvalidProtobuf", "Load model failed: Protobuf parsing failed.", CorruptModel),
    ("onnxruntime", "Fail", "Unsupported model IR version: 99, max supported 14", Incompatible),
    ("onnxruntime", "RuntimeException", "Failed to allocate memory for requested buffer of size 9", ToolOutOfMemory),
    (
        "tensorflow",
        "ValueError",
        "For full integer quantization, a representative_dataset must be specified.",
        BadRequest,
    ),
    ("tensorflow", "ConverterError", "'tf.Erfinv' op is neither a custom op nor a flex op", ConversionFailed),
    ("tensorflow", "NotFoundError", "Op type not registered 'Foo' in binary", CustomOperator),
    ("tensorflow", "OSError", "SavedModel file does not exist at: x", CorruptModel),
    ("keras", "ValueError", "The `Lambda` layer is unsafe to deserialize", UnsafeModel),
    ("keras", "TypeError", "Could not locate class 'Plus'.", CustomOperator),
    ("ai_edge_litert", "RuntimeError", "Encountered unresolved custom op: Foo.", CustomOperator),
    ("ai_edge_litert", "ValueError", "The model is not a valid Flatbuffer buffer", CorruptModel),
    ("openvino", "OpConversionFailure", "No conversion rule found for operations: acme.Foo", ConversionFailed),
    ("openvino", "OpConversionFailure", "No translator found for FlexMatrixInverse node.", ConversionFailed),
    ("openvino", "RuntimeError", "Cannot create Foo layer c id:2 from unsupported opset: acme", CustomOperator),
    ("openvino", "RuntimeError", "Invalid usage of method for externally stored data in file (w.bin)", MissingFile),
    ("openvino", "RuntimeError", "Incorrect weights in bin file!", CorruptModel),
    ("openvino", "GeneralFailure", "Model can't be parsed", CorruptModel),
)


def raised_by(package: str, kind: str, message: str) -> Exception:
    """Make an exception whose class lives in a library, which is not installed here."""
    made: type[Exception] = type(kind, (Exception,), {"__module__": f"{package}.inner"})
    return made(message)


@pytest.mark.parametrize(("package", "kind", "message", "expected"), EXAMPLES, ids=lambda value: str(value)[:40])
def test_a_librarys_message_is_understood(package: str, kind: str, message: str, expected: type[FarmError]) -> None:
    found = translate(raised_by(package, kind, message))
    assert type(found) is expected
    assert found.remedy
    assert message[:30] in found.message


def test_the_evidence_names_the_entry_and_the_operator() -> None:
    found = translate(raised_by("litert_torch", "RuntimeError", "Lowering not found: aten.foo.default"))
    assert found.evidence["knowledge"] == "litert-torch-lowering"
    assert found.evidence["operator"] == "aten.foo"
    assert found.evidence["cause"]


def test_another_librarys_entries_are_not_asked() -> None:
    found = translate(raised_by("ai_edge_litert", "RuntimeError", "Lowering of Protobuf parsing failed."))
    assert type(found) is ConversionFailed
    assert found.evidence["knowledge"] == "unknown"


def test_an_unknown_message_of_a_library_is_the_toolchains() -> None:
    found = translate(raised_by("tensorflow", "InternalError", "something new"))
    assert type(found) is ConversionFailed
    assert found.evidence["tool"] == "tensorflow"
    assert found.evidence["knowledge"] == "unknown"
    assert found.evidence["telling"] == ["InternalError: something new"]


def test_a_farm_error_passes_through() -> None:
    error = CorruptModel("cut off")
    assert translate(error) is error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_a_full_disk_is_told_apart(number: int) -> None:
    assert type(translate(OSError(number, "write failed"))) is ToolOutOfDisk


def test_memory_is_told_apart() -> None:
    assert type(translate(MemoryError())) is ToolOutOfMemory


def test_an_exception_without_frames_is_ours() -> None:
    assert type(translate(KeyError("x"))) is FarmBug
