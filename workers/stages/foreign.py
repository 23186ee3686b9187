"""What a toolchain's exception means: one table per library, then by where it was raised.

Source: the libraries' own messages, collected by provoking them with the versions in workers/environments.
"""

from __future__ import annotations

import errno
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

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
from workers.stages.wording import plain

OURS = tuple(str(Path(__file__).parents[2] / name) for name in ("farm", "workers"))


@dataclass(frozen=True, slots=True)
class Meaning:
    """A pattern of a message (or of the exception's qualified name) and what it stands for."""

    pattern: str
    error: type[FarmError]
    remedy: str | None = None

    def fits(self, text: str) -> bool:
        return re.search(self.pattern, text, re.IGNORECASE) is not None


ANY_LIBRARY = (
    Meaning(
        r"^MemoryError|bad_alloc|can't allocate memory|ResourceExhaustedError|BFCArena|Failed to allocate memory",
        ToolOutOfMemory,
        "Submit a smaller model, or give the host's builds more memory.",
    ),
)
TORCH = (
    Meaning(
        r"UnpicklingError|Weights only load failed",
        UnsafeModel,
        "Save it with torch.export.save (.pt2) or torch.jit.save; a pickled module runs code and is never loaded.",
    ),
    Meaning(r"PytorchStreamReader failed", CorruptModel, "Save the model again and check that the copy is complete."),
    Meaning(
        r"GuardOnDataDependentSymNode",
        ConversionFailed,
        "Rewrite the data-dependent branch with torch.cond, or submit TorchScript.",
    ),
    Meaning(r"Constraints violated", ConversionFailed, "Export with Dim.AUTO, or with static shapes."),
    Meaning(
        r"UnsupportedOperatorError|Unsupported onnx_opset_version",
        ConversionFailed,
        "Rewrite the operator with supported ones.",
    ),
    Meaning(
        r"Unknown builtin op|Could not find schema for|object has no attribute '.*' in torch\.ops",
        CustomOperator,
        "Replace the custom operator with built-in ones.",
    ),
)
LITERT_TORCH = (Meaning(r"Lowering not found", ConversionFailed, "Rewrite the operator, or submit ONNX."),)
ONNX = (
    Meaning(
        r"External data path does not exist|Data of TensorProto .* doesn't exist|No such file or directory.*data",
        MissingFile,
        "Submit the folder that holds the model and its external data file.",
    ),
    Meaning(
        r"escapes? (from )?the (model )?directory|points outside the directory|external data.*(outside|absolute)",
        UnsafeModel,
        "Save the model with its external data beside it.",
    ),
    Meaning(
        r"is not a registered function/op|No Op registered for|No opset import for domain",
        CustomOperator,
        "Replace the custom operator with standard ONNX operators.",
    ),
    Meaning(
        r"INVALID_PROTOBUF|InvalidProtobuf|Protobuf parsing failed|DecodeError|Error parsing message",
        CorruptModel,
        "Export the model again and check that the copy is complete.",
    ),
    Meaning(
        r"Unsupported model IR version|is under development",
        Incompatible,
        "Export with a lower ir_version or opset (onnx.version_converter).",
    ),
)
TENSORFLOW = (
    Meaning(r"representative_dataset must be specified", BadRequest, "Submit calibration data with --calibration."),
    Meaning(
        r"neither a custom op nor a flex op", ConversionFailed, "Replace the operators that LiteRT has no kernel for."
    ),
    Meaning(
        r"Lambda.*(unsafe|deserializ)|safe_mode|unsafe deserialization",
        UnsafeModel,
        "Replace Lambda layers with layers of Keras or with keras.ops.",
    ),
    Meaning(r"Op type not registered", CustomOperator, "Replace the custom operator with TensorFlow's own."),
    Meaning(
        r"Unknown layer|Could not locate class|not registered via",
        CustomOperator,
        "Replace custom layers with Keras's own, or submit a SavedModel.",
    ),
    Meaning(
        r"SavedModel file does not exist|Cannot parse file|DataLoss|Unable to (\w+ )?open file|not a zip file",
        CorruptModel,
        "Save the model again and check that the copy is complete.",
    ),
)
LITERT = (
    Meaning(
        r"unresolved custom op|Encountered unresolved",
        CustomOperator,
        "Replace the operator with built-in ones; Select TF ops do not run here.",
    ),
    Meaning(
        r"not a valid Flatbuffer|Model provided has model identifier|Could not open|buffer is null",
        CorruptModel,
        "Convert the model again and check that the copy is complete.",
    ),
)
TABLES: dict[str, tuple[Meaning, ...]] = {
    "torch": TORCH,
    "onnxscript": TORCH,
    "_pickle": TORCH,
    "pickle": TORCH,
    "litert_torch": LITERT_TORCH,
    "onnx": ONNX,
    "onnxruntime": ONNX,
    "google": ONNX,
    "tensorflow": TENSORFLOW,
    "keras": TENSORFLOW,
    "tf2onnx": TENSORFLOW,
    "h5py": TENSORFLOW,
    "ai_edge_litert": LITERT,
    "ai_edge_quantizer": LITERT,
}
"""By top-level package of the exception's class or of a frame it passed through."""


def translate(exc: BaseException) -> FarmError:
    """Say what a foreign exception means; FarmError passes through."""
    if isinstance(exc, FarmError):
        return exc
    text = f"{type(exc).__name__}: {exc}"
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        return ToolOutOfDisk(f"The stage filled its disk budget: {plain(text)}")
    libraries = list(_libraries(exc))
    for meaning in _meanings(libraries):
        if meaning.fits(text):
            return meaning.error(plain(text), remedy=meaning.remedy, tool=libraries[0] if libraries else None)
    if _is_ours(exc, libraries):
        return FarmBug(plain(text), traceback=plain("".join(traceback.format_exception(exc)), limit=8000))
    return ConversionFailed(plain(text), tool=libraries[0] if libraries else None)


def _meanings(libraries: list[str]) -> Iterator[Meaning]:
    seen: set[int] = set()
    for library in libraries:
        table = TABLES.get(library, ())
        if id(table) not in seen:
            seen.add(id(table))
            yield from table
    yield from ANY_LIBRARY


def _libraries(exc: BaseException) -> Iterator[str]:
    """Name the packages an exception belongs to: of its class first, then of its frames, innermost first."""
    yield from (name for kind in type(exc).__mro__ if (name := kind.__module__.partition(".")[0]) in TABLES)
    for frame, _ in reversed(list(traceback.walk_tb(exc.__traceback__))):
        name = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if name in TABLES:
            yield name


def _is_ours(exc: BaseException, libraries: list[str]) -> bool:
    """Tell whether our own code is to blame: the innermost frame that is no library's general service is ours."""
    if type(exc).__module__.partition(".")[0] in libraries:
        return False
    frames = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(exc.__traceback__) if not _serves_all(frame)]
    return not frames or frames[-1].startswith(OURS)


def _serves_all(frame: FrameType) -> bool:
    """Pass over the standard library and NumPy, whose errors are their caller's."""
    name = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return name == "numpy" or (name != "__main__" and name in sys.stdlib_module_names)
