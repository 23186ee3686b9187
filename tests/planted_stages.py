"""Faulty stages, which say that they changed nothing: `python -m tests.planted_stages WORK…` runs calls, theirs too.

They register themselves when this module is imported, so only processes that are meant to know them import it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from farm.domain.artifact import Contract
from farm.domain.facts import Format
from farm.domain.stage import Kind, StageInput, StageOutput, stage
from workers.runtimes.files import entry_file
from workers.stages.harness import main
from workers.stages.openvino_models import read, save, write
from workers.stages.transforms import interface

BAD_PASS, WRONG_TRANSPOSE = "planted-onnx-to-openvino-ir", "planted-openvino-ir-float16"


def unchanged(given: StageInput, path: Path) -> StageOutput:
    """Hand back what was made as if every tensor were as before."""
    specs = given.options.input_specs, given.options.output_specs
    return StageOutput(files={"model": path}, contract=given.contract or Contract.identity(*specs), reproduce="planted")


@stage(
    name=BAD_PASS,
    version="1",
    kind=Kind.CONVERT,
    environment="builder",
    source=Format.ONNX,
    target=Format.OPENVINO_IR,
)
def fold_wrongly(given: StageInput) -> StageOutput:
    """Change one value of one constant, then convert as the real stage does."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(entry_file(given.files["model"], (".onnx",)))
    weight = next(one for one in model.graph.initializer if one.name == "weight1")
    values = numpy_helper.to_array(weight).copy()
    values[3, 2, 1, 1] += 1.0
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    changed = given.work / "changed.onnx"
    onnx.save(model, changed)
    return unchanged(given, save(read(changed, *interface(given)), given.work))


@stage(
    name=WRONG_TRANSPOSE,
    version="1",
    kind=Kind.QUANTIZE,
    environment="builder",
    source=Format.OPENVINO_IR,
    target=Format.OPENVINO_IR,
    recipe="float16",
)
def swap_axes(given: StageInput) -> StageOutput:
    """Swap height and width, which are equal, behind the input; then round weights as the real stage does."""
    import numpy as np
    import openvino
    from openvino import opset13

    model = openvino.Core().read_model(entry_file(given.files["model"], (".xml",)))
    image = model.inputs[0]
    readers = list(image.get_target_inputs())
    swapped = opset13.transpose(image.get_node(), np.array([0, 1, 3, 2]))
    for reader in readers:
        reader.replace_source_output(swapped.output(0))
    return unchanged(given, write(model, given.work / "openvino", float16=True))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        main(Path(name))
