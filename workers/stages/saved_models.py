"""SavedModels written: one signature `serving_default`, named after the source's tensors.

Tool: tf.saved_model.save, tensorflow-cpu 2.21.0. Document: https://www.tensorflow.org/guide/saved_model
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.facts import TensorSpec
from workers.stages.samples import Ranges, example_tensors
from workers.stages.tool_calls import tool_call

if TYPE_CHECKING:
    import torch

LOWER_TOOLS = ("litert-torch", "litert-converter", "torch", "tensorflow-cpu")
LOWER_PRELOAD = ("tensorflow", "torch", "torch.export", "litert_torch", "litert_torch.backend.tf_integration")


def signature_names(names: Sequence[str]) -> dict[str, str]:
    """Return what each tensor is called in a signature, whose names are those of Python arguments."""
    plain = {name: re.sub(r"\W", "_", name) for name in names}
    fits = len(set(plain.values())) == len(names) and all(name.isidentifier() for name in plain.values())
    return plain if fits else {name: f"tensor_{index}" for index, name in enumerate(names)}


def save(
    call: Callable[..., Sequence[Any]],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[str],
    folder: Path,
    *,
    owned: Sequence[Any] = (),
) -> None:
    """Write a SavedModel of a function of tensors in order; open axes of `inputs` stay open.

    `owned` are the variables that the function reads, and what else must live as long: only what is named is saved.
    """
    import tensorflow as tf

    names, results = signature_names([spec.name for spec in inputs]), signature_names(outputs)
    signature = [
        tf.TensorSpec(
            [axis if isinstance(axis, int) else None for axis in spec.shape or ()], spec.dtype, names[spec.name]
        )
        for spec in inputs
    ]

    def serve(*tensors: Any) -> dict[str, Any]:
        return {results[name]: tensor for name, tensor in zip(outputs, call(*tensors), strict=True)}

    module = tf.Module()
    module.owned = list(owned)
    module.serve = tf.function(serve, input_signature=signature)
    with tool_call("tensorflow-cpu", tf.errors.OpError):
        tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})


def save_module(
    module: torch.nn.Module,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[str],
    folder: Path,
    *,
    ranges: Ranges | None = None,
) -> None:
    """Write a torch module of fixed axes as the StableHLO that litert-torch lowers it to, in one XlaCallModule.

    Raises:
        ConversionFailed: a module that torch.export does not take, an operator without a lowering, or one that
            TensorFlow's XLA does not read.
    """
    import tensorflow as tf
    import torch
    from litert_torch.backend import export, tf_integration

    arguments = example_tensors(tuple(inputs), ranges)
    with torch.no_grad():
        with tool_call("torch"):
            program = torch.export.export(module, arguments)
        with tool_call("litert-torch"):
            lowered = export.exported_program_to_mlir(program)
        with tool_call("tensorflow-cpu", tf.errors.OpError):
            function = tf_integration.mlir_to_tf_function(lowered)
    save(function, inputs, outputs, folder, owned=[function])
