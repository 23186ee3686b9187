"""Save Keras models as SavedModels for serving.

Tool: keras 3.15.1 (a model called in inference mode), then that of workers/stages/saved_models.py.
Document: https://keras.io/guides/serialization_and_saving
Limits: one signature, `serving_default`, with the names of Keras's inputs and outputs; axes that the model leaves open
stay open. Training state is not kept.
"""

from __future__ import annotations

from pathlib import Path

from farm.domain.facts import Format
from farm.domain.stage import StageInput, StageOutput
from workers.runtimes.keras import KerasSession
from workers.stages.convert.tensorflow_models import keras_function, register
from workers.stages.saved_models import save, signature_names
from workers.stages.tool_calls import python_command, tool_call
from workers.stages.transforms import proven


def convert(given: StageInput, source: Format) -> StageOutput:
    """Write a SavedModel.

    Raises:
        ConversionFailed: Keras does not load or trace the model.
        NumericsBroken: the SavedModel does not compute the model's function.
    """
    folder = given.work / "model"
    names = write(given.files["model"], folder)
    return proven(
        given,
        folder,
        source=source,
        target=Format.TF_SAVEDMODEL,
        inputs_as=names,
        reproduce=python_command(
            "from pathlib import Path",
            "from workers.stages.convert.keras_to_tf_savedmodel import write",
            "write(Path('model'), Path('saved_model'))",
        ),
    )


def write(path: Path, folder: Path) -> dict[str, str]:
    """Write `folder`; return what each input is called in its signature."""
    import tensorflow as tf

    with tool_call("keras", tf.errors.OpError):
        session = KerasSession(path)
        owner, call = keras_function(session.model)
        variables = [variable.value for variable in owner.variables]
        save(call, session.inputs, [spec.name for spec in session.outputs], folder, owned=variables)
    return signature_names([spec.name for spec in session.inputs])


register(convert, to="tf-savedmodel", target=Format.TF_SAVEDMODEL, preload=("tensorflow", "keras"))
