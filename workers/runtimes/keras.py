"""Run Keras models (.keras, .h5) on a builder, as the source's float reference.

Tested with keras 3.15.1 on tensorflow-cpu 2.21.0. Source: Keras, `keras.saving.load_model`.
Safe mode stays on: Lambda layers and other code in the file are refused. TensorFlow chooses its threads.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.errors import Incompatible
from farm.domain.facts import Axis, Format, TensorSpec
from workers.runtimes import Runtime
from workers.runtimes.files import entry_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

KERAS_SUFFIXES = (".keras",)
H5_SUFFIXES = (".h5", ".hdf5")
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def load_model(path: Path) -> Any:
    """Load without compiling; Keras goes by the name's ending, so a file named otherwise gets a link that fits."""
    import keras

    entry = entry_file(path, (*KERAS_SUFFIXES, *H5_SUFFIXES))
    suffix = ".h5" if is_hdf5(entry) else ".keras"
    with tempfile.TemporaryDirectory() as folder:
        named = Path(folder) / f"model{suffix}"
        named.symlink_to(entry.resolve())
        return keras.saving.load_model(named, compile=False, safe_mode=True)


def is_hdf5(entry: Path) -> bool:
    with entry.open("rb") as file:
        return file.read(len(_HDF5_MAGIC)) == _HDF5_MAGIC


class KerasSession:
    """A functional or sequential model, called in inference mode."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        import tensorflow as tf

        self.model = load_model(path)
        self._names = _input_names(self.model)
        self.inputs = tuple(_spec(name, t) for name, t in zip(self._names, self.model.inputs, strict=True))
        names = _output_names(self.model)
        self.outputs = tuple(_spec(name, t) for name, t in zip(names, self.model.outputs, strict=True))
        self._call = tf.function(lambda tensors: self.model(tensors, training=False))

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        import keras
        import tensorflow as tf

        tensors = [tf.constant(feeds[name]) for name in self._names]
        structure = getattr(self.model, "_inputs_struct", None)
        packed = tensors[0] if structure is None else keras.tree.pack_sequence_as(structure, tensors)
        results = keras.tree.flatten(self._call(packed))
        return {spec.name: tensor.numpy() for spec, tensor in zip(self.outputs, results, strict=True)}


def _input_names(model: Any) -> list[str]:
    """Return the names of the inputs in Keras's flat order.

    Raises:
        Incompatible: a subclassed model, which declares no inputs.
    """
    try:
        tensors = model.inputs
    except AttributeError:
        tensors = None
    if not tensors:
        raise Incompatible(
            "The Keras model declares no inputs: it is subclassed, or was never built.",
            remedy="Submit a functional or sequential model, or model.export('folder') as a SavedModel.",
        )
    return [tensor.name for tensor in tensors]


def _output_names(model: Any) -> list[str]:
    """Return the layers' names as Keras gives them; output_0, output_1 … where two outputs share one."""
    graph = getattr(model, "_functional", None) or model
    names = list(getattr(graph, "output_names", ()))
    if len(set(names)) == len(names) == len(model.outputs):
        return names
    return [f"output_{index}" for index in range(len(model.outputs))]


def _spec(name: str, tensor: Any) -> TensorSpec:
    shape: tuple[Axis, ...] = tuple("?" if size is None else int(size) for size in tensor.shape)
    return TensorSpec(name, str(tensor.dtype), shape)


def refusals() -> tuple[type[Exception], ...]:
    import tensorflow as tf

    return tf.errors.OpError, RuntimeError, ValueError, TypeError


RUNTIME = Runtime(
    name="keras",
    accepts=(Format.KERAS, Format.KERAS_H5),
    environment="builder",
    tools=("keras", "tensorflow-cpu"),
    preload=("tensorflow", "keras"),
    deployable=False,
    load=KerasSession,
    refusals=refusals,
)
