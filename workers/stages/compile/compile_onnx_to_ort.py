"""Save the graph that ONNX Runtime made of an ONNX model in ORT format, float or quantized.

Tool: onnxruntime.InferenceSession with session.save_model_format=ORT, onnxruntime 1.32.0.
Document: https://onnxruntime.ai/docs/performance/model-optimizations/ort-format-models.html
Limits: the optimizations are those of level "extended", applied once and fixed. Level "all" would lay tensors out in
blocks as wide as the builder's vector registers, and such a file runs on no other kind of CPU; "extended" rewrites the
graph alone, so a file saved on x86-64 runs on ARM. ONNX Runtime optimizes an ORT file no further: on a CPU for which it
has blocked layouts, the ONNX file may be the faster one. A flatbuffer holds under 2 GiB.

It is a compiler, not a converter: what it writes is for this runtime alone, and a quantized model stays quantized.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farm.domain.facts import Format, ModelFacts
from farm.domain.stage import Kind, StageInput, StageOutput, Verdict, stage
from workers.runtimes.files import entry_file
from workers.runtimes.onnxruntime import SUFFIXES, refusals
from workers.stages.model_sizes import refused_size
from workers.stages.onnx_files import named_in_commands
from workers.stages.tool_calls import python_command, tool_call
from workers.stages.transforms import proven


def check(facts: ModelFacts, profile: Mapping[str, Any], options: Any) -> Verdict:
    way_out = "Take the ONNX file with its external data, or quantize the weights first."
    return refused_size(facts, "an ORT-format file", way_out)


@stage(
    name="compile-onnx-to-ort",
    version="2",
    kind=Kind.COMPILE,
    environment="builder",
    source=Format.ONNX,
    target=Format.ORT,
    tools=("onnxruntime",),
    preload=("numpy", "onnx", "onnxruntime"),
)
def run(given: StageInput) -> StageOutput:
    """Write model.ort; names, shapes and layouts stay.

    Raises:
        ConversionFailed: ONNX Runtime does not open the model, or can't save it in this format.
        NumericsBroken: the file does not compute the model's function.
    """
    path = given.work / "model.ort"
    with tool_call("onnxruntime", *refusals()):
        save(entry_file(given.files["model"], SUFFIXES), path)
    return proven(
        given,
        path,
        source=Format.ONNX,
        target=Format.ORT,
        reproduce=python_command(
            "from pathlib import Path",
            "from workers.runtimes.files import entry_file",
            "from workers.stages.compile.compile_onnx_to_ort import save",
            f"model = entry_file(Path({named_in_commands(given.files['model'])!r}), {SUFFIXES!r})",
            "save(model, Path('model.ort'))",
        ),
    )


def save(model: Path, path: Path) -> None:
    """Open `model` as a session would, optimized for no CPU in particular, and write `path`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.intra_op_num_threads = 1
    onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
