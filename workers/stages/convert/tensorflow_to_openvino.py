"""Convert SavedModels and Keras models to OpenVINO IR, from their frozen TensorFlow function.

Tool, versions, document and limits: workers/stages/openvino_models.py; tensorflow-cpu 2.21.0 and keras 3.15.1 freeze
the function, so that Keras 3 and SavedModels take one way and signatures keep their order.
Limits: layouts stay NHWC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.domain.facts import Format
from farm.domain.stage import StageInput, StageOutput
from workers.stages.convert.tensorflow_models import FixedFunction, load_function, load_lines, register
from workers.stages.model_sizes import INTO_FROZEN_GRAPH
from workers.stages.openvino_models import PRELOAD, TIMEOUT_S, TOOLS, openvino_call, rename, save
from workers.stages.tool_calls import python_command
from workers.stages.transforms import interface, proven

if TYPE_CHECKING:
    import openvino

LOADED = ("tensorflow", "keras")


def convert(given: StageInput, source: Format) -> StageOutput:
    """Write model.xml and model.bin with the source's names.

    Raises:
        ConversionFailed: an operator without a conversion rule, named.
        NumericsBroken: the IR does not compute the model's function.
    """
    inputs, outputs = interface(given)
    function = load_function(source, given.files["model"], inputs, outputs)
    with openvino_call():
        path = save(to_openvino(function, [spec.name for spec in inputs], outputs), given.work)
    return proven(
        given,
        path,
        source=source,
        target=Format.OPENVINO_IR,
        reproduce=python_command(
            *load_lines(source, inputs, outputs),
            "from workers.stages.convert.tensorflow_to_openvino import to_openvino",
            "from workers.stages.openvino_models import save",
            f"save(to_openvino(function, {[spec.name for spec in inputs]!r}, {outputs!r}), Path('.'))",
        ),
    )


def to_openvino(function: FixedFunction, inputs: list[str], outputs: list[str]) -> openvino.Model:
    """Convert a function of fixed shapes, and give the result the source's names."""
    import openvino

    model: openvino.Model = openvino.convert_model(function.concrete.graph)
    seen_inputs = [tensor.name for tensor in function.concrete.inputs]
    seen_outputs = [tensor.name for tensor in function.concrete.outputs]
    rename(
        model,
        dict(zip(seen_inputs, inputs, strict=True)),
        dict(zip(seen_outputs, outputs, strict=True)),
    )
    return model


register(
    convert,
    to="openvino-ir",
    target=Format.OPENVINO_IR,
    tools=TOOLS,
    check=INTO_FROZEN_GRAPH,
    preload=(*LOADED, *PRELOAD),
    timeout_s=TIMEOUT_S,
)
