"""SavedModels and Keras models as one TensorFlow function of fixed shapes, in the source's order of tensors.

Every converter of them is one function for the three formats, registered as a stage for each.

Tested with tensorflow-cpu 2.21.0 and keras 3.15.1.
Document: https://www.tensorflow.org/guide/saved_model, tensorflow/python/saved_model/load.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from farm.domain.facts import Format, TensorSpec
from farm.domain.stage import Check, Kind, StageOutput, always, stage
from workers.runtimes.keras import load_model
from workers.runtimes.tensorflow import choose_signature, model_folder
from workers.stages.tool_calls import python_specs, tool_call

TENSORFLOW = ("tensorflow-cpu",)
SOURCES = {
    Format.TF_SAVEDMODEL: ("savedmodel", TENSORFLOW),
    Format.KERAS: ("keras", (*TENSORFLOW, "keras")),
    Format.KERAS_H5: ("keras-h5", (*TENSORFLOW, "keras", "h5py")),
}
"""What a stage's name says of each format, and the packages that read it."""


def register(
    convert: Callable[..., StageOutput],
    *,
    to: str,
    target: Format,
    tools: tuple[str, ...] = (),
    check: Check = always,
    **declared: Any,
) -> None:
    """Register `convert(given, source=FORMAT)` as a stage of each format but its target, named after it and `to`.

    `tools` are what it needs beside what reads the format; `declared` is as for every stage.
    """
    for source, (name, readers) in SOURCES.items():
        if source is target:
            continue
        stage(
            name=f"{name}-to-{to}",
            version="2",
            kind=Kind.CONVERT,
            environment="builder",
            check=check,
            source=source,
            target=target,
            tools=(*tools, *readers),
            **declared,
        )(partial(convert, source=source))


@dataclass(frozen=True, slots=True)
class FixedFunction:
    """A concrete function whose variables are constants, and the model that owned them."""

    concrete: Any
    owner: Any


def load_function(kind: Format, path: Path, inputs: tuple[TensorSpec, ...], outputs: list[str]) -> FixedFunction:
    """Load `path` and trace it with every axis fixed; outputs are flat, in the order of their names in `outputs`.

    Variables are frozen here: TFLiteConverter leaves those of Keras's batch norm to be read at run time, where nothing
    ever sets them, and the file answers NaN.

    Raises:
        ConversionFailed: Keras or TensorFlow does not load, trace or freeze the model.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    signature = [
        tf.TensorSpec(spec.static_shape, spec.dtype, name=f"input_{index}") for index, spec in enumerate(inputs)
    ]
    with tool_call("tensorflow-cpu" if kind is Format.TF_SAVEDMODEL else "keras", tf.errors.OpError):
        if kind is Format.TF_SAVEDMODEL:
            owner, call = _saved_model(path, inputs, outputs)
        else:
            owner, call = keras_function(load_model(path))
        traced = tf.function(call, input_signature=signature).get_concrete_function()
    with tool_call("tensorflow-cpu", tf.errors.OpError):
        frozen = convert_variables_to_constants_v2(traced)
    return FixedFunction(frozen, owner)


def _saved_model(path: Path, inputs: tuple[TensorSpec, ...], outputs: list[str]) -> tuple[Any, Callable[..., Any]]:
    import tensorflow as tf

    accept_optimizers()
    owner = tf.saved_model.load(str(model_folder(path)))
    signature = owner.signatures[choose_signature(owner.signatures)]

    def call(*tensors: Any) -> list[Any]:
        results = signature(**{spec.name: tensor for spec, tensor in zip(inputs, tensors, strict=True)})
        return [results[name] for name in outputs]

    return owner, call


def keras_function(model: Any) -> tuple[Any, Callable[..., Any]]:
    """Return the model, and a function of its flat inputs to its flat outputs in inference mode."""
    import keras

    structure = getattr(model, "_inputs_struct", None)

    def call(*tensors: Any) -> list[Any]:
        packed = tensors[0] if structure is None else keras.tree.pack_sequence_as(structure, list(tensors))
        return list(keras.tree.flatten(model(packed, training=False)))

    return model, call


@cache
def accept_optimizers() -> None:
    """Let SavedModels load that hold the optimizer they were trained with.

    TensorFlow revives an optimizer by a type that Keras 2 registered and Keras 3 does not; without one, loading ends
    in "'_UserObject' object has no attribute 'add_slot'". A plain holder of its slots will do, since nothing trains.
    """
    import tensorflow as tf
    from tensorflow.python.saved_model import revived_types

    def add_slot(self: Any, var: Any, slot_name: str) -> Any:
        return tf.Variable(tf.zeros(var.shape, var.dtype), trainable=False, name=slot_name)

    slot_holder = type("SlotHolder", (tf.Module,), {"add_slot": add_slot})
    registration = revived_types.VersionedTypeRegistration(
        object_factory=lambda proto: slot_holder(), version=2, min_producer_version=1, min_consumer_version=1
    )
    revived_types.register_revived_type("optimizer", lambda known: isinstance(known, slot_holder), [registration])


def load_lines(kind: Format, inputs: tuple[TensorSpec, ...], outputs: list[str]) -> tuple[str, ...]:
    """Return the lines of Python that call `load_function`, for a command that repeats a call."""
    return (
        "from pathlib import Path",
        "from farm.domain.facts import Format, TensorSpec",
        "from workers.stages.convert.tensorflow_models import load_function",
        f"function = load_function(Format({str(kind)!r}), Path('model'), {python_specs(inputs)}, {outputs!r})",
    )
