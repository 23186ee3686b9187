"""Convert SavedModels and Keras models to float TFLite with TensorFlow's own converter.

Tool: tf.lite.TFLiteConverter.from_concrete_functions, tensorflow-cpu 2.21.0, keras 3.15.1.
Document: https://www.tensorflow.org/api_docs/python/tf/lite/TFLiteConverter
Limits: built-in operators only (no Select TF ops); every axis is fixed, since an open batch axis makes the file slower;
inputs and outputs get the tool's names.
"""

from __future__ import annotations

from typing import Any

from farm.domain.facts import Format
from farm.domain.stage import StageInput, StageOutput
from workers.stages.convert.tensorflow_models import FixedFunction, load_function, load_lines, register
from workers.stages.model_sizes import INTO_TFLITE
from workers.stages.tool_calls import python_command, tool_call
from workers.stages.transforms import interface, proven

PRELOAD = ("tensorflow", "keras", "ai_edge_litert.interpreter")


def convert(given: StageInput, source: Format) -> StageOutput:
    """Write model.tflite.

    Raises:
        ConversionFailed: an operator without a TFLite form.
        NumericsBroken: the file does not compute the model's function.
    """
    inputs, outputs = interface(given)
    function = load_function(source, given.files["model"], inputs, outputs)
    path = given.work / "model.tflite"
    with tool_call("tensorflow-cpu", *converter_errors()):
        path.write_bytes(converter(function).convert())
    return proven(
        given,
        path,
        source=source,
        target=Format.TFLITE,
        inputs_as="input",
        reproduce=python_command(
            *load_lines(source, inputs, outputs),
            "from workers.stages.convert.tensorflow_to_tflite import converter",
            "Path('model.tflite').write_bytes(converter(function).convert())",
        ),
    )


def converter(function: FixedFunction) -> Any:
    """Return the tool's converter for a function of fixed shapes."""
    import tensorflow as tf

    return tf.lite.TFLiteConverter.from_concrete_functions([function.concrete], function.owner)


def converter_errors() -> tuple[type[Exception], ...]:
    """Name what the converter raises beside Python's own exceptions."""
    import tensorflow as tf
    from tensorflow.lite.python.convert import ConverterError

    return (ConverterError, tf.errors.OpError)


register(convert, to="tflite", target=Format.TFLITE, preload=PRELOAD, check=INTO_TFLITE)
