"""Convert ONNX to float TFLite with onnx2tf.

Tool: onnx2tf 2.6.9 (its direct FlatBuffer backend, no TensorFlow) and onnxsim 0.6.5, in an environment of their own.
Document: https://github.com/PINTO0309/onnx2tf
Limits: images become NHWC; every axis is fixed; control flow, strings and custom domains are refused, since the tool
writes a broken file for them and exits 0. The tool rewrites its input, so it gets a private copy; it would start
onnxsim as a child process, so the same simplification runs here first and the tool is told not to.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farm.domain.facts import Format, ModelFacts, TensorSpec
from farm.domain.stage import Kind, StageInput, StageOutput, Verdict, stage
from workers.stages.convert.onnx_operators import refused_operators
from workers.stages.onnx_files import has_functions, load_inlined, named_in_commands
from workers.stages.tool_calls import python_command, tool_call
from workers.stages.transforms import given_contract, proven

ROUNDS = 3
"""How often onnxsim runs, as onnx2tf itself runs it: a fold may open the way for another."""


def check(facts: ModelFacts, profile: Mapping[str, Any], options: Any) -> Verdict:
    return refused_operators(facts, "onnx2tf")


@stage(
    name="onnx-to-tflite",
    version="3",
    kind=Kind.CONVERT,
    environment="onnx2tf",
    source=Format.ONNX,
    target=Format.TFLITE,
    tools=("onnx2tf", "onnxsim", "onnx", "onnxruntime", "ai-edge-litert"),
    preload=("onnx", "onnxsim", "onnx2tf", "onnxruntime", "ai_edge_litert.interpreter"),
)
def run(given: StageInput) -> StageOutput:
    """Write model.tflite; a 4-d input (N, C, H, W) becomes (N, H, W, C) where the tool decides so.

    Raises:
        ConversionFailed: an operator the tool does not know.
        NumericsBroken: the tool wrote something else than the model.
    """
    contract = given_contract(given)
    inputs = tuple(binding.artifact for binding in contract.inputs)
    private = given.work / "model.onnx"
    _simplify(given.files["model"], private, {spec.name: list(spec.static_shape) for spec in inputs})
    written = _convert(private, given.work / "onnx2tf", _kept(inputs))
    repeated = command(inputs, _copying(given.files["model"]))
    return proven(given, written, source=Format.ONNX, target=Format.TFLITE, reproduce=repeated)


def command(inputs: tuple[TensorSpec, ...], copying: str = "cp model.onnx copy.onnx") -> str:
    """Return the commands that do what this stage does, beside the model; `copying` leaves copy.onnx."""
    shapes = [f"{spec.name}:{','.join(map(str, spec.static_shape))}" for spec in inputs]
    simplify = shlex.join(["onnxsim", "copy.onnx", "copy.onnx", "--overwrite-input-shape", *shapes])
    kept = _kept(inputs)
    convert = shlex.join(
        ["onnx2tf", "-i", "copy.onnx", "-o", "converted", "-nuo", "-n", *(["-kat", *kept] if kept else [])]
    )
    return " && ".join([copying, *[simplify] * ROUNDS, convert])


def _copying(model: Path) -> str:
    """Write the command that leaves copy.onnx, one file without functions: other models are copied as they are."""
    if not model.is_dir() and not has_functions(model):
        return "cp model.onnx copy.onnx"
    return python_command(
        "import onnx",
        "from pathlib import Path",
        "from workers.stages.onnx_files import load_inlined",
        f"onnx.save(load_inlined(Path({named_in_commands(model)!r})), 'copy.onnx')",
    )


def _simplify(source: Path, private: Path, shapes: dict[str, list[int]]) -> None:
    import onnx
    import onnxsim

    model = load_inlined(source)
    with tool_call("onnxsim"):
        for _ in range(ROUNDS):
            model, _ = onnxsim.simplify(model, overwrite_input_shapes=shapes, check_n=0)
    with tool_call("onnx"):
        onnx.save(model, private)


def _kept(inputs: tuple[TensorSpec, ...]) -> list[str]:
    """Name the inputs that are no images, whose axes should stay as they are; the tool writes ':' as '__'."""
    return [spec.name.replace(":", "__") for spec in inputs if len(spec.static_shape) != 4]


def _convert(private: Path, folder: Path, kept: list[str]) -> Path:
    import onnx2tf

    written = folder / f"{private.stem}_float32.tflite"
    with tool_call("onnx2tf", SystemExit):
        onnx2tf.convert(
            input_onnx_file_path=str(private),
            output_folder_path=str(folder),
            not_use_onnxsim=True,
            keep_shape_absolutely_input_names=kept or None,
            non_verbose=True,
            verbosity="error",
        )
        if not written.exists():
            raise RuntimeError("onnx2tf ended without an error and wrote no float32 file")
    return written.rename(private.with_suffix(".tflite"))
