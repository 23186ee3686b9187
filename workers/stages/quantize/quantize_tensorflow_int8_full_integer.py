"""Quantize SavedModels and Keras models to int8 TFLite throughout, inputs and outputs too.

Tool: tf.lite.TFLiteConverter with TFLITE_BUILTINS_INT8 and int8 inference types, tensorflow-cpu 2.21.0, keras 3.15.1.
Document: https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/post_training_integer_quant
Formula: w8 = round(w / s_c), s_c = max|w_c| / 127; x8 = round(x / s) + z, s = (max − min) / 255 over the calibration.
Limits: one operator without an int8 kernel refuses the model; every axis is fixed; inputs and outputs get the tool's
names. The tool chooses the versions of operators: `edgetpu_predicted` says where one is too new for the Edge TPU's
compiler.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.stages.convert.tensorflow_models import FixedFunction, load_function, load_lines
from workers.stages.convert.tensorflow_to_tflite import PRELOAD, converter, converter_errors
from workers.stages.quantize.full_integer import edge_tpu_facts, refuse_floats
from workers.stages.quantize.selection import CalibratedOptions, Candidate, Judge, choose, rows_lines, split_samples
from workers.stages.samples import Feeds
from workers.stages.tool_calls import python_command, tool_call
from workers.stages.transforms import interface


def quantize_source(given: StageInput, source: Format) -> StageOutput:
    """Write model.tflite; the contract carries scale and zero point of each input and output.

    Raises:
        BadData: calibration samples that do not fit the inputs.
        ConversionFailed: an operator without an int8 form, or a file that does not load and run.
    """
    inputs, outputs = interface(given)
    samples = split_samples(given)
    function = load_function(source, given.files["model"], inputs, outputs)

    def write(path: Path) -> None:
        with tool_call("tensorflow-cpu", *converter_errors()):
            quantize(function, samples.calibration, path)
        refuse_floats(path, "TFLiteConverter")

    names = {spec.name: f"input_{index}" for index, spec in enumerate(inputs)}
    judge = Judge(given, Format.TFLITE, samples.selection, source_kind=source, known_as=names)
    chosen = choose(judge, [Candidate("per channel", write)])
    repeated = python_command(
        *load_lines(source, inputs, outputs),
        "from workers.stages.quantize.quantize_tensorflow_int8_full_integer import quantize",
        *rows_lines(given),
        "quantize(function, rows, Path('model.tflite'))",
    )
    return chosen.output(repeated, **edge_tpu_facts(chosen.path))


def quantize(function: FixedFunction, rows: tuple[Feeds, ...], path: Path) -> None:
    """Write `path`, calibrated on `rows` (inputs in the function's order)."""
    import tensorflow as tf

    def representative() -> Iterator[list[object]]:
        for row in rows:
            yield list(row.values())

    tool = converter(function)
    tool.optimizations = [tf.lite.Optimize.DEFAULT]
    tool.representative_dataset = representative
    tool.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    tool.inference_input_type = tool.inference_output_type = tf.int8
    path.write_bytes(tool.convert())


@stage(
    name="quantize-tf-savedmodel-int8-full-integer",
    version="3",
    kind=Kind.QUANTIZE,
    environment="builder",
    source=Format.TF_SAVEDMODEL,
    target=Format.TFLITE,
    inputs=("calibration",),
    options=CalibratedOptions,
    recipe="int8-full-integer",
    tools=("tensorflow-cpu",),
    preload=PRELOAD,
)
def quantize_saved_model(given: StageInput) -> StageOutput:
    return quantize_source(given, Format.TF_SAVEDMODEL)


@stage(
    name="quantize-keras-int8-full-integer",
    version="3",
    kind=Kind.QUANTIZE,
    environment="builder",
    source=Format.KERAS,
    target=Format.TFLITE,
    inputs=("calibration",),
    options=CalibratedOptions,
    recipe="int8-full-integer",
    tools=("tensorflow-cpu", "keras"),
    preload=PRELOAD,
)
def quantize_keras(given: StageInput) -> StageOutput:
    return quantize_source(given, Format.KERAS)


@stage(
    name="quantize-keras-h5-int8-full-integer",
    version="3",
    kind=Kind.QUANTIZE,
    environment="builder",
    source=Format.KERAS_H5,
    target=Format.TFLITE,
    inputs=("calibration",),
    options=CalibratedOptions,
    recipe="int8-full-integer",
    tools=("tensorflow-cpu", "keras", "h5py"),
    preload=PRELOAD,
)
def quantize_keras_h5(given: StageInput) -> StageOutput:
    return quantize_source(given, Format.KERAS_H5)
